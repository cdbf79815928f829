// A rectangle on a slice. `props.value` is { src, height, width, least, most, region: [row, column, height, width], alt };
// the buttons trigger `select` with { region }, null for the training's own choice.
const $ = (name) => element.querySelector(name);
const MOVE = 8, TAP = 5; // px of the slice per key, px of the screen that are no drawing yet
let region = null, size = "", start = null;

const slice = () => (props.value && props.value.src ? props.value : null);
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
const side = (length, whole) => Math.min(clamp(Math.round(length), slice().least, slice().most), whole);

// Sides that can be shown, inside the slice.
function place(row, column, height, width) {
  const s = slice(), rows = side(height, s.height), columns = side(width, s.width);
  region = [clamp(Math.round(row), 0, s.height - rows), clamp(Math.round(column), 0, s.width - columns), rows, columns];
  draw();
}

function draw() {
  const s = slice(), mark = $(".mark");
  mark.hidden = !s || !region;
  $(".take").disabled = $(".automatic").disabled = !s;
  if (!s || !region) return;
  const [row, column, height, width] = region;
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(mark.style, {
    top: percent(row, s.height), left: percent(column, s.width), height: percent(height, s.height), width: percent(width, s.width),
  });
  $(".place").textContent = `Rows ${row}–${row + height - 1}, columns ${column}–${column + width - 1} (${height} × ${width} px)`;
}

function show() {
  const s = slice(), image = $("img");
  if (s) {
    image.src = s.src;
    $(".stage").style.setProperty("--aspect", s.width / s.height);
    $(".stage").setAttribute("aria-label", `${s.alt}: rectangle of the part to watch`);
    const now = `${s.height} ${s.width} ${s.region}`;
    // What was drawn stays when another slice of the same stack is shown.
    if (now !== size || !region) region = [...s.region];
    size = now;
  } else {
    image.removeAttribute("src");
    [region, size] = [null, ""];
    $(".place").textContent = "";
  }
  draw();
}

function point(event) {
  const area = $("img").getBoundingClientRect(), s = slice();
  const column = clamp(((event.clientX - area.left) / area.width) * s.width, 0, s.width);
  return { row: clamp(((event.clientY - area.top) / area.height) * s.height, 0, s.height), column, x: event.clientX, y: event.clientY };
}

const stage = $(".stage");
stage.addEventListener("pointerdown", (event) => {
  if (!slice()) return;
  stage.setPointerCapture(event.pointerId);
  start = point(event);
});
stage.addEventListener("pointermove", (event) => {
  if (!start) return;
  const now = point(event);
  if (Math.hypot(now.x - start.x, now.y - start.y) < TAP) return;
  const height = side(Math.abs(now.row - start.row), slice().height), width = side(Math.abs(now.column - start.column), slice().width);
  // The corner where drawing began stays where it is.
  place(now.row < start.row ? start.row - height : start.row, now.column < start.column ? start.column - width : start.column, height, width);
});
stage.addEventListener("pointerup", (event) => {
  if (!start) return;
  const now = point(event), [, , height, width] = region;
  if (Math.hypot(now.x - start.x, now.y - start.y) < TAP) place(now.row - height / 2, now.column - width / 2, height, width);
  start = null;
});
stage.addEventListener("pointercancel", () => { start = null; });
const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
stage.addEventListener("keydown", (event) => {
  const way = keys[event.key];
  if (!way || !region || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [row, column, height, width] = region, [down, right] = way.map((part) => part * MOVE);
  if (event.shiftKey) place(row, column, height + down, width + right);
  else place(row + down, column + right, height, width);
});
$(".take").addEventListener("click", () => trigger("select", { region }));
$(".automatic").addEventListener("click", () => trigger("select", { region: null }));
watch("value", show);
show();
