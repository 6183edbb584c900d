// The ECG page: views of one recording, overlays, calipers, labels, and the keyboard for all.

import {Calipers} from "./calipers.js";
import {call} from "./common.js";
import {SYMBOLS, Sheet, aligned, decode, medians} from "./paper.js";

const page = document.getElementById("ecg");
const svg = document.getElementById("paper");
const second = document.getElementById("paper-before");
const said = document.getElementById("readings");
const scale = document.getElementById("scale");
const SPEEDS = [6.25, 12.5, 25, 50, 100, 200];
const GAINS = [2.5, 5, 10, 20, 40];

const fetched = (url) => fetch(url).then((answer) => {
  if (!answer.ok) throw new Error(`The samples could not be read (status ${answer.status}).`);
  return answer.json();
}).then((part) => ({...decode(part), median: part.median && decode(part.median)}));

let sheet, calipers, record, before, view = "clinical";
let measuring = false, drag = null;

const button = (name) => page.querySelector(`[data-do="${name}"]`);
const pressed = (name, on) => button(name)?.setAttribute("aria-pressed", String(on));

function show(name) {
  view = name;
  page.querySelectorAll("[data-view]").forEach((tab) =>
    tab.setAttribute("aria-pressed", String(tab.dataset.view === name)));
  const paper = name === "clinical" || name === "rows" || name === "compare";
  page.querySelectorAll("[data-compare]").forEach((part) =>
    part.classList.toggle("hidden", name !== "compare"));
  document.getElementById("papers").classList.toggle("side", name === "compare");
  if (paper) {
    sheet.layout = name === "rows" ? "rows" : "clinical";
    redraw();
  } else {
    document.getElementById("legend").textContent = name === "aligned" && record.r_peaks.length
      ? "every beat at its R peak; their median bold; ventricular, aberrant and other beats dashed" : "";
    const gain = name === "medians" ? medians(svg, record) : aligned(svg, record);
    scale.textContent = gain ? `50 mm/s · ${gain} mm/mV` : "";
    if (!gain) nothing(name === "medians" ? "There is no median beat." : "There are no whole beats to align.");
  }
}

function nothing(words) {
  svg.replaceChildren();
  svg.setAttribute("width", "260mm");
  svg.setAttribute("height", "30mm");
  said.textContent = words;
}

// What the marks mean, of those that occur.
function explain() {
  const kinds = new Map(record.kinds.map(({kind, words}) => [SYMBOLS[kind], words]));
  const said = [...kinds].filter(([symbol]) => symbol).map(([symbol, words]) => `${symbol} ${words}`);
  if (record.r_peaks.length) said.unshift("| beat and the RR interval before it in ms");
  const waves = sheet.marks ? ["blue P, orange QRS, green T"] : [];
  document.getElementById("legend").textContent = [...said, ...waves].join("; ");
}

function redraw() {
  sheet.draw();
  explain();
  if (measuring) calipers.draw();
  const {speed, gain, start, latest} = sheet;
  const at = latest > 0.05 ? ` · from ${start.toFixed(1)} s` : "";
  const part = record.samples / record.sampling_frequency;
  const cut = record.duration > part + 0.05 ? ` · first ${part.toFixed(0)} s of ${record.duration.toFixed(0)} s` : "";
  const reduced = view === "compare" ? " · drawn smaller than true scale" : "";
  scale.textContent = `${speed} mm/s · ${gain} mm/mV${at}${cut}${reduced}`;
  scale.classList.toggle("unusual", speed !== 25 || gain !== 10);
  if (view === "compare" && before) {
    const earlier = new Sheet(second, before);
    Object.assign(earlier, {speed, gain, marks: sheet.marks, beats: sheet.beats, start});
    earlier.draw();
    const high = medians(document.getElementById("paper-medians"), record, before.median);
    document.getElementById("medians-scale").textContent = high ? `50 mm/s · ${high} mm/mV` : "";
  }
}

const stepped = (list, value, by) => list[Math.min(list.length - 1, Math.max(0, list.indexOf(value) + by))];

const actions = {
  "faster": () => { sheet.speed = stepped(SPEEDS, sheet.speed, 1); redraw(); },
  "slower": () => { sheet.speed = stepped(SPEEDS, sheet.speed, -1); redraw(); },
  "taller": () => { sheet.gain = stepped(GAINS, sheet.gain, 1); redraw(); },
  "lower": () => { sheet.gain = stepped(GAINS, sheet.gain, -1); redraw(); },
  "standard": () => { Object.assign(sheet, {speed: 25, gain: 10, start: 0}); redraw(); },
  "earlier": () => { sheet.start -= sheet.seconds / 8; redraw(); },
  "later": () => { sheet.start += sheet.seconds / 8; redraw(); },
  "marks": () => { sheet.marks = !sheet.marks; pressed("marks", sheet.marks); redraw(); },
  "calipers": () => {
    measuring = !measuring;
    pressed("calipers", measuring);
    svg.classList.toggle("measuring", measuring);
    if (measuring) {
      if (!["clinical", "rows"].includes(view)) show("clinical");
      calipers.nudge(0, 0);
    } else calipers.clear();
  },
  "march": () => {
    calipers.marching = !calipers.marching;
    pressed("march", calipers.marching);
    if (!measuring) actions.calipers();
    calipers.draw();
  },
  "print": () => window.print(),
  "help": () => document.getElementById("help").showModal(),
};

