// Keeps the page up to date, and sends what its buttons mean. Whatever it shows is made by the server.
"use strict";

const connection = document.getElementById("connection");

// Exchanges the parts of the page that differ from a fresh one.
async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const shown of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(shown.id);
    if (!next) continue;
    for (const details of shown.querySelectorAll("details[open]")) {
      const same = next.querySelector(`#${details.id}`);
      if (same) same.open = true;
    }
    if (shown.innerHTML === next.innerHTML) continue;
    // The keyboard stays where it is.
    const focused = shown.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    shown.replaceChildren(...next.childNodes);
    if (focused) [...shown.querySelectorAll("a, button, summary")].find((e) => nameOf(e) === focused)?.focus();
  }
  tick();
}

function nameOf(element) {
  return [element.tagName, element.getAttribute("href"), element.dataset.action, element.textContent].join(" ");
}

// At most one request runs, and at most one waits.
let running = false;
let waiting = false;
async function refreshSoon() {
  if (running) {
    waiting = true;
    return;
  }
  running = true;
  do {
    waiting = false;
    try {
      await refresh();
    } catch {
      // The stream of events says whether the service answers.
    }
    await new Promise((done) => setTimeout(done, 500));
  } while (waiting);
  running = false;
}

function follow() {
  const events = new EventSource("/api/events");
  events.onopen = () => say("live");
  events.onerror = () => say("not connected");
  for (const kind of ["job", "event", "missed"]) events.addEventListener(kind, refreshSoon);
}

function say(state) {
  connection.textContent = state;
  connection.className = state === "live" ? "live" : "lost";
}

// Counts on how long ago something was.
function tick() {
  for (const time of document.querySelectorAll("time[data-ms]")) {
    const passed = Math.floor((Date.now() - Number(time.dataset.ms)) / 1000);
    if (passed >= 1 && passed < 60) time.textContent = `${passed} s ago`;
  }
}

// Sends an action with the token, which it asks for where it has none that the service takes.
async function act(path) {
  let token = sessionStorage.getItem("token");
  let refusal = "";
  for (;;) {
    token ??= await askForToken(refusal);
    if (token === null) return;
    const answer = await fetch(path, { method: "POST", headers: { authorization: `Bearer ${token}` } });
    if (answer.status === 401) {
      sessionStorage.removeItem("token");
      token = null;
      refusal = "That is not the token.";
      continue;
    }
    sessionStorage.setItem("token", token);
    if (!answer.ok) alert((await answer.json()).error);
    return refreshSoon();
  }
}

function askForToken(refusal) {
  const dialog = document.getElementById("credential");
  const input = dialog.querySelector("input");
  const said = dialog.querySelector("[role=alert]");
  input.value = "";
  said.textContent = refusal;
  said.hidden = !refusal;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "send" && input.value ? input.value : null), { once: true });
  });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button) act(button.dataset.action);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.closest("textarea")?.form.requestSubmit();
});
if (document.querySelector("[data-live]")) follow();
setInterval(tick, 1000);
