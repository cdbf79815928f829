// Objects drawn by clicking. `props.value` is the JSON text of { note, data, planes, model, palette }; without images only the note.
// The server is asked for the slice, for the masks of a prompt, and to keep or remove objects; see app/mask_desk.py.
const $ = (name) => element.querySelector(name);
const TAP = 5, STEP = 1 / 128, FASTER = 8, FOLLOW_MS = 300, MASK = [240, 228, 66]; // px of the screen, shares of the slice
const SEEN = 1024; // px that a network sees: of larger slices people work on parts
const ready = new Set(); // slices that the network has seen
let shown = {}, plane = 0, part = null, slice = null, clicks = [], box = null, masks = [], choice = 0, cross = null, start = null;
let busy = false, ticket = 0, asking = 0;

const mode = () => $("input[name=masks-mode]:checked").value;
const request = (more = {}) => ({ data: shown.data, plane, part, model: shown.model, ...more });
const prompt = () => ({ points: clicks.map((one) => [one.row, one.column]), labels: clicks.map((one) => (one.inside ? 1 : 0)), box });
const seen = () => `${shown.data} ${plane} ${part}`;
const place = () => `${shown.model} ${seen()}`;
const clamp = (value, high) => Math.min(Math.max(value, 0), high);

function take() {
  const before = shown;
  shown = props.value ? JSON.parse(props.value) : {};
  $(".note").textContent = shown.note || "";
  $(".view").hidden = !shown.data;
  if (!shown.data) return;
  const same = before.data === shown.data;
  if (!same) [plane, part] = [0, null];
  Object.assign($("input.slice"), { max: shown.planes - 1, value: plane });
  $(".slices").hidden = shown.planes < 2;
  if (!same) look();
  else if (before.model !== shown.model) forget();
}

async function ask(name, content) {
  try {
    return (await server[name](content)) || { problem: "The server does not answer.", remedy: "Try again." };
  } catch {
    return { problem: "The server does not answer.", remedy: "Try again." };
  }
}

function tell(text, wrong = false) {
  $(".told").textContent = text;
  $(".told").classList.toggle("wrong", wrong);
}
const words = (answer) => [answer.problem, answer.remedy].filter(Boolean).join(" ");
const fail = (answer) => tell(words(answer), true);

async function look() {
  const mine = ++ticket;
  forget();
  $(".at").textContent = `${plane} / ${shown.planes - 1}`;
  const found = await ask("look", request());
  if (mine !== ticket) return;
  if (found.problem) {
    if (!part) return fail(found);
    part = null; // this slice is smaller
    return look();
  }
  slice = found;
  $(".closer").hidden = Boolean(part) || Math.max(...found.whole) <= SEEN;
  $(".whole").hidden = !part;
  if ($(".closer").hidden && mode() === "closer") $("input[value=inside]").checked = true;
  $("img").src = found.src;
  const stage = $(".stage");
  stage.style.setProperty("--aspect", found.width / found.height);
  stage.setAttribute("aria-label", `${found.name}${part ? `, rows ${part[0]} to ${part[2] - 1}, columns ${part[1]} to ${part[3] - 1}` : ""}: click an object to draw its mask`);
  await accepted(found);
  tell(ready.has(place()) ? "Click an object." : "Prepare the slice, or click an object at once: the network looks at the slice first.");
}

// Forgets the prompt; what is accepted stays.
function forget() {
  [clicks, box, masks, choice, cross, start] = [[], null, [], 0, null, null];
  asking += 1;
  draw();
}

async function pixels(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

// Paints the values of an 8-bit picture in colours, 0 stays clear.
async function paint(name, uri, colour) {
  const image = await pixels(uri), canvas = $(`canvas.${name}`);
  Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height);
  // Whole pixels by a table: a million arrays would take as long as the network.
  const table = new Uint32Array(256), bytes = new Uint8Array(table.buffer), words = new Uint32Array(data.data.buffer);
  for (let value = 1; value < 256; value += 1) bytes.set([...(colour(value) || MASK), 255], 4 * value);
  for (let index = 0; index < words.length; index += 1) words[index] = table[data.data[4 * index]];
  context.putImageData(data, 0, 0);
}

