// Every form works without this file: it is posted, and a page comes back. This file only avoids the reload:
// it merges the page that comes back into the one that is shown.

/** An error that occurred before anything was stored. */
export class Refused extends Error {}

let busy = false;
const otherTabs = new BroadcastChannel("convo");

document.documentElement.classList.add("scripted");

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-swap]")) return;
  event.preventDefault();
  submit(event.target, event.submitter);
});

// Details that open near the message box are scrolled out from under it.
document.addEventListener("toggle", (event) => {
  if (event.target.matches("details[open]:not(.parts *)")) event.target.scrollIntoView({ block: "nearest" });
}, true);

document.addEventListener("keydown", (event) => {
  const writes = event.target.matches("input, textarea, select");
  if (event.key !== "/" || writes || event.ctrlKey || event.metaKey || event.altKey) return;
  const find = document.getElementById("find");
  if (!find) return;
  event.preventDefault();
  document.querySelector("#sidebar:popover-open") ?? (find.checkVisibility() || document.getElementById("sidebar").showPopover());
  find.focus();
});

// The page refreshes when another tab has changed something, the network is back, or the reader returns.
otherTabs.addEventListener("message", (event) => { if (event.data === location.pathname) refresh(); });
addEventListener("online", refresh);
addEventListener("popstate", () => location.reload());
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

/** Submit the form. Dispatches `convo:sent`, then `convo:shown` or `convo:refused`; or `convo:busy` while another form is being sent. */
async function submit(form, submitter) {
  if (busy) return dispatch("convo:busy", { form });
  const data = new FormData(form, submitter);
  const address = submitter?.getAttribute("formaction") || form.getAttribute("action") || location.href;
  announce("");
  if (!dispatch("convo:sent", { form, data })) return;
  busy = true;
  showError("");
  try {
    const response = await request(address, { method: "POST", body: data });
    const isHere = new URL(response.url).pathname === location.pathname;
    if (!merge(await response.text(), isHere)) return location.assign(response.url);
    showAddress(response.url);
    restoreFocus(address);
    otherTabs.postMessage(location.pathname);
    if ("reset" in form.dataset) form.reset();
    dispatch("convo:shown", { form });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    showRefusal(form, data, error.message);
  } finally {
    busy = false;
  }
}

/** Show the error, and refresh the page: a change made meanwhile may be the reason. */
async function showRefusal(form, data, message) {
  dispatch("convo:refused", { form, data });
  for (const old of document.querySelectorAll("#notices .notice")) old.remove();
  announce("");
  showError(message);
  await null;
  refresh();
}

/** Show the page as it is now; return false if the server can't be reached. */
export async function refresh() {
  if (busy) return true;
  try {
    const response = await request(location.pathname + location.search);
    const html = await response.text();
    if (!busy && merge(html, true, true)) dispatch("convo:shown", {});
    return true;
  } catch {
    return false;
  }
}

/** Return the server's response, or throw Refused with its message. */
export async function request(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { ...options, headers: { "X-Convo-Page": "1" } });
  } catch {
    throw new Refused("Convo can’t be reached. Nothing is lost; try again in a moment.");
  }
  const token = response.headers.get("X-CSRFToken");
  if (token) renewTokens(token);
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new Refused(answer?.error?.message ?? "This page is out of date. Reload it and try again.");
}

/** Replace the shown parts by those of this page; return false if it has other parts. */
function merge(html, isHere, inBackground = false) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const [parts, next] = [document, fresh].map((page) => [...page.querySelectorAll("[data-part]")]);
  if (String(parts.map((part) => part.id)) !== String(next.map((part) => part.id))) return false;
  // A cleared transcript also removes the earlier messages that were fetched while scrolling.
  if (!fresh.querySelector("[data-rows] > *")) isHere = false;
  // The actions are read before the parts, and the forms in them, move into this document.
  const actions = [...fresh.querySelectorAll("form[id]")].map((form) => [form.id, form.getAttribute("action")]);
  parts.forEach((part, index) => {
    if ("rows" in part.dataset) return mergeRows(part, next[index], isHere, inBackground);
    const stays = (isHere && "keep" in part.dataset) || (inBackground && isTyped(part));
    if (!stays && comparableHtml(part) !== comparableHtml(next[index])) part.replaceWith(next[index]);
  });
  for (const [id, action] of actions) if (action !== null) document.getElementById(id)?.setAttribute("action", action);
  renewTokens(fresh.querySelector("[name=csrfmiddlewaretoken]")?.value);
  document.title = fresh.title;
  const news = fresh.querySelector("[data-news]");
  if (news) announce(news.textContent);
  return true;
}

/** Replace a part row by row, so that unchanged rows keep their place, their focus and their open details. */
function mergeRows(part, next, isHere, inBackground) {
  const shown = new Map([...part.children].map((row) => [row.id, row]));
  const rows = [...next.children].map((row) => {
    const old = shown.get(row.id);
    return old && ((inBackground && isTyped(old)) || comparableHtml(old) === comparableHtml(row)) ? old : row;
  });
  const earlierRows = [...part.children].filter((row) => isHere && "keep" in row.dataset && !next.querySelector(`#${row.id}`));
  part.replaceChildren(...earlierRows, ...rows);
}

/** Return whether a field in this part holds text that was not sent yet. */
function isTyped(part) {
  const fields = part.querySelectorAll("textarea, input:not([type=hidden])");
  return [...fields].some((field) => field.value !== field.defaultValue);
}

/** Return the element's HTML without what differs at every rendering or was changed by scripts. */
function comparableHtml(element) {
  const copy = element.cloneNode(true);
  for (const added of copy.querySelectorAll("[data-added]")) added.remove();
  for (const details of copy.querySelectorAll("details[open]")) details.open = false;
  copy.removeAttribute("data-keep");
  return copy.outerHTML.replace(/ value="\w{64}"/g, "");
}

function renewTokens(token) {
  if (token) for (const field of document.getElementsByName("csrfmiddlewaretoken")) field.value = token;
}

function showAddress(address) {
  const { pathname, search, hash } = new URL(address);
  if (pathname + search !== location.pathname + location.search) history.pushState(null, "", pathname + search + hash);
}

/** If the pressed button is gone, focus the one that replaced it. */
function restoreFocus(address) {
  if (document.activeElement !== document.body) return;
  (document.querySelector(`[formaction="${CSS.escape(address)}"]`) ?? document.getElementById("main")).focus({ preventScroll: true });
}

/** Show an error; if there is something to send, offer to try again. */
export function showError(message) {
  const problem = document.getElementById("problem");
  const again = problem.querySelector("button");
  problem.hidden = !message;
  problem.querySelector("p").textContent = message;
  if (again) again.hidden = !document.getElementById("message").value;
}

export function announce(text) {
  document.getElementById("news").textContent = text;
}

function dispatch(name, detail) {
  return document.dispatchEvent(new CustomEvent(name, { detail, cancelable: true }));
}
