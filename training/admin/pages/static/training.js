import {call, tell} from "./common.js";
import {planOf} from "./plan.js";

const form = document.getElementById("start");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const plan = planOf(form);
  if (!plan.keys?.length) { tell("Choose at least one finding to learn."); return; }
  const button = form.querySelector("button.main");
  button.disabled = true;
  try {
    const run = await call("POST", "/api/v1/runs", {plan});
    window.location.assign(`/training/${run.id}`);
  } catch (error) {
    tell(error.message);
    button.disabled = false;
  }
});

// Two runs beside each other: what their plans say differently, and their figures.
document.getElementById("compare")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const place = document.getElementById("compared");
  try {
    const found = await call("GET", `/api/v1/runs/comparison?${new URLSearchParams(new FormData(event.target))}`);
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const words of ["", ...found.runs.map((run) => `${run.id}: ${run.name}`)]) {
      const cell = document.createElement("th");
      cell.textContent = words;
      head.append(cell);
    }
    const body = table.createTBody();
    const add = (name, values, words) => {
      const row = body.insertRow();
      row.insertCell().textContent = name;
      for (const value of values) row.insertCell().textContent = words(value);
    };
    const macro = Object.entries(found.metrics).filter(([name]) => /^averages\.macro\.[A-Za-z0-9]+$/.test(name));
    for (const [name, values] of Object.entries(found.differing)) {
      add(name, values, (value) => (value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value)));
    }
    for (const [name, values] of macro) add(`${name.split(".").pop()} (mean)`, values, (value) => (value === null ? "–" : value.toFixed(3)));
    place.replaceChildren(table);
  } catch (error) { place.textContent = error.message; }
});
