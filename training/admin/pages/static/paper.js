// ECG paper as SVG: one unit of the drawing is one millimetre of paper.

const SVG = "http://www.w3.org/2000/svg";
export const PULSE = 10;      // mm in front of each row, for the calibration pulse
export const WIDTH = 250;     // mm of tracing: ten seconds at 25 mm/s
const STANDARD = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
const WAVES = [["P", "p"], ["QRS", "qrs"], ["T", "t"]];
export const SYMBOLS = {paced: "P", supraventricular: "S", aberrant: "A", ventricular: "V", other: "?"};

export function element(name, attributes = {}, parent = null, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Return the samples of each lead in mV, NaN where none was recorded.
export function decode(part) {
  const bytes = Uint8Array.from(atob(part.signal), (letter) => letter.charCodeAt(0));
  const counts = new Int16Array(bytes.buffer);
  const signal = new Map();
  part.leads.forEach((lead, row) => {
    const mv = new Float32Array(part.samples);
    for (let at = 0; at < part.samples; at++) {
      const count = counts[row * part.samples + at];
      mv[at] = count === -32768 ? NaN : count * part.steps[row];
    }
    signal.set(lead, mv);
  });
  return {...part, signal};
}

function median(values) {
  const finite = Float32Array.from(values).filter(Number.isFinite).sort();
  return finite.length ? finite[finite.length >> 1] : 0;
}

// Return a path through samples: x(sample) and y(mV) in mm; of each 0.05 mm both extremes.
export function path(mv, from, to, x, y) {
  const first = Math.max(0, Math.floor(from));
  const last = Math.min(mv.length - 1, Math.ceil(to));
  const column = Math.max(1, Math.floor(0.05 / (x(1) - x(0))));
  let drawn = "";
  let down = false;
  for (let at = first; at <= last; at += column) {
    let low = NaN, high = NaN, lowAt = at, highAt = at;
    for (let one = at; one < at + column && one <= last; one++) {
      const value = mv[one];
      if (!(value >= low)) { if (Number.isFinite(value)) { low = value; lowAt = one; } }
      if (!(value <= high)) { if (Number.isFinite(value)) { high = value; highAt = one; } }
    }
    if (!Number.isFinite(low)) { down = false; continue; }
    const points = low === high ? [[lowAt, low]]
      : lowAt < highAt ? [[lowAt, low], [highAt, high]] : [[highAt, high], [lowAt, low]];
    for (const [place, value] of points) {
      drawn += `${down ? "L" : "M"}${x(place).toFixed(2)} ${y(value).toFixed(2)}`;
      if (!down && points.length === 1) drawn += "h0.01";
      down = true;
    }
  }
  return drawn;
}

export function grid(svg, left, top, width, height) {
  const lines = (step, name) => {
    let d = "";
    for (let x = 0; x <= width + 1e-6; x += step) d += `M${left + x} ${top}v${height}`;
    for (let y = 0; y <= height + 1e-6; y += step) d += `M${left} ${top + y}h${width}`;
    element("path", {d, class: name}, svg);
  };
  lines(1, "grid-fine");
  lines(5, "grid-bold");
}

// Return leads in the order in which every clinic prints them, others last.
const ordered = (leads) => [...STANDARD.filter((lead) => leads.includes(lead)),
  ...leads.filter((lead) => !STANDARD.includes(lead))];

// Return which lead stands where: left, baseline, width and seconds after the start of the page.
function cells(record, layout, speed, tall) {
  const standard = STANDARD.filter((lead) => record.signal.has(lead));
  const others = record.leads.filter((lead) => !STANDARD.includes(lead));
  const listed = standard.length > 6 ? [...STANDARD, ...others] : ordered(record.leads);
  if (layout === "rows" || listed.length < 6) {
    const many = listed.length || 1;
    const height = Math.min(many > 6 ? 19 : Math.min(40, 160 / many), tall / many);
    return {height: height * listed.length + 6, cells: listed.map((lead, row) => (
      {lead, x: PULSE, top: row * height, height, width: WIDTH, from: 0,
        rhythm: row === listed.length - 1, room: 6}))};
  }
  // The standard leads down the columns as every clinic prints them, others in rows below.
  const columns = listed.length > 6 ? 4 : 2;
  const first = standard.length > 6 ? 12 : columns === 2 ? listed.length : 0;
  const deep = first ? 3 + Math.ceil((listed.length - first) / columns) : Math.ceil(listed.length / columns);
  const height = deep > 3 ? 27 : 33;
  const width = WIDTH / columns;
  const placed = listed.map((lead, number) => {
    const [column, row] = number < first ? [Math.floor(number / 3), number % 3]
      : [(number - first) % columns, (first ? 3 : 0) + Math.floor((number - first) / columns)];
    return {lead, x: PULSE + column * width, top: row * height, height, width,
      from: column * width / speed};
  });
  const strip = {lead: record.rhythm, x: PULSE, top: deep * height, height: 36, width: WIDTH,
    from: 0, rhythm: true};
  return {height: deep * height + 36, cells: [...placed, strip]};
}

// One page of paper with its leads; redrawn whenever speed, gain, start or layout change.
export class Sheet {
  constructor(svg, record) {
    this.svg = svg;
    this.record = record;
    this.layout = "clinical";
    this.speed = 25;
    this.gain = 10;
    this.start = 0;
    this.tall = 228;   // mm for the rows of all leads; a printed sheet has less
    this.marks = false;
    this.beats = true;
    this.levels = new Map([...record.signal].map(([lead, mv]) => [lead, median(mv)]));
  }

  // Return where the rhythm strip shows a moment, mm.
  at(seconds) { return this.strip.x + (seconds - this.start) * this.speed; }

  get seconds() { return WIDTH / this.speed; }
  get latest() { return Math.max(0, this.record.samples / this.record.sampling_frequency - this.seconds); }

  draw() {
    const placed = cells(this.record, this.layout, this.speed, this.tall);
    this.strip = placed.cells.at(-1);
    this.start = Math.min(Math.max(0, this.start), this.latest);
    this.height = placed.height;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${PULSE + WIDTH} ${placed.height}`);
    this.svg.setAttribute("width", `${PULSE + WIDTH}mm`);
    this.svg.setAttribute("height", `${placed.height}mm`);
    grid(this.svg, 0, 0, PULSE + WIDTH, Math.ceil(placed.height / 5) * 5);
    for (const cell of placed.cells) this.#cell(cell);
    this.overlay = element("g", {class: "overlay"}, this.svg);
  }

  #cell(cell) {
    const {record, speed, gain} = this;
    const rate = record.sampling_frequency;
    const from = this.start + cell.from;
    const to = from + cell.width / speed;
    const zero = Math.round(cell.top + cell.height * 0.6);
    const mv = record.signal.get(cell.lead);
    const x = (sample) => cell.x + (sample / rate - from) * speed;
    if (this.marks) this.#waves(cell, from, to);
    if (cell.x === PULSE) {
      const d = `M0 ${zero}h2.5v${-gain}h5v${gain}h2.5`;
      element("path", {d, class: "trace pulse"}, this.svg);
    } else {
      element("path", {d: `M${cell.x} ${cell.top + 3}v4M${cell.x} ${cell.top + cell.height - 5}v4`,
        class: "border"}, this.svg);
    }
    element("text", {x: cell.x + 1.2, y: cell.top + 4.6, class: "lead"}, this.svg, cell.lead);
    if (!mv || !mv.some(Number.isFinite)) {
      element("text", {x: cell.x + 2, y: zero - 1, class: "quiet"}, this.svg, "not recorded");
      return;
    }
    const level = this.levels.get(cell.lead);
    const y = (value) => zero - (value - level) * gain;
    element("path", {d: path(mv, from * rate, to * rate, x, y), class: "trace"}, this.svg);
    if (cell.rhythm) this.#beats(cell, from, to);
  }

  #waves(cell, from, to) {
    const marks = this.record.fiducials.global;
    if (!marks) return;
    const rate = this.record.sampling_frequency;
    for (const [label, wave] of WAVES) {
      (marks[`${wave}_onset`] || []).forEach((onset, beat) => {
        const offset = marks[`${wave}_offset`][beat];
        if (onset === null || offset === null) return;
        const begin = Math.max(from, onset / rate), end = Math.min(to, offset / rate);
        if (end <= begin) return;
        const x = cell.x + (begin - from) * this.speed;
        const width = (end - begin) * this.speed;
        const shape = {x, y: cell.top + 6, width, height: cell.height - 8};
        element("rect", {...shape, class: `wave wave-${wave}`}, this.svg);
        if (this.layout === "rows" ? cell.top === 0 : cell.rhythm) {
          element("text", {x: x + width / 2, y: cell.top + (wave === "qrs" ? 3 : 5.4), class: "wave-name"},
            this.svg, label);
        }
      });
    }
  }

  #beats(cell, from, to) {
    if (!this.beats) return;
    const {record, speed} = this;
    const times = record.r_peaks.map((peak) => peak / record.sampling_frequency);
    times.forEach((time, beat) => {
      if (time < from || time > to) return;
      const x = cell.x + (time - from) * speed;
      const foot = cell.top + cell.height + (cell.room || 0) - 1;
      element("path", {d: `M${x} ${foot - 2.2}v2.2`, class: "beat"}, this.svg);
      const symbol = SYMBOLS[record.kinds[beat]?.kind];
      if (symbol) element("text", {x, y: foot - 2.8, class: "symbol"}, this.svg, symbol);
      const before = times[beat - 1];
      if (before >= from && (time - before) * speed > 9) {
        const rr = `${Math.round((time - before) * 1000)}`;
        element("text", {x: x - (time - before) * speed / 2, y: foot, class: "rr"},
          this.svg, rr);
      }
    });
  }
}

// Small multiples: one frame for each lead, drawn by `draw(lead, frame)`.
export function frames(svg, leads, width, height, draw) {
  const columns = leads.length > 6 ? 4 : Math.min(3, leads.length || 1);
  const rows = Math.ceil(leads.length / columns) || 1;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${columns * width} ${rows * height}`);
  svg.setAttribute("width", `${columns * width}mm`);
  svg.setAttribute("height", `${rows * height}mm`);
  grid(svg, 0, 0, columns * width, rows * height);
  leads.forEach((lead, number) => {
    // Down the columns, as a clinical page is read.
    const column = Math.floor(number / rows), row = number % rows;
    const frame = {x: column * width, y: row * height, width, height, zero: row * height + height * 0.6};
    element("rect", {x: frame.x, y: frame.y, width, height, class: "frame"}, svg);
    element("text", {x: frame.x + 1.5, y: frame.y + 5, class: "lead"}, svg, lead);
    draw(lead, frame);
  });
}

// Return the highest usual gain, mm/mV, at which curves stay within their frames.
function fitting(curves) {
  let low = 0, high = 0;
  for (const mv of curves) for (const value of mv) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [20, 10, 5].find((gain) => high * gain <= 21 && -low * gain <= 14) || 2.5;
}

// The median beat of each lead at 50 mm/s; `before` is that of an earlier ECG, drawn dashed.
export function medians(svg, record, before = null) {
  const beat = record.median;
  if (!beat) return false;
  const speed = 50, width = 62.5, height = 45;
  const gain = fitting([...beat.signal.values()].map((mv) => {
    const level = isoelectric(beat, mv);
    return mv.map((value) => value - level);
  }));
  const marks = beat.fiducials;
  frames(svg, ordered(beat.leads), width, height, (lead, frame) => {
    const centre = beat.samples / beat.sampling_frequency / 2;
    const x = (of) => (sample) => frame.x + width / 2
      + (sample / of.sampling_frequency - (of === beat ? centre : centreOf(of, beat, centre))) * speed;
    const draw = (of, name) => {
      const mv = of.signal.get(lead);
      if (!mv) return;
      const level = isoelectric(of, mv);
      const y = (value) => frame.zero - (value - level) * gain;
      element("path", {d: path(clipped(mv, of, x(of), frame), 0, mv.length, x(of), y), class: name}, svg);
    };
    for (const [label, wave] of WAVES) {
      const onset = marks[`${wave}_onset`], offset = marks[`${wave}_offset`];
      if (onset == null || offset == null) continue;
      const left = Math.max(frame.x, x(beat)(onset)), right = Math.min(frame.x + width, x(beat)(offset));
      element("rect", {x: left, y: frame.y + 6, width: Math.max(0, right - left), height: height - 10,
        class: `wave wave-${wave}`}, svg);
      element("text", {x: (left + right) / 2, y: frame.y + height - 1, class: "wave-name"}, svg, label);
    }
    if (before) draw(before, "trace earlier");
    draw(beat, "trace");
  });
  return gain;
}

function centreOf(of, beat, centre) {
  const mine = of.fiducials.r_peak ?? of.fiducials.qrs_onset;
  const theirs = beat.fiducials.r_peak ?? beat.fiducials.qrs_onset;
  if (mine == null || theirs == null) return of.samples / of.sampling_frequency / 2;
  return mine / of.sampling_frequency - (theirs / beat.sampling_frequency - centre);
}

function isoelectric(beat, mv) {
  const onset = beat.fiducials.qrs_onset;
  if (onset == null) return median(mv);
  const span = Math.max(2, Math.round(0.02 * beat.sampling_frequency));
  return median(mv.slice(Math.max(0, Math.round(onset) - span), Math.round(onset) + 1));
}

function clipped(mv, of, x, frame) {
  return mv.map((value, at) => (x(at) < frame.x || x(at) > frame.x + frame.width ? NaN : value));
}

// Every beat of each lead laid over the others at its R peak, the median of them drawn boldly.
export function aligned(svg, record) {
  const rate = record.sampling_frequency;
  const before = Math.round(0.45 * rate), after = Math.round(0.75 * rate);
  const speed = 50, width = 62.5, height = 45;
  const peaks = record.r_peaks.map((peak, beat) => [Math.round(peak), record.kinds[beat]?.kind])
    .filter(([peak]) => peak >= before && peak + after < record.samples);
  if (!peaks.length) return false;
  const gain = fitting([...record.signal.values()].map((mv) => {
    const level = median(mv);
    return mv.map((value) => value - level);
  }));
  frames(svg, ordered(record.leads), width, height, (lead, frame) => {
    const mv = record.signal.get(lead);
    const x = (sample) => frame.x + 1 + sample / rate * speed;
    const curves = peaks.map(([peak, kind]) => {
      const beat = mv.slice(peak - before, peak + after);
      const level = median(beat);
      return [beat.map((value) => value - level), kind];
    });
    const y = (value) => frame.zero - value * gain;
    for (const [beat, kind] of curves) {
      const other = ["ventricular", "aberrant", "other"].includes(kind) ? " deviant" : "";
      element("path", {d: path(beat, 0, beat.length, x, y), class: `trace thin${other}`}, svg);
    }
    const dominant = curves.filter(([, kind]) => !["ventricular", "aberrant", "other"].includes(kind));
    const middle = (dominant.length ? dominant : curves).map(([beat]) => beat);
    const bold = middle[0].map((_, at) => median(middle.map((beat) => beat[at])));
    element("path", {d: path(bold, 0, bold.length, x, y), class: "trace bold"}, svg);
    element("path", {d: `M${x(before)} ${frame.y + 1}v3`, class: "beat"}, svg);
  });
  return gain;
}
