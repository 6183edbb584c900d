// Calipers: two points of the paper, and what lies between them in ms, beats per minute and mV.

import {element} from "./paper.js";

export class Calipers {
  constructor(sheet, said) {
    this.sheet = sheet;
    this.said = said;
    this.ends = null;
    this.marching = false;
  }

  place(svg, event) {
    const point = new DOMPoint(event.clientX, event.clientY);
    const {x, y} = point.matrixTransform(svg.getScreenCTM().inverse());
    return {x, y};
  }

  begin(event) { this.ends = [this.place(this.sheet.svg, event), this.place(this.sheet.svg, event)]; this.draw(); }
  move(event) { if (this.ends) { this.ends[1] = this.place(this.sheet.svg, event); this.draw(); } }

  // Move the second leg by ms and mV.
  nudge(ms, mv) {
    this.ends ||= this.#first();
    this.ends[1].x += ms / 1000 * this.sheet.speed;
    this.ends[1].y -= mv * this.sheet.gain;
    this.draw();
  }

  // Return where the calipers open: at the first two beats of the rhythm strip, if it has any.
  #first() {
    const {record, strip, start, seconds, speed} = this.sheet;
    const y = strip.top + strip.height * 0.6;
    const [first, next] = record.r_peaks.map((peak) => peak / record.sampling_frequency)
      .filter((time) => time > start && time < start + seconds);
    const left = next ? this.sheet.at(first) : 60;
    return [{x: left, y}, {x: next ? this.sheet.at(next) : left + 0.8 * speed, y}];
  }

  clear() { this.ends = null; this.draw(); }

  draw() {
    const {overlay, height, speed, gain} = this.sheet;
    overlay.replaceChildren();
    if (!this.ends) { this.said.textContent = ""; return; }
    const [a, b] = this.ends;
    const ms = Math.abs(b.x - a.x) / speed * 1000;
    const mv = (a.y - b.y) / gain;
    const rate = ms >= 100 ? ` · ${Math.round(60000 / ms)} /min` : "";
    const words = `${Math.round(ms)} ms${rate} · ${mv.toFixed(2).replace("-", "−")} mV`;
    if (this.marching && Math.abs(b.x - a.x) > 2) {
      const step = Math.abs(b.x - a.x);
      for (let x = b.x > a.x ? b.x + step : a.x + step; x < 260; x += step) this.#leg(x, height, "march");
      for (let x = Math.min(a.x, b.x) - step; x > 0; x -= step) this.#leg(x, height, "march");
    }
    this.#leg(a.x, height, "leg");
    this.#leg(b.x, height, "leg");
    element("path", {d: `M${a.x} ${a.y}h${b.x - a.x}M${a.x} ${a.y}h-2M${b.x} ${a.y}V${b.y}M${b.x - 2} ${b.y}h4`,
      class: "leg"}, overlay);
    const left = Math.min(Math.min(a.x, b.x), 200);
    const top = Math.min(a.y, b.y) > 9 ? Math.min(a.y, b.y) - 7 : Math.max(a.y, b.y) + 2;
    element("rect", {x: left, y: top, width: words.length * 2.05 + 4, height: 5.4, class: "caliper-box"}, overlay);
    element("text", {x: left + 1.5, y: top + 4, class: "caliper-words"}, overlay, words);
    this.said.textContent = `Calipers: ${words}`;
  }

  #leg(x, height, name) {
    element("path", {d: `M${x} 0v${height}`, class: name}, this.sheet.overlay);
  }
}