async function accepted(found) {
  const colours = shown.palette.map((text) => [1, 3, 5].map((from) => parseInt(text.slice(from, from + 2), 16)));
  await paint("numbers", found.numbers, (value) => colours[value - 1]);
  const objects = `${found.objects} object${found.objects === 1 ? "" : "s"} on this slice`;
  const worked = found.worked.length, last = found.worked.slice(0, 8).join(", ") + (worked > 8 ? ", …" : "");
  $(".worked").textContent = worked ? `${objects}; slices with objects: ${last}` : "No object is accepted yet.";
  $(".clear").disabled = !found.objects;
  $(".use").disabled = !worked;
  slice.objects = found.objects;
}

function draw() {
  const dots = clicks.map((one) => {
    const dot = document.createElement("div");
    dot.className = `dot ${one.inside ? "inside" : "outside"}`;
    set(dot, one.row, one.column);
    return dot;
  });
  $(".dots").replaceChildren(...dots);
  $(".box").hidden = !box;
  if (box) {
    const [top, left, bottom, right] = box;
    set($(".box"), top, left);
    Object.assign($(".box").style, { height: percent(bottom - top, slice.height), width: percent(right - left, slice.width) });
  }
  $(".cross").hidden = !cross;
  if (cross) set($(".cross"), cross.row, cross.column);
  if (!masks.length) $("canvas.mask").getContext("2d").clearRect(0, 0, $("canvas.mask").width, $("canvas.mask").height);
  $(".accept").disabled = busy || !masks.length;
  $(".other").disabled = busy || masks.length < 2;
  $(".undo").disabled = busy || !(clicks.length || box);
  $(".prepare").disabled = $(".everything").disabled = busy;
  $(".stage").setAttribute("aria-busy", busy);
}
const percent = (part, whole) => `${(100 * part) / whole}%`;
const set = (item, row, column) => Object.assign(item.style, { top: percent(row + 0.5, slice.height), left: percent(column + 0.5, slice.width) });

// Does something that takes its time, and says how long; others wait.
async function work(name) {
  if (busy) return false;
  busy = true;
  const here = place(), at = plane;
  // Who looks at another slice meanwhile is told which one it is about.
  const say = (text, wrong) => tell(here === place() ? text : `Slice ${at}: ${text}`, wrong);
  const failed = (answer) => say(words(answer), true);
  draw();
  say("Starting …");
  try {
    const begun = await ask(name, request());
    if (begun.problem) return failed(begun), false;
    for (;;) {
      const now = await ask("follow", { work: begun.work });
      if (now.problem) return failed(now), false;
      if (now.over) {
        ready.add(here);
        if (here !== place()) say(`done after ${now.seconds} s.`);
        return now;
      }
      say(now.text);
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_MS));
    }
  } finally {
    busy = false;
    draw();
  }
}

async function prepare() {
  if (ready.has(place())) return true;
  const here = place(), done = await work("prepare");
  if (done && here === place()) tell(`Ready after ${done.seconds} s. Click an object.`);
  return done;
}

// Asks for the masks of the clicks and the box that are there.
async function answer() {
  const here = place();
  asking += 1;
  if (!clicks.length && !box) {
    masks = [];
    draw();
    return tell("Click an object.");
  }
  draw();
  if (!(await prepare()) || here !== place()) return;
  const mine = ++asking;
  tell("The mask comes …");
  const found = await ask("mask", request(prompt()));
  if (mine !== asking) return;
  if (found.problem) {
    masks = [];
    draw();
    return fail(found);
  }
  [masks, choice] = [found.masks, 0];
  await show();
}

async function show() {
  const one = masks[choice];
  await paint("mask", one.src, () => MASK);
  draw();
  const sizes = masks.length > 1 ? ` Mask ${choice + 1} of ${masks.length}.` : "";
  tell(`Expected overlap with the object: ${Math.round(100 * clamp(one.score, 1))} %.${sizes}`);
}

function click(row, column) {
  if (!slice || busy) return;
  if (mode() === "remove") return remove(row, column);
  if (mode() === "closer") return closer(row, column);
  clicks.push({ row, column, inside: mode() !== "outside" });
  answer();
}

// Shows the part around a place in all its pixels.
function closer(row, column) {
  const [rows, columns] = slice.whole, height = Math.min(SEEN, rows), width = Math.min(SEEN, columns);
  const top = clamp(Math.round(row - height / 2), rows - height), left = clamp(Math.round(column - width / 2), columns - width);
  part = [top, left, top + height, left + width];
  look();
}

