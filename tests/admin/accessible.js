// Return what a reader by keyboard, by ear or with weak eyes stumbles over (WCAG 2.2, AA).
() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  const say = (what, one) => faults.push(`${what}: ${one.outerHTML.slice(0, 90)}`);
  const named = (one) => (one.getAttribute("aria-label") || one.textContent || one.title).trim();
  all("button, a[href], summary, th, [role=img]").filter((one) => !named(one)).forEach((one) => say("no name", one));
  all("input:not([type=hidden]), select, textarea")
    .filter((one) => !one.labels.length && !one.getAttribute("aria-label")).forEach((one) => say("no label", one));
  all("label").filter((one) => !one.control).forEach((one) => say("label of nothing", one));
  const ids = all("[id]").map((one) => one.id);
  all("[id]").filter((one, at) => ids.indexOf(one.id) !== at).forEach((one) => say("id twice", one));
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  for (const place of ["html[lang]", "main", "header", "nav"]) if (!document.querySelector(place)) faults.push(`no ${place}`);
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  for (const one of all("body *:not(svg *):not(.js-plotly-plot *)")) {
    if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) || one.disabled) continue;
    const style = getComputedStyle(one), size = parseFloat(style.fontSize);
    const [a, b] = [light(style.color), light(ground(one))].sort((x, y) => y - x);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if ((a + 0.05) / (b + 0.05) < needed) say(`contrast ${((a + 0.05) / (b + 0.05)).toFixed(1)}`, one);
  }
  return faults;
}
