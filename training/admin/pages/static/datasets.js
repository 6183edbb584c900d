import {call} from "./common.js";
import {bars, confusion, lines} from "./plots.js";

const charts = document.getElementById("charts");
const corpus = JSON.parse(charts.dataset.corpus);
const node = JSON.parse(charts.dataset.node);

function count(id, found, x, horizontal = false) {
  const place = document.getElementById(id);
  if (!found.names.length) { place.textContent = "There is nothing yet."; place.className = "quiet"; return; }
  bars(place, [{name: "count", labels: found.names, values: found.counts}],
    horizontal ? "recordings" : x, horizontal ? "" : "recordings", horizontal);
}

// Every recording of the corpus is looked at once; a large corpus takes several rounds.
async function lookAtQuality() {
  const said = document.getElementById("quality-left");
  try {
    for (let left = 1; left;) {
      const found = await call("GET", "/datasets/quality");
      left = found.left;
      count("quality", found.quality, "can it be read?");
      said.textContent = left ? `${left} recordings are still to be looked at.` : "";
    }
  } catch (error) { said.textContent = error.message; }
}

if (corpus.labels.names.length) {
  bars(document.getElementById("labels"), [
    {name: "present", labels: corpus.labels.names, values: corpus.labels.present},
    {name: "absent", labels: corpus.labels.names, values: corpus.labels.absent},
  ], "recordings", "", true);
} else document.getElementById("labels").textContent = "No recording has a label yet.";
count("ages", corpus.ages, "years");
count("sexes", corpus.sexes, "sex");
count("devices", corpus.devices, "maker");
count("quarters", corpus.quarters, "quarter");
count("received", node.quality, "can it be read?");
lookAtQuality();
count("statements", node.statements, "", true);

const form = document.getElementById("judge");
const chosen = document.getElementById("judged-key");
let judged = null;

function show() {
  const item = judged.keys.find((one) => one.key === chosen.value);
  const around = item.auroc ? `${item.auroc.value.toFixed(3)}${item.auroc.low === null ? "" : ` (${item.auroc.low.toFixed(2)}–${item.auroc.high.toFixed(2)})`}` : null;
  document.getElementById("judged-words").textContent = `${judged.model} on ${judged.records} recordings of ${judged.patients} patients; `
    + `${item.name}: ${item.positives} with it of ${item.records}. ${around ? `AUROC ${around}.` : item.why || ""} `
    + (judged.excluded ? `Left out: ${judged.excluded} labelled recordings of patients from whom it learned. ` : "It learned from nobody here. ")
    + (judged.caution || "");
  const points = item.points.map((point) => ({...point, x: 1 - point.specificity, y: point.sensitivity}));
  lines("roc", [
    {name: item.name, x: item.roc.map(([x]) => x), y: item.roc.map(([, y]) => y), mode: "lines"},
    {name: "chance", x: [0, 1], y: [0, 1], mode: "lines"},
    ...points.map((point) => ({name: point.name, x: [point.x], y: [point.y], mode: "markers"})),
  ], "1 − specificity", "sensitivity", {xaxis: {range: [-0.02, 1.02]}, yaxis: {range: [-0.02, 1.02]}});
  if (item.confusion) {
    const [tp, fp, fn, tn] = item.confusion;
    confusion("confusion", ["present", "absent"], [[tp, fn], [fp, tn]], "label", "model");
  }
  const body = document.querySelector("#points tbody");
  body.replaceChildren();
  for (const point of item.points) {
    const row = body.insertRow();
    row.insertCell().textContent = point.name;
    for (const [value, name] of [[point.threshold], [point.sensitivity, "sensitivity"], [point.specificity, "specificity"], [point.f1, "F1"]]) {
      const cell = row.insertCell();
      cell.className = "number";
      cell.textContent = value === null ? "–" : value.toFixed(3);
      const [low, high] = point.around[name] || [null, null];
      if (low === null) continue;
      const around = document.createElement("small");
      around.textContent = `${low.toFixed(2)}–${high.toFixed(2)}`;
      cell.append(around);
    }
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const output = form.querySelector("output");
  output.className = "";
  output.textContent = "Reading the recordings…";
  form.querySelector("button").disabled = true;
  try {
    judged = await call("GET", `/datasets/evaluation?${new URLSearchParams(new FormData(form))}`);
    chosen.replaceChildren(...judged.keys.map((item) => new Option(`${item.name} (${item.positives} of ${item.records})`, item.key)));
    document.getElementById("judged").classList.remove("hidden");
    show();
    output.textContent = "";
  } catch (error) {
    output.textContent = error.message;
    output.className = "wrong";
  }
  form.querySelector("button").disabled = false;
});
chosen.addEventListener("change", show);