const follow = (name) => page.querySelector(`a[rel="${name}"]`)?.click();

// Keys that act on the finding in focus.
function judge(value) {
  const row = document.activeElement?.closest("[data-finding]");
  row?.querySelector(`button[data-judge="${value}"]`)?.click();
}

function toFinding(by) {
  const rows = [...page.querySelectorAll("[data-finding]")].filter((row) => row.checkVisibility());
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement?.closest("[data-finding]"));
  rows[Math.min(rows.length - 1, Math.max(0, at + by))].focus();
}

const keys = {
  "1": () => show("clinical"), "2": () => show("rows"), "3": () => show("medians"),
  "4": () => show("aligned"), "5": () => before && show("compare"),
  "f": actions.marks, "c": actions.calipers, "r": actions.march, "p": actions.print,
  "+": actions.faster, "-": actions.slower, "]": actions.taller, "[": actions.lower,
  "0": actions.standard, ".": actions.later, ",": actions.earlier, "?": actions.help,
  "j": () => toFinding(1), "k": () => toFinding(-1),
  "a": () => judge("agree"), "d": () => judge("disagree"), "u": () => judge("unknown"),
  "Escape": () => measuring && actions.calipers(),
};

function arrows(event) {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
  if (!step) return false;
  if (measuring) {
    const fine = event.shiftKey ? 1 : 10;
    calipers.nudge(step[0] * fine, step[1] * fine / 200);
    return true;
  }
  if (step[0]) follow(step[0] < 0 ? "prev" : "next");
  return Boolean(step[0]);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea, dialog *") || !sheet) return;
  const act = keys[event.key] || keys[event.key.toLowerCase()];
  if (act) { act(); event.preventDefault(); } else if (arrows(event)) event.preventDefault();
});

page.addEventListener("click", (event) => {
  const act = event.target.closest("[data-do]"), tab = event.target.closest("[data-view]");
  if (tab && sheet) show(tab.dataset.view);
  else if (act && (sheet || act.dataset.do === "help")) actions[act.dataset.do]();
});

// A printed sheet is less tall than the rows of twelve leads on a screen.
function fit(tall) {
  if (!sheet) return;
  sheet.tall = tall;
  if (onPaper()) redraw();
}

window.addEventListener("beforeprint", () => fit(144));
window.addEventListener("afterprint", () => fit(228));

const onPaper = () => view === "clinical" || view === "rows" || view === "compare";

svg.addEventListener("pointerdown", (event) => {
  if (!sheet || !onPaper()) return;
  svg.setPointerCapture(event.pointerId);
  if (measuring) calipers.begin(event);
  drag = {x: event.clientX, start: sheet.start};
});
svg.addEventListener("pointermove", (event) => {
  if (!drag) return;
  if (measuring) { calipers.move(event); return; }
  const mm = (event.clientX - drag.x) / svg.getBoundingClientRect().width * 260;
  sheet.start = drag.start - mm / sheet.speed;
  redraw();
});
svg.addEventListener("pointerup", () => { drag = null; });
svg.addEventListener("wheel", (event) => {
  if (!sheet || !onPaper() || !event.ctrlKey) return;
  event.preventDefault();
  (event.deltaY < 0 ? actions.faster : actions.slower)();
}, {passive: false});

// The leads that carried the finding in focus are framed on the paper.
page.addEventListener("focusin", (event) => {
  const leads = (event.target.closest("[data-finding]")?.dataset.leads || "").split(" ");
  svg.querySelectorAll("text.lead").forEach((label) =>
    label.classList.toggle("carried", leads.includes(label.textContent)));
});

// A label is sent without leaving the page; what the server says stands beside the finding.
page.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-label]");
  if (!form) return;
  event.preventDefault();
  const output = form.querySelector("output");
  const {key, value} = Object.fromEntries(new FormData(form, event.submitter));
  try {
    await call("POST", form.getAttribute("action"), {
      labels: [{key, value}], ai_visible: !("blind" in page.dataset),
    });
    output.textContent = `Kept: ${value}.`;
    output.classList.remove("wrong");
    form.closest("[data-finding]")?.setAttribute("data-said", value);
    if (form.dataset.label === "more") form.reset();
  } catch (error) {
    output.textContent = error.message;
    output.classList.add("wrong");
  }
});

try {
  [record, before] = await Promise.all([
    fetched(page.dataset.tracing),
    page.dataset.before ? fetched(page.dataset.before) : null,
  ]);
  sheet = new Sheet(svg, record);
  calipers = new Calipers(sheet, said);
  show("clinical");
  page.dataset.ready = "true";
} catch (error) {
  nothing(error.message);
}
