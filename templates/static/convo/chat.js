// Words as they are written. Without this file the page works too: the form is posted, and the reply comes whole.
"use strict";

const composer = document.getElementById("composer");
const box = document.getElementById("message");
const transcript = document.getElementById("transcript");
const problem = document.getElementById("problem");
const news = document.getElementById("news");

/** What went wrong before the turn began: nothing was stored, so the text goes back into the box. */
class Refused extends Error {}

let busy = false;
let following = true;

document.documentElement.classList.add("scripted");

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-ask]")) return;
  event.preventDefault();
  if (!busy) ask(event.target, event.submitter);
});

box?.addEventListener("input", fit);
box?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});

// Scroll along only for a reader who is at the end anyway.
addEventListener("scroll", () => { following = nearEnd(); }, { passive: true });
new ResizeObserver(() => { if (busy && following) toEnd(); }).observe(transcript);

// What opens near the message box comes out from under it.
document.addEventListener("toggle", (event) => {
  if (event.target.matches("details[open]")) event.target.scrollIntoView({ block: "nearest" });
}, true);

if (box) fit();
if (matchMedia("(pointer: fine)").matches) box?.focus({ preventScroll: true });
if (transcript.childElementCount && !location.search && !location.hash) toEnd();

/** Ask what the form holds, show the reply as it comes, and let the server render what came of it. */
async function ask(form, submitter) {
  const data = new FormData(form, submitter);
  const text = String(data.get("message")).trim();
  if (!text) return;
  complain("");
  work(true);
  if (form === composer) say("");
  const pending = open(text);
  try {
    const ending = await converse(form.action, data, pending);
    await settle(pending, ending);
  } catch (error) {
    if (error instanceof Refused) {
      pending.remove();
      if (!box.value) say(text);
    }
    complain(error.message);
  } finally {
    pending.removeAttribute("aria-busy");
    pending.querySelector(".writing")?.classList.remove("writing");
    work(false);
    box.focus();
  }
}

/** Send the message and write the deltas into the pending reply; returns the last event. */
async function converse(address, data, pending) {
  const response = await send(address, data);
  const reply = pending.querySelector(".writing");
  let number = 0;
  for await (const [event, told] of untilBroken(events(response))) {
    if (event === "turn.started") {
      number = told.turn.number;
      if (response.headers.has("Content-Location")) moveTo(response.headers.get("Content-Location"));
    }
    if (event === "delta") write(reply, told.text);
    if (event === "turn.completed" || event === "error") return { event, told, number };
  }
  throw new Error("The connection broke before the reply was complete. Reload the page to see how it went on.");
}

async function send(address, data) {
  let response;
  try {
    response = await fetch(address, { method: "POST", body: data, headers: { Accept: "text/event-stream" } });
  } catch {
    throw new Refused("Convo can’t be reached. Your message is back in the box.");
  }
  const token = response.headers.get("X-CSRFToken");
  if (token) for (const field of document.getElementsByName("csrfmiddlewaretoken")) field.value = token;
  if (response.ok && response.headers.get("Content-Type")?.startsWith("text/event-stream")) return response;
  const told = await response.json().catch(() => null);
  throw new Refused(told?.error?.message ?? "This page is out of date. Reload it and send your message again.");
}

/** The server-sent events of a response, as [event, data]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const fields = new Map(frame.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.has("data")) yield [fields.get("event"), JSON.parse(fields.get("data"))];
    }
  }
}

/** The same events; a connection that breaks ends them. */
async function* untilBroken(source) {
  try {
    yield* source;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}

function open(text) {
  const pending = document.getElementById("pending").content.firstElementChild.cloneNode(true);
  pending.querySelector(".asked .text").textContent = text;
  transcript.append(pending);
  document.getElementById("follow-up").replaceChildren();
  news.textContent = "Sent. The reply is being written.";
  toEnd();
  return pending;
}

/** Text only, whatever the model wrote. */
function write(reply, text) {
  if (!reply.firstChild) reply.append("");
  reply.firstChild.appendData(text);
}

/** Put what the server has made of the turn in the place of what was shown meanwhile. */
async function settle(pending, { event, told, number }) {
  news.textContent = event === "error" ? told.error.message : told.message?.content ?? "";
  const answer = await fetch(location.pathname).catch(() => null);
  if (!answer?.ok) {
    if (event === "error") throw new Error(told.error.message);
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const turn = fresh.getElementById(`turn-${number}`);
  document.getElementById("welcome")?.remove();
  if (turn) pending.replaceWith(turn);
  else throw new Error(told.error?.message ?? "This reply is no longer in the conversation.");
  for (const id of ["conversations", "visitor", "heading", "follow-up"]) {
    document.getElementById(id).replaceWith(fresh.getElementById(id));
  }
  box.placeholder = fresh.getElementById("message")?.placeholder ?? "";
  document.title = fresh.title;
}

/** A new conversation has an address of its own from its first turn on. */
function moveTo(address) {
  history.replaceState(null, "", address);
  for (const form of document.querySelectorAll("[data-ask]")) form.action = address;
}

function work(on) {
  busy = on;
  for (const button of document.querySelectorAll("[data-ask] button")) button.disabled = on;
}

/** Say what went wrong; where there is something to send, offer to try again. */
function complain(message) {
  problem.hidden = !message;
  problem.querySelector("p").textContent = message;
  problem.querySelector("button").hidden = !box.value;
}

function say(text) {
  box.value = text;
  fit();
}

function fit() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

function nearEnd() {
  return innerHeight + scrollY > document.documentElement.scrollHeight - 60;
}

function toEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
  following = true;
}
