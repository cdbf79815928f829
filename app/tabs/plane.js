// Zoom and pan for one plane. `props.value` comes from the server: base picture (every step-th pixel), size, pixel size,
// and the request that made it; where zooming would show pixels that were left out, the server draws that window.
const $ = (name) => element.querySelector(name);
const view = { row: 0, column: 0, scale: 1, fitted: true };
const pointers = new Map();
let identity = "", timer = 0, asked = 0;

const plane = () => (props.value && props.value.src ? props.value : null);
const box = () => $(".stage").getBoundingClientRect();
const fitScale = (p) => Math.min(box().width / p.width, box().height / p.height) || 1;

function fit() {
  const p = plane();
  if (!p) return;
  Object.assign(view, { row: p.height / 2, column: p.width / 2, scale: fitScale(p), fitted: true });
}

function place(img, src, left, top, right, bottom) {
  if (img.getAttribute("src") !== src) img.setAttribute("src", src);
  const style = { left, top, width: right - left, height: bottom - top };
  for (const [key, size] of Object.entries(style)) img.style[key] = `${size}px`;
  img.style.display = "block";
}

function drawScaleBar(p) {
  const bar = $(".bar");
  bar.style.display = p.pixel ? "block" : "none";
  if (!p.pixel) return;
  const wanted = (110 / view.scale) * p.pixel;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = [5, 2, 1].map((step) => step * power).find((size) => size <= wanted) || power;
  $(".rule").style.width = `${(length / p.pixel) * view.scale}px`;
  $(".length").textContent = `${Number(length.toPrecision(3))} ${p.unit}`;
}

function apply() {
  const p = plane();
  if (!p) return;
  const { width, height } = box();
  if (view.fitted) fit();
  view.row = Math.min(Math.max(view.row, 0), p.height);
  view.column = Math.min(Math.max(view.column, 0), p.width);
  const x = width / 2 - view.column * view.scale, y = height / 2 - view.row * view.scale;
  const layers = $(".layers");
  layers.style.transform = `translate(${x}px, ${y}px) scale(${view.scale})`;
  layers.classList.toggle("crisp", view.scale > 1);
  $(".stage").classList.toggle("zoomed", !view.fitted);
  $(".zoom").textContent = `${Math.round(100 * view.scale)} %`;
  drawScaleBar(p);
  clearTimeout(timer);
  if (p.step > 1 && view.scale * p.step > 1.2) timer = setTimeout(askDetail, 250);
}

async function askDetail() {
  const p = plane(), ticket = ++asked;
  if (!p) return;
  const { width, height } = box();
  const half = { x: width / 2 / view.scale, y: height / 2 / view.scale };
  const bounds = [
    Math.max(0, Math.floor(view.row - half.y)), Math.min(p.height, Math.ceil(view.row + half.y)),
    Math.max(0, Math.floor(view.column - half.x)), Math.min(p.width, Math.ceil(view.column + half.x)),
  ];
  const src = await server.detail({ request: p.request, limits: p.limits, bounds });
  if (src && ticket === asked && p === plane()) {
    place($(".detail"), src, bounds[2], bounds[0], bounds[3], bounds[1]);
  }
}

function zoom(factor, at) {
  const p = plane();
  if (!p) return;
  const { width, height } = box();
  const x = at ? at.x - width / 2 : 0, y = at ? at.y - height / 2 : 0;
  const smallest = fitScale(p);
  const scale = Math.min(Math.max(view.scale * factor, smallest), 64);
  view.column += x / view.scale - x / scale;
  view.row += y / view.scale - y / scale;
  view.scale = scale;
  view.fitted = scale <= smallest;
  apply();
}

function pan(x, y) {
  if (view.fitted) return;
  view.column -= x / view.scale;
  view.row -= y / view.scale;
  apply();
}

function local(event) {
  const area = box();
  return { x: event.clientX - area.left, y: event.clientY - area.top };
}

function tell(event) {
  const p = plane(), at = local(event), area = box();
  if (!p) return;
  const column = Math.floor(view.column + (at.x - area.width / 2) / view.scale);
  const row = Math.floor(view.row + (at.y - area.height / 2) / view.scale);
  const inside = row >= 0 && column >= 0 && row < p.height && column < p.width;
  $(".place").textContent = inside ? `row ${row}, column ${column}` : "";
}

function show() {
  const p = plane(), message = (props.value && props.value.message) || "";
  $(".message").textContent = message;
  $(".layers").style.visibility = p ? "visible" : "hidden";
  $(".stage").setAttribute("aria-label", p ? p.alt : message);
  if (!p) { $(".bar").style.display = "none"; return; }
  if (p.identity !== identity) { identity = p.identity; view.fitted = true; }
  $(".detail").style.display = "none";
  place($(".base"), p.src, 0, 0, p.width, p.height);
  apply();
}

const acts = {
  in: () => zoom(1.5),
  out: () => zoom(1 / 1.5),
  fit: () => { view.fitted = true; apply(); },
  one: () => zoom(1 / window.devicePixelRatio / view.scale),
};
const keys = {
  "+": acts.in, "=": acts.in, "-": acts.out, 0: acts.fit,
  ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) acts[button.dataset.act]();
});
const stage = $(".stage");
stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), local(event));
}, { passive: false });
stage.addEventListener("dblclick", (event) => (view.fitted ? zoom(4, local(event)) : acts.fit()));
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, local(event));
});
stage.addEventListener("pointermove", (event) => {
  tell(event);
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = local(event);
  pointers.set(event.pointerId, now);
  if (pointers.size === 1) { pan(now.x - before.x, now.y - before.y); return; }
  const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
  const span = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
  zoom(span(now) / span(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
}
stage.addEventListener("pointerleave", () => { $(".place").textContent = ""; });
// The tab may be hidden, and so without a size, when the picture comes.
new ResizeObserver(() => apply()).observe(stage);
watch("value", show);
show();
