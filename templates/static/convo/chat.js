// Shows replies as they are written, in every tab and after a lost connection. The page works without this file.

import { Refused, announce, refresh, request, showError } from "./page.js";

const composer = document.getElementById("composer");
const box = document.getElementById("message");
const file = document.getElementById("file");
const chosen = document.getElementById("chosen");
const inspector = document.getElementById("inspector");
const RETRY_AFTER_MS = 2000;
const WAIT_MESSAGE = "A reply is still being written, so nothing was sent. Wait until it ends, or stop it: your message stays here.";

let followed = null;
let atEnd = false;
let isWaitShown = false;

document.addEventListener("convo:sent", (event) => {
  const { form, data } = event.detail;
  // The agent that is selected below the message box answers, whichever form asks.
  const agent = document.getElementById("agent");
  if (agent && !data.has("agent")) data.set("agent", agent.value);
  if (!form.matches("[data-ask]")) return;
  const text = String(data.get("message")).trim();
  const names = data.getAll("file").map((file) => file.name).filter(Boolean);
  if (!(text || names.length) || refuseWhileWriting()) return event.preventDefault();
  showQuestion([text, ...names].join("\n"));
  if (form === composer) setText("");
});

// Enter was pressed twice in a row: the first message is still being sent.
document.addEventListener("convo:busy", (event) => { if (event.detail.form.matches("[data-ask]")) refuseWhileWriting(); });

document.addEventListener("convo:shown", (event) => {
  prepare();
  if (isWaitShown && !isWriting()) showError("", (isWaitShown = false));
  if (atEnd) scrollToEnd();
  if (!event.detail.form?.matches("[data-ask]")) return;
  setFiles([]);
  box?.focus();
});

document.addEventListener("convo:refused", (event) => {
  // The reason for the refusal stays on the page.
  isWaitShown = false;
  const { form, data } = event.detail;
  document.querySelector("#transcript > :not([id])")?.remove();
  if (form.matches("[data-ask]") && !box.value) setText(data.get("message"));
});

document.addEventListener("click", (event) => {
  const copyButton = event.target.closest("[data-copy]");
  if (copyButton) copy(copyButton);
  const inspectLink = event.target.closest("[data-inspect]");
  if (inspectLink && !event.ctrlKey && !event.metaKey) event.preventDefault(), inspect(inspectLink.href);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector(":popover-open")) document.querySelector(".stop")?.click();
});
box?.addEventListener("input", fitHeight);
box?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});

// Files are chosen with the button, pasted, or dropped anywhere on the page.
file?.addEventListener("change", showFiles);
chosen?.querySelector("button").addEventListener("click", () => setFiles([]));
box?.addEventListener("paste", (event) => { if (event.clipboardData.files.length) setFiles(event.clipboardData.files, event); });
addEventListener("dragover", (event) => { if (file && event.dataTransfer.types.includes("Files")) event.preventDefault(); });
addEventListener("drop", (event) => { if (file && event.dataTransfer.files.length) setFiles(event.dataTransfer.files, event); });

// The page scrolls along only if the reader is at its end.
addEventListener("scroll", () => { atEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 60; }, { passive: true });
new ResizeObserver(() => { if (atEnd && document.querySelector("[aria-busy]")) scrollToEnd(); }).observe(document.getElementById("main"));
const olderObserver = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) loadEarlier(); }, { rootMargin: "600px" });

prepare();
if (matchMedia("(pointer: fine)").matches) box?.focus({ preventScroll: true });
if (document.querySelector(".exchange") && !location.search && !location.hash) scrollToEnd();

/** Prepare a page that has just been shown. */
function prepare() {
  for (const code of document.querySelectorAll(".prose pre:not(:has([data-copy]))")) {
    code.insertAdjacentHTML("beforeend", '<button class="button quiet" type="button" data-copy data-added aria-label="Copy the code">Copy</button>');
  }
  if (box) {
    box.placeholder = document.querySelector(".exchange") ? "Go on…" : "Say something worth remembering…";
    // The longer placeholder takes two lines on a phone.
    fitHeight();
  }
  const live = document.querySelector("[data-live]");
  if (live && live !== followed) follow(live);
  olderObserver.disconnect();
  const link = document.querySelector("#older a");
  if (link) olderObserver.observe(link);
}

/** Return whether a reply is being written here, or a question is being sent. */
function isWriting() {
  return Boolean(document.querySelector("[data-live], #transcript > :not([id])"));
}

/** Explain why nothing is sent while a reply is being written; return false if none is. */
function refuseWhileWriting() {
  if (!isWriting()) return false;
  showError(WAIT_MESSAGE);
  isWaitShown = true;
  return true;
}

