// What an application does with the `openai` client of Node: `node - CASE` prints what came of it, as JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0 });
const model = "weather";
const tools = [
  {
    type: "function",
    name: "weather",
    description: "The weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    strict: false,
  },
];

const outputs = (response) =>
  response.output
    .filter((item) => item.type === "function_call")
    .map(({ call_id, arguments: given }) => ({
      type: "function_call_output",
      call_id,
      output: `sunny in ${JSON.parse(given).city}`,
    }));

// Ask until no tool is called any more; `carry` says with which fields the next request goes on.
async function answered(input, fields, carry) {
  for (;;) {
    const response = await client.responses.create({ model, tools, input, ...fields });
    const found = outputs(response);
    if (!found.length) return response;
    [input, fields] = carry(response, found);
  }
}

const cases = {
  async text() {
    const response = await client.responses.create({ model, input: "Hello.", instructions: "Be brief." });
    const again = await client.responses.retrieve(response.id);
    const inputs = await client.responses.inputItems.list(response.id);
    const asked = inputs.data.map((item) => item.content[0].text);
    await client.responses.delete(response.id);
    const gone = await client.responses.retrieve(response.id).catch((error) => error);
    return {
      text: response.output_text,
      same: JSON.stringify(again.output) === JSON.stringify(response.output),
      asked,
      gone: [gone.constructor.name, gone.status, gone.type, Boolean(gone.requestID)],
    };
  },

  async stream() {
    const stream = client.responses.stream({ model, input: "Hello.", instructions: "Be brief." });
    const types = [];
    for await (const event of stream) types.push(event.type);
    const response = await stream.finalResponse();
    return { types, text: response.output_text, status: response.status, tokens: response.usage.total_tokens };
  },

  async calls() {
    const stream = client.responses.stream({ model, tools, input: "Weather in Paris and Rome?" });
    const pieces = {};
    for await (const event of stream)
      if (event.type === "response.function_call_arguments.delta")
        pieces[event.item_id] = (pieces[event.item_id] ?? "") + event.delta;
    const { output } = await stream.finalResponse();
    return { names: output.map((item) => item.name), pieces: Object.values(pieces), given: output.map((item) => item.arguments) };
  },

  // A stream that was left is heard to its end from where it stopped: from 3, and from its very beginning.
  async resume() {
    const first = await client.responses.create({ model: "slow-30", input: "Go.", background: true, stream: true });
    let id, last;
    for await (const event of first) {
      id ??= event.response.id;
      last = event.sequence_number;
      if (last === 4) break;
    }
    const heard = async (after) => {
      const numbers = [];
      let text = "";
      for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: after })) {
        numbers.push(event.sequence_number);
        if (event.type === "response.output_text.delta") text += event.delta;
      }
      return { numbers, text };
    };
    const live = await heard(last);
    return { last, live, ended: await heard(last), all: await heard(undefined) };
  },

  async cancel() {
    const { id } = await client.responses.create({ model: "endless-20", input: "Go.", background: true });
    const { status } = await client.responses.cancel(id);
    return { status, after: (await client.responses.retrieve(id)).status };
  },

  async conversation() {
    const { id } = await client.conversations.create({ items: [{ role: "user", content: "Before." }], metadata: { topic: "sky" } });
    await client.conversations.items.create(id, { items: [{ role: "assistant", content: "Yes." }] });
    const carry = (_, found) => [found, { conversation: id }];
    await answered("Weather in Paris, then Rome?", { conversation: id }, carry);
    const last = await answered("Thanks.", { conversation: id }, carry);
    const items = [];
    for await (const item of client.conversations.items.list(id, { order: "asc", limit: 2 })) items.push(item.type);
    return { text: last.output_text, conversation: last.conversation.id === id, items };
  },

  async previous() {
    const carry = (response, found) => [found, { previous_response_id: response.id }];
    const first = await answered("Weather in Paris, then Rome?", {}, carry);
    const last = await answered("Thanks.", { previous_response_id: first.id }, carry);
    const other = await answered("Another end.", { previous_response_id: first.id }, carry);
    return { text: last.output_text, other: other.output_text, conversation: last.conversation ?? null };
  },

  // Everything by hand: what the server answered goes back as input, with its ids.
  async replay() {
    const input = [{ role: "user", content: "Weather in Paris, then Rome?" }];
    const carry = (response, found) => {
      input.push(...response.output, ...found);
      return [input, {}];
    };
    const first = await answered(input, {}, carry);
    input.push(...first.output, { role: "user", content: "Thanks." });
    return { text: (await answered(input, {}, carry)).output_text };
  },

  async completions() {
    const messages = [{ role: "user", content: "Hello." }];
    const whole = await client.chat.completions.create({ model, messages });
    let text = "";
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    return { whole: whole.choices[0].message.content, text };
  },

  async others() {
    const models = [];
    for await (const one of client.models.list()) models.push(one.id);
    const { data } = await client.embeddings.create({ model: "any", input: ["rain", "sun"] });
    return { models, lengths: data.map(({ embedding }) => embedding.length) };
  },

  async refused() {
    const refusals = [
      () => client.responses.create({ model, input: "Hi.", previous_response_id: "resp_0" }),
      () => client.responses.create({ model, input: "Hi.", conversation: "conv_0" }),
      () => client.responses.create({ model, input: [{ role: "robot", content: "Hi." }] }),
      () => client.withOptions({ apiKey: "no" }).models.list(),
    ];
    const told = [];
    for (const refusal of refusals) {
      const error = await refusal().catch((error) => error);
      told.push([error.constructor.name, error.status, error.code, error.param]);
    }
    return told;
  },
};

console.log(JSON.stringify(await cases[process.argv[2]]()));
