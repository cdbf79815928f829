// A table whose lines can be chosen: `props.value` is { header, rows: [{ id, cells }], picked, tick }.
// Choosing a line triggers `select` with { id }; ticking lines triggers `tick` with { ids }.
const ticked = new Set();

function cell(kind, content) {
  const made = document.createElement(kind);
  made.append(content);
  return made;
}

function tickBox(row, table) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = ticked.has(row.id);
  box.setAttribute("aria-label", `${table.tick} ${row.cells[0]}`);
  box.addEventListener("change", () => {
    if (box.checked) ticked.add(row.id); else ticked.delete(row.id);
    trigger("tick", { ids: props.value.rows.map((other) => other.id).filter((id) => ticked.has(id)) });
  });
  return box;
}

function line(row, table) {
  const made = document.createElement("tr");
  const choose = document.createElement("button");
  choose.type = "button";
  choose.textContent = row.cells[0];
  if (table.tick) made.append(cell("td", tickBox(row, table)));
  row.cells.forEach((text, index) => made.append(cell("td", index ? text : choose)));
  made.dataset.id = row.id;
  made.addEventListener("click", (event) => {
    if (event.target.closest("input")) return;
    props.value.picked = row.id;
    for (const other of element.querySelectorAll("tbody tr")) {
      other.classList.toggle("picked", other === made);
      other.querySelector("button").setAttribute("aria-pressed", String(other === made));
    }
    trigger("select", { id: row.id });
  });
  return renew(made, row, table);
}

// What stands in a line may change while somebody is pressing its button: the line stays the same element.
function renew(made, row, table) {
  const cells = [...made.cells].slice(table.tick ? 2 : 1);
  cells.forEach((one, index) => {
    const text = String(row.cells[index + 1]);
    if (one.textContent !== text) one.textContent = text;
  });
  made.classList.toggle("picked", row.id === table.picked);
  made.querySelector("button").setAttribute("aria-pressed", String(row.id === table.picked));
  return made;
}

function show() {
  const table = props.value || { header: [], rows: [] };
  const head = document.createElement("tr");
  if (table.tick) head.append(cell("th", table.tick));
  for (const name of table.header) head.append(cell("th", name));
  for (const th of head.children) th.scope = "col";
  const focused = element.contains(document.activeElement) ? document.activeElement.closest("tr")?.rowIndex : 0;
  element.querySelector("thead").replaceChildren(...(table.rows.length ? [head] : []));
  const body = element.querySelector("tbody"), before = new Map([...body.rows].map((one) => [one.dataset.id, one]));
  const rows = table.rows.map((row) => {
    const kept = before.get(row.id);
    return kept ? renew(kept, row, table) : line(row, table);
  });
  if (rows.length !== body.rows.length || rows.some((one, at) => one !== body.rows[at])) body.replaceChildren(...rows);
  if (focused > 0) element.querySelectorAll("tr")[focused]?.querySelector("button")?.focus();
}

watch("value", show);
show();
