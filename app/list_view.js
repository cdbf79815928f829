// A long table of which only the visible lines exist. `props.value` is the JSON text of
// { run, columns, rows: [[number or null, …], …], best }; the first column is the epoch.
const $ = (name) => element.querySelector(name);
const HEIGHT = 30, SPARE = 10;
let table = { run: "", columns: [], rows: [], best: null }, from = -1, to = -1;

function text(value, column) {
  if (value === null) return "–";
  if (column === 0) return value === table.best ? `★ ${value}` : String(value);
  return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function cells(kind, texts) {
  const line = document.createElement("tr");
  line.append(...texts.map((content) => Object.assign(document.createElement(kind), { textContent: content })));
  return line;
}

function room(lines) {
  const line = cells("td", [""]);
  line.className = "room";
  line.firstChild.style.height = `${lines * HEIGHT}px`;
  line.setAttribute("aria-hidden", "true");
  return line;
}

function showLines(again) {
  const first = Math.max(0, Math.floor($(".scroll").scrollTop / HEIGHT) - SPARE);
  const last = Math.min(table.rows.length, first + Math.ceil(($(".scroll").clientHeight || 420) / HEIGHT) + 2 * SPARE);
  if (!again && first === from && last === to) return;
  [from, to] = [first, last];
  const lines = table.rows.slice(first, last).map((row) => {
    const line = cells("td", row.map(text));
    line.classList.toggle("best", row[0] === table.best);
    return line;
  });
  $("tbody").replaceChildren(room(first), ...lines, room(table.rows.length - last));
}

function take() {
  if (!props.value) return;
  table = JSON.parse(props.value);
  const head = cells("th", table.columns);
  for (const th of head.children) th.scope = "col";
  $("thead").replaceChildren(head);
  $("table").setAttribute("aria-rowcount", table.rows.length + 1);
  $(".scroll").classList.toggle("empty", !table.rows.length);
  $(".count").textContent = table.rows.length ? `${table.rows.length} epochs, newest first` : "No epoch has ended yet.";
  $(".csv").disabled = !table.rows.length;
  showLines(true);
}

$(".scroll").addEventListener("scroll", () => requestAnimationFrame(() => showLines(false)));
$(".csv").addEventListener("click", async () => {
  const content = await server.download(table.run);
  if (!content) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  link.download = `${table.run}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
watch("value", take);
take();
