import {call, tell} from "./common.js";

const rolesOf = (form) => [...form.querySelectorAll("[name=roles]:checked")].map((box) => box.value);

document.getElementById("add-user")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const {name, password} = Object.fromEntries(new FormData(event.target));
  try {
    await call("POST", "/api/v1/users", {name, password, roles: rolesOf(event.target)});
    window.location.reload();
  } catch (error) { tell(error.message); }
});

document.getElementById("add-key")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const {label, days} = Object.fromEntries(new FormData(event.target));
  try {
    const made = await call("POST", "/api/v1/keys", {label, days: Number(days), roles: rolesOf(event.target)});
    tell(`The key, shown this once: ${made.key}`, "fine");
    event.target.reset();
  } catch (error) { tell(error.message); }
});

// A value keeps its kind: what is true or a number stays one.
const change = document.getElementById("change-setting");
const chosen = () => JSON.parse(change.elements.key.selectedOptions[0].dataset.value);
const shown = () => { change.elements.value.value = String(chosen()); };

function valueOf(text) {
  if (typeof chosen() === "string") return text.trim();
  try { return JSON.parse(text.trim().toLowerCase()); } catch { return text; }
}

change?.elements.key.addEventListener("change", shown);
change?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const {key, value, reason, back} = Object.fromEntries(new FormData(change, event.submitter));
  try {
    await call("PATCH", "/api/v1/settings", {key, value: back ? null : valueOf(value), reason});
    window.location.reload();
  } catch (error) { tell(error.message); }
});
if (change) shown();

document.getElementById("verify")?.addEventListener("click", async (event) => {
  const output = event.target.form.querySelector("output");
  try {
    const {ok, rows, problems} = await call("GET", "/api/v1/audit/verification");
    output.textContent = ok ? `${rows} rows, the chain holds.` : problems.join(" ");
    output.className = ok ? "" : "wrong";
  } catch (error) { output.textContent = error.message; }
});
