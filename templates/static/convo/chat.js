// Words as they are written, from any tab and after every break. The page works without this file too.

import { Refused, ask, complain, refresh, say } from "./page.js";

const composer = document.getElementById("composer");
const box = document.getElementById("message");
const file = document.getElementById("file");
const chosen = document.getElementById("chosen");
const inspector = document.getElementById("inspector");
const AGAIN = 2000;

let followed = null;
let atEnd = false;

document.addEventListener("convo:sent", (event) => {
  const { form, data } = event.detail;
  if (!form.matches("[data-ask]")) return;
  const text = String(data.get("message")).trim();
  const names = data.getAll("file").map((one) => one.name).filter(Boolean);
  // The box keeps what is typed meanwhile.
  if (!(text || names.length) || document.querySelector("[data-live]")) return event.preventDefault();
  begin([text, ...names].join("\n"));
  if (form === composer) write("");
});

document.addEventListener("convo:shown", (event) => {
  shown();
  if (atEnd) toEnd();
  if (!event.detail.form?.matches("[data-ask]")) return;
  give([]);
  box?.focus();
});

document.addEventListener("convo:refused", (event) => {
  const { form, data } = event.detail;
  document.querySelector("#transcript > :not([id])")?.remove();
  if (form.matches("[data-ask]") && !box.value) write(data.get("message"));
});

document.addEventListener("click", (event) => {
  const copied = event.target.closest("[data-copy]");
  if (copied) copy(copied);
  const account = event.target.closest("[data-inspect]");
  if (account && !event.ctrlKey && !event.metaKey) event.preventDefault(), inspect(account.href);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector(":popover-open")) document.querySelector(".stop")?.click();
});
box?.addEventListener("input", fit);
box?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});

// Files come by the button, from the clipboard, or dropped anywhere on the page.
file?.addEventListener("change", choose);
chosen?.querySelector("button").addEventListener("click", () => give([]));
box?.addEventListener("paste", (event) => { if (event.clipboardData.files.length) give(event.clipboardData.files, event); });
addEventListener("dragover", (event) => { if (file && event.dataTransfer.types.includes("Files")) event.preventDefault(); });
addEventListener("drop", (event) => { if (file && event.dataTransfer.files.length) give(event.dataTransfer.files, event); });

// Scroll along only for a reader who is at the end anyway.
addEventListener("scroll", () => { atEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 60; }, { passive: true });
new ResizeObserver(() => { if (atEnd && document.querySelector("[aria-busy]")) toEnd(); }).observe(document.getElementById("main"));
const older = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) earlier(); }, { rootMargin: "600px" });

shown();
if (box) fit();
if (matchMedia("(pointer: fine)").matches) box?.focus({ preventScroll: true });
if (document.querySelector(".exchange") && !location.search && !location.hash) toEnd();

/** What every page needs that has just been shown. */
function shown() {
  for (const code of document.querySelectorAll(".prose pre:not(:has([data-copy]))")) {
    code.insertAdjacentHTML("beforeend", '<button class="button quiet" type="button" data-copy data-added>Copy</button>');
  }
  if (box) box.placeholder = document.querySelector(".exchange") ? "Go on…" : "Say something worth remembering…";
  const live = document.querySelector("[data-live]");
  if (live && live !== followed) follow(live);
  older.disconnect();
  const link = document.querySelector("#older a");
  if (link) older.observe(link);
}

/** Show the question at once, before the server has heard it. */
function begin(text) {
  const pending = document.getElementById("pending").content.firstElementChild.cloneNode(true);
  pending.querySelector(".asked .text").textContent = text;
  document.getElementById("transcript").append(pending);
  say("Sent. The reply is being written.");
  toEnd();
}

/** Read along. The browser connects again by itself, and the server goes on where the connection broke. */
function follow(article) {
  const words = article.querySelector(".writing");
  const source = new EventSource(article.dataset.live);
  let broke = false;
  followed = article;
  source.addEventListener("open", () => { if (broke) complain(""); broke = false; });
  source.addEventListener("turn.started", () => words.replaceChildren(""));
  // Text only, whatever the model wrote.
  source.addEventListener("delta", (event) => words.firstChild.appendData(JSON.parse(event.data).text));
  source.addEventListener("turn.completed", (event) => end(JSON.parse(event.data)));
  source.addEventListener("error", (event) => {
    if (event.data) return end(JSON.parse(event.data));
    if (!article.isConnected) return source.close();
    broke = true;
    complain("The connection broke. The reply goes on, and so does this page as soon as it can.");
    if (source.readyState === EventSource.CLOSED) setTimeout(catchUp, AGAIN);
  });

  async function end({ message, error }) {
    source.close();
    await catchUp();
    say(error?.message ?? message?.content ?? "");
    // A failed second answer leaves the first one standing, and no trace in the transcript.
    if (error && !document.getElementById(article.id)) complain(error.message);
  }
}

/** Show how things stand, as soon as the server can be reached. */
async function catchUp() {
  followed = null;
  if (await refresh()) return;
  complain("Convo can’t be reached. This page goes on by itself when it can.");
  setTimeout(catchUp, AGAIN);
}

/** Put what was said before in front of what is shown, and leave the reader where they are. */
async function earlier() {
  const link = document.querySelector("#older a");
  older.disconnect();
  const page = new DOMParser().parseFromString(await (await ask(link.href)).text(), "text/html");
  const height = document.documentElement.scrollHeight - scrollY;
  for (const part of page.querySelectorAll("#older, #transcript > *")) part.dataset.kept = "";
  document.getElementById("transcript").prepend(...page.getElementById("transcript").children);
  document.getElementById("older").replaceWith(page.getElementById("older"));
  scrollTo(0, document.documentElement.scrollHeight - height);
  shown();
}

async function inspect(address) {
  try {
    const page = new DOMParser().parseFromString(await (await ask(address)).text(), "text/html");
    document.getElementById("inspector-shows").replaceChildren(page.getElementById("inspected"));
    inspector.showPopover();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error.message);
  }
}

async function copy(button) {
  const from = button.closest("pre") ?? button.closest(".exchange").querySelector(".said:last-of-type .text");
  await navigator.clipboard.writeText((from.querySelector("code") ?? from).innerText);
  button.classList.add("done");
  say("Copied.");
  setTimeout(() => button.classList.remove("done"), AGAIN);
}

function give(files, event) {
  event?.preventDefault();
  const held = new DataTransfer();
  for (const one of files) held.items.add(one);
  file.files = held.files;
  choose();
}

function choose() {
  const names = [...file.files].map((one) => one.name);
  chosen.hidden = !names.length;
  chosen.querySelector("span").textContent = names.join(", ");
  box.required = !names.length;
}

function write(text) {
  box.value = text;
  fit();
}

function fit() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

function toEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
  atEnd = true;
}
