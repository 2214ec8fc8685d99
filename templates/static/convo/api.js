"use strict";
// The forms of the browsable API: sent with their method, as fields or as JSON; the response replaces the page.

document.documentElement.classList.add("scripted");
const one = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-method]");
  if (!form) return;
  event.preventDefault();
  form.dataset.method === "GET" ? location.assign(addressOf(form)) : send(form);
});

function addressOf(form) {
  const values = [...new FormData(form)].filter(([, value]) => value !== "");
  return `${location.pathname}?${new URLSearchParams(values)}`;
}

async function send(form) {
  const button = one("button", form);
  button.disabled = true;
  showErrors(form, []);
  try {
    const answer = await fetch(form.action, {
      method: form.dataset.method,
      body: bodyOf(form),
      headers: {
        Accept: "text/html, */*;q=0.1",
        "X-CSRFToken": one("#page [name=csrfmiddlewaretoken]").value,
        ...(one("[data-raw]", form) && { "Content-Type": "application/json" }),
      },
    });
    await show(answer, form);
  } catch {
    showErrors(form, [["", "The server cannot be reached. What you wrote is still here; try again."]]);
  } finally {
    button.disabled = false;
  }
}

function bodyOf(form) {
  if (form.dataset.method === "DELETE") return undefined;
  const raw = one("[data-raw]", form);
  if (raw) return raw.value;
  if (form.dataset.method !== "PATCH") return new FormData(form);
  // Unchanged fields are left out.
  const body = new FormData();
  for (const control of all("[name]", form).filter(isChanged)) {
    body.append(control.name, control.type === "checkbox" ? control.checked : control.value);
  }
  return body;
}

function isChanged(control) {
  if (control.type === "checkbox") return control.checked !== control.defaultChecked;
  if (control.tagName !== "SELECT") return control.value !== control.defaultValue;
  return control.value !== (all("option", control).find((option) => option.defaultSelected)?.value ?? "");
}

async function show(answer, form) {
  const type = answer.headers.get("Content-Type") ?? "";
  if (!type.startsWith("text/html")) return write(answer);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (one("#page .status.refused", page)) {
    const messages = all(`#${form.id} [data-error]`, page).map((place) => [place.dataset.error, place.textContent]);
    const [first] = all(`[id="${form.dataset.method}-form"] [data-error]`, page).filter((place) => place.textContent);
    showErrors(form, one("[data-raw]", form) ? [["", first?.textContent ?? ""]] : messages);
    one("#answer").replaceWith(one("#answer", page));
  } else {
    one("#page").replaceWith(one("#page", page));
    one("#answer").focus();
  }
}

function showErrors(form, errors) {
  const messages = new Map(errors);
  for (const place of all("[data-error]", form)) {
    place.textContent = messages.get(place.dataset.error) ?? "";
    one(`[aria-describedby~="${CSS.escape(place.id)}"]`, form)?.toggleAttribute("aria-invalid", place.textContent !== "");
  }
}

// Responses other than HTML are shown as text, and events as they arrive.
async function write(answer) {
  const shown = document.createElement("pre");
  one("#answer").replaceChildren(shown);
  one("#answer").focus();
  for (const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    shown.append(value);
  }
}
