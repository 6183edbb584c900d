import {call, tell} from "./common.js";
import {planOf} from "./plan.js";

const form = document.getElementById("add-schedule");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = Object.fromEntries(new FormData(form));
  const plan = planOf(form);
  if (!plan.keys?.length) { tell("Choose at least one finding to learn."); return; }
  const body = {name: said.schedule_name, plan};
  if (said.kind === "cron") body.cron = said.cron.trim();
  if (said.kind === "every") body.every = Number(said.hours) * 3600;
  if (said.new_labelled) body.new_labelled = Number(said.new_labelled);
  if (said.window) body.window = said.window;
  try {
    await call("POST", "/api/v1/schedules", body);
    window.location.reload();
  } catch (error) { tell(error.message); }
});

// Only the fields of the chosen way are asked for.
form.elements.kind.addEventListener("change", ({target}) => {
  form.querySelectorAll("[data-kind]").forEach((field) =>
    field.classList.toggle("hidden", field.dataset.kind !== target.value));
});

// Pausing replaces the schedule by itself with another word in `active`.
document.addEventListener("click", async (event) => {
  const {schedule, active} = event.target.dataset || {};
  if (!schedule) return;
  try {
    const {name, plan, cron, every, new_labelled, window: within} = await call("GET", `/api/v1/schedules/${schedule}`);
    await call("PUT", `/api/v1/schedules/${schedule}`,
      {name, plan, cron, every, new_labelled, window: within, active: active === "true"});
    window.location.reload();
  } catch (error) { tell(error.message); }
});
