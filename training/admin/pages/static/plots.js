// Charts by Plotly, in colours of Okabe and Ito and with dashes and marks, so that none needs colour.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "solid", "dash"];
const MARKS = ["circle", "square", "diamond", "cross", "triangle-up", "x", "star"];
const LAYOUT = {
  margin: {l: 52, r: 12, t: 12, b: 42}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "#fff",
  font: {family: "Liberation Sans, Arial, sans-serif", size: 13, color: "#16202a"},
  legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, hovermode: "closest",
};
const CONFIG = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"],
  displayModeBar: false};

const axis = (title, more = {}) => ({title: {text: title}, gridcolor: "#e3e8ec", zeroline: false,
  linecolor: "#8fa0ac", showline: true, automargin: true, ...more});

// Series: [{name, x, y}] as lines with marks.
export function lines(place, series, x, y, more = {}) {
  const data = series.map((one, at) => ({...one, type: "scatter", mode: one.mode || "lines+markers",
    line: {color: COLOURS[at % 7], dash: DASHES[at % 7], width: 2},
    marker: {symbol: MARKS[at % 7], size: {lines: 0, markers: 12}[one.mode] ?? 6}}));
  const margin = {...LAYOUT.margin, t: data.length > 3 ? 76 : data.length > 1 ? 36 : 12};
  return window.Plotly.react(place, data, {...LAYOUT, margin, xaxis: axis(x, more.xaxis), yaxis: axis(y, more.yaxis),
    shapes: more.shapes || [], annotations: more.annotations || []}, CONFIG);
}

// Series: [{name, labels, values}] side by side.
export function bars(place, series, x, y, horizontal = false) {
  const data = series.map((one, at) => ({
    name: one.name, type: "bar", orientation: horizontal ? "h" : "v",
    x: horizontal ? one.values : one.labels, y: horizontal ? one.labels : one.values,
    marker: {color: COLOURS[at % 7], pattern: {shape: ["", "/", "x", "."][at % 4], bgcolor: COLOURS[at % 7],
      fgcolor: "#fff", solidity: 0.25, size: 6}},
  }));
  const margin = {...LAYOUT.margin, t: series.length > 1 ? 36 : 12};
  const layout = {...LAYOUT, margin, barmode: "group", showlegend: series.length > 1,
    xaxis: axis(x), yaxis: axis(y, horizontal ? {autorange: "reversed", automargin: true} : {})};
  if (horizontal) layout.height = Math.max(220, 90 + 26 * series[0].labels.length * Math.max(1, series.length * 0.7));
  return window.Plotly.react(place, data, layout, CONFIG);
}

// Rows are the truth, columns what was said; each cell shows its count and its share of the row.
export function confusion(place, names, cells, truth = "Truth", said = "Said") {
  const shares = cells.map((row) => {
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((value) => (sum ? value / sum : 0));
  });
  const text = cells.map((row, at) => row.map((value, to) => `${value}<br>${Math.round(shares[at][to] * 100)} %`));
  const data = [{type: "heatmap", z: shares, x: names, y: names, text, texttemplate: "%{text}", zmin: 0, zmax: 1,
    colorscale: [[0, "#ffffff"], [1, "#0072b2"]], showscale: false, hoverinfo: "skip", xgap: 2, ygap: 2}];
  return window.Plotly.react(place, data, {...LAYOUT, xaxis: axis(said, {side: "bottom"}),
    yaxis: axis(truth, {autorange: "reversed", automargin: true})}, CONFIG);
}