async function keep(name, more, text) {
  if (busy) return;
  const mine = ticket, found = await ask(name, request(more));
  if (mine !== ticket) return;
  if (found.problem) return fail(found);
  await accepted(found);
  tell(text(found));
}
async function remove(row, column) {
  const where = { row: Math.round(row), column: Math.round(column) };
  await keep("remove", where, (found) => (found.removed ? "The object is removed." : "There is no object at this place."));
}
async function accept() {
  if (!masks.length || busy) return;
  const more = { ...prompt(), choice };
  forget();
  await keep("accept", more, () => "Accepted. Click the next object.");
}
async function clear() {
  if (!window.confirm(`Remove all ${slice.objects} objects of this slice? This cannot be undone.`)) return;
  await keep("clear", {}, () => "The slice has no objects now.");
}
async function everything() {
  const here = seen();
  forget();
  const done = await work("everything");
  if (!done || here !== seen()) return;
  const mine = ticket, found = await ask("look", request());
  if (mine !== ticket) return;
  if (found.problem) return fail(found);
  await accepted(found);
  tell(done.found ? `${done.found} objects were found and accepted in ${done.seconds} s. Remove what is none.` : "Nothing more was found.");
}
function undo() {
  if (clicks.length) clicks.pop();
  else box = null;
  answer();
}

function point(event) {
  const area = $(".stage").getBoundingClientRect();
  const column = clamp(((event.clientX - area.left) / area.width) * slice.width - 0.5, slice.width - 1);
  return { row: clamp(((event.clientY - area.top) / area.height) * slice.height - 0.5, slice.height - 1), column, x: event.clientX, y: event.clientY };
}

const stage = $(".stage");
stage.addEventListener("pointerdown", (event) => {
  if (!slice || busy || event.button) return;
  start = point(event);
  if (mode() === "box") stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!start || mode() !== "box") return;
  const now = point(event);
  if (Math.hypot(now.x - start.x, now.y - start.y) < TAP) return;
  box = [Math.min(start.row, now.row), Math.min(start.column, now.column), Math.max(start.row, now.row), Math.max(start.column, now.column)];
  draw();
});
stage.addEventListener("pointerup", (event) => {
  if (!start) return;
  const now = point(event), moved = Math.hypot(now.x - start.x, now.y - start.y) >= TAP;
  start = null;
  cross = null;
  if (mode() !== "box") {
    if (!moved) click(now.row, now.column);
  } else if (moved && box && box[2] > box[0] && box[3] > box[1]) {
    clicks = [];
    answer();
  }
});
stage.addEventListener("pointercancel", () => { start = null; });
const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
stage.addEventListener("keydown", (event) => {
  if (!slice || event.ctrlKey || event.metaKey || event.altKey) return;
  const way = keys[event.key], step = STEP * (event.shiftKey ? FASTER : 1);
  if (way) {
    cross = cross || { row: slice.height / 2, column: slice.width / 2 };
    cross = {
      row: clamp(cross.row + way[0] * Math.max(1, step * slice.height), slice.height - 1),
      column: clamp(cross.column + way[1] * Math.max(1, step * slice.width), slice.width - 1),
    };
    draw();
  } else if (event.key === "Enter" && cross) click(cross.row, cross.column);
  else if (event.key === "Backspace") undo();
  else if (event.key.toLowerCase() === "a") accept();
  else return;
  event.preventDefault();
});
$("input.slice").addEventListener("input", (event) => {
  plane = Number(event.target.value);
  look();
});
$(".modes").addEventListener("change", () => stage.classList.toggle("drawing", mode() === "box"));
$(".prepare").addEventListener("click", async () => {
  if (ready.has(place())) tell("The slice is prepared. Click an object.");
  else await prepare();
});
$(".whole").addEventListener("click", () => {
  part = null;
  look();
});
$(".accept").addEventListener("click", accept);
$(".other").addEventListener("click", () => {
  choice = (choice + 1) % masks.length;
  show();
});
$(".undo").addEventListener("click", undo);
$(".everything").addEventListener("click", everything);
$(".clear").addEventListener("click", clear);
$(".use").addEventListener("click", () => trigger("select", { use: true }));
watch("value", take);
take();
