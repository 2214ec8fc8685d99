// What an application does with the AI SDK of Node: `node - CASE` prints what came of it, as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const sent = [];
const provider = createOpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.KEY,
  fetch(url, options) {
    if (options.body) sent.push(JSON.parse(options.body));
    return fetch(url, options);
  },
});
const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const common = { model: provider("weather"), tools: { weather }, stopWhen: stepCountIs(5), maxRetries: 0 };
const QUESTIONS = ["Weather in Paris, then Rome?", "Thanks."];

async function asked(options, streamed) {
  if (!streamed) {
    const { text, response, providerMetadata, finishReason } = await generateText({ ...common, ...options });
    return { text, messages: response.messages, id: providerMetadata.openai?.responseId, finishReason };
  }
  const stream = streamText({ ...common, ...options });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  const [response, metadata] = await Promise.all([stream.response, stream.providerMetadata]);
  return { text, messages: response.messages, id: metadata.openai?.responseId, finishReason: await stream.finishReason };
}

const kinds = () => sent.at(-1).input?.map((item) => item.type ?? item.role);

// The application keeps the messages, as all of the AI SDK's own examples do.
async function kept(options, streamed) {
  const messages = [];
  const texts = [];
  for (const question of QUESTIONS) {
    messages.push({ role: "user", content: question });
    const answer = await asked({ messages, ...options }, streamed);
    messages.push(...answer.messages);
    texts.push(answer.text);
  }
  return { texts, kinds: kinds() };
}

// Convo keeps them: each question goes to the same conversation.
async function conversation(streamed) {
  const made = await fetch(`${process.env.BASE_URL}/conversations`, {
    method: "POST",
    headers: { Authorization: `Bearer ${process.env.KEY}` },
  });
  const providerOptions = { openai: { conversation: (await made.json()).id } };
  const texts = [];
  for (const prompt of QUESTIONS) texts.push((await asked({ prompt, providerOptions }, streamed)).text);
  return { texts, kinds: kinds() };
}

// Each question goes on from the response before.
async function previous(streamed) {
  const texts = [];
  let id;
  for (const prompt of QUESTIONS) {
    const options = id ? { providerOptions: { openai: { previousResponseId: id } } } : {};
    const answer = await asked({ prompt, ...options }, streamed);
    texts.push(answer.text);
    ({ id } = answer);
  }
  return { texts, kinds: kinds() };
}

const unstored = { providerOptions: { openai: { store: false } } };
const cases = {
  references: (streamed) => kept({}, streamed),
  unstored: (streamed) => kept(unstored, streamed),
  completions: (streamed) => kept({ model: provider.chat("weather") }, streamed),
  conversation,
  previous,

  async refused() {
    const error = await generateText({ ...common, model: provider("agent/nobody"), prompt: "Hi." }).catch((error) => error);
    return [error.statusCode, error.isRetryable, error.data.error.code];
  },

  async broken() {
    let failure = null;
    const stream = streamText({ ...common, model: provider("silent-end"), prompt: "Hi.", onError: ({ error }) => (failure = error) });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    return { text, finishReason: await stream.finishReason, failed: failure !== null };
  },
};

const [name, way] = process.argv.slice(2);
console.log(JSON.stringify(await cases[name](way === "streamed")));
