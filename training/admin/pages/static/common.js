// What every page does: calls to the API, rows that open, and the keyboard of lists.

const csrf = document.body.dataset.csrf;

// Ask the API; return what it answers, or throw its sentence.
export async function call(method, url, body = null) {
  const headers = {Accept: "application/json"};
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  const form = body instanceof FormData;
  if (body !== null && !form) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(url, {method, headers, body: body === null || form ? body : JSON.stringify(body)});
  } catch {
    throw new Error("The server did not answer; nothing was changed.");
  }
  const json = answer.status !== 204 && (answer.headers.get("content-type") || "").includes("json");
  const said = json ? await answer.json() : null;
  if (!answer.ok) {
    const more = (said?.errors || []).map((error) => `${error.where}: ${error.message}`).join("; ");
    throw new Error([said?.detail || `The server refused (status ${answer.status}).`, more].filter(Boolean).join(" "));
  }
  return said;
}

export function tell(words, kind = "wrong") {
  let box = document.getElementById("message");
  if (!box) {
    box = document.createElement("div");
    box.id = "message";
    box.setAttribute("role", "status");
    document.getElementById("content").prepend(box);
  }
  box.className = `message ${kind}`;
  box.textContent = words;
  box.scrollIntoView({block: "nearest"});
}

// What waits for this reader, asked anew when it is older than this or something was changed.
const FRESH = 20000;
const waiting = document.getElementById("waiting");
const WHERE = {"run-done": "/training", "run-failed": "/training", "shadow": "/models", "withdrawn": "/models",
  "refused": "/models", "quarantined": "/?state=QUARANTINED", "failed": "/?state=FAILED"};

async function noticed() {
  const name = `waiting ${waiting.dataset.user}`;
  let kept = JSON.parse(sessionStorage.getItem(name) || "null");
  if (!kept || Date.now() - kept.at > FRESH) {
    kept = {at: Date.now(), notices: await call("GET", "/api/v1/notices")};
    sessionStorage.setItem(name, JSON.stringify(kept));
  }
  waiting.classList.toggle("hidden", !kept.notices.length);
  waiting.querySelector("b").textContent = kept.notices.length;
  waiting.querySelector("ul").replaceChildren(...kept.notices.map(({kind, sentence}) => {
    const item = document.createElement("li");
    const href = WHERE[kind] || "/system";
    const opens = document.querySelector(`.top nav a[href="${href.split("?")[0]}"]`);
    const words = document.createElement(opens ? "a" : "span");
    if (opens) words.href = href;
    words.textContent = sentence;
    item.append(words);
    return item;
  }));
}

if (waiting) noticed().catch(() => { /* the page says what it is for without it */ });

// A button that asks the API: data-call="POST /api/v1/…", data-confirm, data-ask, data-then.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-call]");
  if (button) {
    const [method, url] = button.dataset.call.split(" ");
    const body = button.dataset.body ? JSON.parse(button.dataset.body) : {};
    if (button.dataset.ask) {
      const answer = window.prompt(button.dataset.ask);
      if (!answer) return;
      body[button.dataset.askFor || "reason"] = answer;
    } else if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
    button.disabled = true;
    sessionStorage.clear();
    try {
      const said = await call(method, url, method === "DELETE" ? null : body);
      if (button.dataset.say) {
        tell(said[button.dataset.say], said.ok === false ? "wrong" : "fine");
        button.disabled = false;
      } else if (button.dataset.then) window.location.assign(button.dataset.then);
      else window.location.reload();
    } catch (error) {
      tell(error.message);
      button.disabled = false;
    }
    return;
  }
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a, button, input")) window.location.assign(row.dataset.href);
});

// J and K go through the rows of a list, Enter opens one.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("ecg")) return;
  if (event.target.matches("input, select, textarea, dialog *")) return;
  const rows = [...document.querySelectorAll("tr[data-href]")];
  const at = rows.indexOf(document.activeElement);
  if (event.key === "j" || event.key === "k") {
    rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
  } else if (event.key === "Enter" && at >= 0) window.location.assign(rows[at].dataset.href);
  else if (event.key === "/") document.querySelector(".filters input")?.focus();
  else if (event.key === "?") document.getElementById("help")?.showModal();
  else return;
  event.preventDefault();
});
