// A run as it goes: each event of the server brings the page up to date.

import {lines} from "./plots.js";

const place = document.getElementById("run");
const ENDED = ["DONE", "FAILED", "STOPPED"];

function draw() {
  const state = document.getElementById("run-state");
  const epochs = JSON.parse(state.dataset.epochs);
  document.getElementById("curves").classList.toggle("hidden", !epochs.length);
  if (!epochs.length) return;
  const x = epochs.map((epoch) => epoch.number);
  const whole = {xaxis: {dtick: x.length > 15 ? undefined : 1, rangemode: "tozero"}};
  lines("loss", [
    {name: "training", x, y: epochs.map((epoch) => epoch.train_loss)},
    {name: "validation", x, y: epochs.map((epoch) => epoch.validation_loss)},
  ], "epoch", "loss", whole);
  const most = Math.max(...epochs.map((epoch) => epoch.metric)) <= 1 ? {yaxis: {range: [0, 1.03]}} : {};
  lines("metric", [{name: state.dataset.metric, x, y: epochs.map((epoch) => epoch.metric)}],
    "epoch", state.dataset.metric, {...whole, ...most});
}

async function renew() {
  const answer = await fetch(`/training/${place.dataset.run}?part=1`);
  if (!answer.ok) return false;
  place.innerHTML = await answer.text();
  draw();
  return ENDED.includes(document.getElementById("run-state").dataset.state);
}

draw();
if (!ENDED.includes(document.getElementById("run-state").dataset.state)) {
  const events = new EventSource(`/api/v1/runs/${place.dataset.run}/events`);
  const update = async () => { if (await renew()) events.close(); };
  events.addEventListener("message", update);
  events.addEventListener("end", async () => { events.close(); await renew(); });
}