/** Show the question at once, before the server has received it. */
function showQuestion(text) {
  const pending = document.getElementById("pending").content.firstElementChild.cloneNode(true);
  pending.querySelector(".user-message .text").textContent = text;
  document.getElementById("transcript").append(pending);
  announce("Sent. The reply is being written.");
  scrollToEnd();
}

/** Follow the reply. The browser reconnects by itself, and the server continues after the last event it sent. */
function follow(article) {
  const words = article.querySelector(".writing");
  const source = new EventSource(article.dataset.live);
  let isDisconnected = false;
  followed = article;
  source.addEventListener("open", () => { if (isDisconnected) showError(""); isDisconnected = false; });
  source.addEventListener("turn.started", () => words.replaceChildren(""));
  // The delta is added as text, so no markup in it takes effect.
  source.addEventListener("delta", (event) => words.firstChild.appendData(JSON.parse(event.data).text));
  source.addEventListener("turn.completed", (event) => end(JSON.parse(event.data)));
  source.addEventListener("error", (event) => {
    if (event.data) return end(JSON.parse(event.data));
    if (!article.isConnected) return source.close();
    isDisconnected = true;
    showError("The connection was lost. The reply goes on, and this page follows it again as soon as it can.");
    if (source.readyState === EventSource.CLOSED) setTimeout(catchUp, RETRY_AFTER_MS);
  });

  async function end({ message, error, retry_after: seconds }) {
    source.close();
    await catchUp();
    if (!error) return announce(message?.content ?? "");
    // The page has the message for people; that of the event is for programs.
    const reason = document.getElementById(article.id)?.querySelector(".mark p")?.textContent;
    // A failed alternative leaves no trace in the transcript, which still shows the first answer.
    const failure = `No other answer could be written this time. Try again${seconds ? ` in ${Math.ceil(seconds)} seconds` : ""}.`;
    if (reason) announce(reason); else showError(failure);
  }
}

/** Refresh the page as soon as the server can be reached. */
async function catchUp() {
  followed = null;
  if (await refresh()) return;
  showError("Convo can’t be reached. This page goes on by itself when it can.");
  setTimeout(catchUp, RETRY_AFTER_MS);
}

/** Insert the earlier messages before those that are shown, without moving what the reader sees. */
async function loadEarlier() {
  const link = document.querySelector("#older a");
  olderObserver.disconnect();
  const page = new DOMParser().parseFromString(await (await request(link.href)).text(), "text/html");
  const height = document.documentElement.scrollHeight - scrollY;
  // What is being written stands at the end, which is shown already.
  for (const live of page.querySelectorAll("[data-live]")) live.remove();
  for (const part of page.querySelectorAll("#older, #transcript > *")) part.dataset.keep = "";
  document.getElementById("transcript").prepend(...page.getElementById("transcript").children);
  document.getElementById("older").replaceWith(page.getElementById("older"));
  scrollTo(0, document.documentElement.scrollHeight - height);
  prepare();
}

async function inspect(address) {
  try {
    const page = new DOMParser().parseFromString(await (await request(address)).text(), "text/html");
    document.getElementById("inspector-shows").replaceChildren(page.getElementById("inspected"));
    // The panel is already open if somebody moved on to another reply with the keyboard.
    if (!inspector.matches(":popover-open")) {
      inspector.showPopover();
      // The attribute `autofocus` won't do: browsers apply it when the page loads, and warn.
      inspector.focus();
    }
    inspector.scrollTop = 0;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    showError(error.message);
  }
}

/** Copy the Markdown of a reply, or the code block that the button is in. */
async function copy(button) {
  const text = button.dataset.copy || button.closest("pre").querySelector("code").textContent;
  if (!(await toClipboard(text))) return showError("The browser does not let this page copy. Select the text and copy it by hand.");
  button.classList.add("done");
  // The text is emptied first, so that screen readers announce the same word again.
  announce("");
  requestAnimationFrame(() => announce("Copied"));
  setTimeout(() => button.classList.remove("done"), RETRY_AFTER_MS);
}

/** Copy text to the clipboard; return false if the browser forbids it. Plain HTTP has no `navigator.clipboard`. */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const before = document.activeElement;
    const field = document.createElement("textarea");
    field.className = "unseen";
    field.value = text;
    document.body.append(field);
    field.focus({ preventScroll: true });
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    before?.focus({ preventScroll: true });
    return isCopied;
  }
}

function setFiles(files, event) {
  event?.preventDefault();
  const transfer = new DataTransfer();
  for (const chosenFile of files) transfer.items.add(chosenFile);
  file.files = transfer.files;
  showFiles();
}

function showFiles() {
  const names = [...file.files].map((file) => file.name);
  chosen.hidden = !names.length;
  chosen.querySelector("span").textContent = names.join(", ");
  box.required = !names.length;
}

function setText(text) {
  box.value = text;
  fitHeight();
}

function fitHeight() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

function scrollToEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
  atEnd = true;
}
