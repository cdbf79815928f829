// Curves that are drawn in place: zoom, hidden curves and the range of epochs stay when new epochs arrive.
// `props.value` is the JSON text of { data, layout }; a click on a saved epoch triggers `select` with { epoch }.
const $ = (name) => element.querySelector(name);
const NARROW = 560;
const range = { low: null, high: null }; // null: as far as there are epochs, now and later
// What arrives by itself is drawn in a tenth of the time at most, however fast the epochs are, but never later than this.
const LEISURE = 10, LATEST_MS = 2000;
let figure = null, drawnWidth = 0, connected = false, due = 0, waiting = false;

// Gradio's own plot, of which a hidden one is on the page, brings the drawing library.
function library() {
  return new Promise((found) => {
    const look = () => (window.Plotly ? found(window.Plotly) : setTimeout(look, 50));
    look();
  });
}

function bounds() {
  const { first, last } = figure.layout.meta;
  const low = Math.min(Math.max(range.low ?? first, first), last);
  return { first, last, low, high: Math.max(Math.min(range.high ?? last, last), low) };
}

function arrange(layout) {
  const width = $(".chart").clientWidth, charts = layout.meta.charts;
  const columns = Math.max(1, Math.min(charts, width < NARROW ? 1 : 2)), rows = Math.max(1, Math.ceil(charts / columns));
  layout.grid = { rows, columns, pattern: "independent", xgap: 0.16, ygap: 0.42 };
  layout.width = width;
  layout.height = rows * (columns === 1 ? 210 : 250) + 100;
  layout.font.color = getComputedStyle(element).color;
  layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const { low, high } = bounds();
  for (const name of Object.keys(layout).filter((key) => key.startsWith("xaxis"))) {
    layout[name].range = [low - 0.5, high + 0.5];
    // The range is kept here, not by the library.
    layout[name].uirevision = `${low}-${high}`;
  }
  return layout;
}

function showRange() {
  const { first, last, low, high } = bounds(), whole = last > first;
  for (const [name, at] of [["low", low], ["high", high]]) {
    const input = $(`input.${name}`);
    Object.assign(input, { min: first, max: last, disabled: !whole });
    input.value = at;
  }
  $(".from").textContent = low;
  $(".to").textContent = high;
  const share = (epoch) => (whole ? (100 * (epoch - first)) / (last - first) : epoch === low ? 0 : 100);
  Object.assign($(".part").style, { left: `${share(low)}%`, right: `${100 - share(high)}%` });
  $(".all").disabled = low === first && high === last;
  $(".range").style.visibility = figure.data.some((trace) => trace.x.length) ? "visible" : "hidden";
}

async function draw() {
  const Plotly = await library(), chart = $(".chart");
  if (!figure || !chart || !chart.clientWidth) return;
  drawnWidth = chart.clientWidth;
  const begin = performance.now();
  await Plotly.react(chart, figure.data, arrange(figure.layout), { displayModeBar: false, responsive: false });
  showRange();
  const end = performance.now();
  due = end + (LEISURE - 1) * (end - begin);
  if (!connected) connect(chart);
}

function connect(chart) {
  connected = true;
  chart.on("plotly_click", choose);
  chart.on("plotly_relayout", (change) => {
    for (const [key, value] of Object.entries(change)) {
      const match = key.match(/^xaxis\d*\.(range\[([01])\]|autorange)$/);
      if (!match) continue;
      if (match[1] === "autorange") Object.assign(range, { low: null, high: null });
      else if (match[2] === "0") setLow(Math.ceil(value));
      else setHigh(Math.floor(value));
    }
    showRange();
  });
}

// A finger does not hit one epoch of 500: the nearest saved one counts.
function choose(event) {
  const at = event.points[0]?.x, { low, high } = bounds();
  const near = figure.layout.meta.clickable.filter((epoch) => Math.abs(epoch - at) <= Math.max(0.5, (high - low) / 60));
  if (near.length) trigger("select", { epoch: near.reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a)) });
}

const setLow = (epoch) => { range.low = epoch <= figure.layout.meta.first ? null : epoch; };
const setHigh = (epoch) => { range.high = epoch >= figure.layout.meta.last ? null : epoch; };

function take() {
  if (!props.value) return;
  figure = JSON.parse(props.value);
  if (waiting) return;
  waiting = true;
  setTimeout(() => { waiting = false; draw(); }, Math.min(Math.max(0, due - performance.now()), LATEST_MS));
}

$("input.low").addEventListener("input", (event) => {
  setLow(Math.min(Number(event.target.value), bounds().high - 1));
  draw();
});
$("input.high").addEventListener("input", (event) => {
  setHigh(Math.max(Number(event.target.value), bounds().low + 1));
  draw();
});
$(".all").addEventListener("click", () => {
  Object.assign(range, { low: null, high: null });
  draw();
});
new ResizeObserver(() => { if ($(".chart")?.clientWidth !== drawnWidth) draw(); }).observe(element);
watch("value", take);
take();
