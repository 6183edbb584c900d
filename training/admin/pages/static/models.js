import {call, tell} from "./common.js";

const csrf = document.body.dataset.csrf;

document.getElementById("add-model")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const {file, name, unit} = Object.fromEntries(new FormData(form));
  const query = new URLSearchParams({name: name || "uploaded", ...(unit ? {unit} : {})});
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(`/api/v1/models?${query}`, {method: "POST", body: file,
      headers: {"X-CSRF-Token": csrf, "Content-Type": "application/octet-stream"}});
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.detail);
    window.location.assign(`/models/${said.digest}`);
  } catch (error) {
    tell(error.message || "The server did not answer.");
    button.disabled = false;
  }
});

function cell(row, text, name = "") {
  const made = row.insertCell();
  made.textContent = text;
  made.className = name;
  return made;
}

async function offers(name) {
  const place = document.querySelector(`[data-list="${CSS.escape(name)}"]`);
  place.textContent = "Asking…";
  const url = `/api/v1/exchanges/${encodeURIComponent(name)}`;
  try {
    const found = await call("GET", `${url}/models`);
    if (!found.length) { place.textContent = "It offers no model."; return; }
    const table = document.createElement("table");
    for (const offer of found) {
      const row = table.insertRow();
      cell(row, offer.file, "mono");
      cell(row, [offer.name, offer.version].filter(Boolean).join(" ") || "no description");
      cell(row, offer.size === null ? "" : `${(offer.size / 2 ** 20).toFixed(1)} MiB`, "number");
      cell(row, offer.signed_by ? `signed ${offer.signed_by.slice(0, 12)}` : "not signed");
      const last = cell(row, offer.installed ? "installed" : "");
      for (const [what, words] of [["verify", "Verify"], ...(offer.installed ? [] : [["pull", "Pull"]])]) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = words;
        button.addEventListener("click", async () => {
          button.disabled = true;
          try {
            const said = await call("POST", `${url}/${what}`, {file: offer.file});
            if (what === "pull") window.location.assign(`/models/${said.digest}`);
            else tell(`${offer.file} is what its description says.`, "fine");
          } catch (error) { tell(error.message); }
          button.disabled = false;
        });
        last.append(" ", button);
      }
    }
    place.replaceChildren(table);
  } catch (error) { place.textContent = error.message; }
}

document.addEventListener("click", async (event) => {
  const {offers: asked, push, from} = event.target.dataset || {};
  if (asked) offers(asked);
  if (!push) return;
  event.target.disabled = true;
  try {
    const digest = document.getElementById(from).value;
    const said = await call("POST", `/api/v1/exchanges/${encodeURIComponent(push)}/push`, {digest});
    tell(`Pushed as ${said.file}.`, "fine");
    offers(push);
  } catch (error) { tell(error.message); }
  event.target.disabled = false;
});
