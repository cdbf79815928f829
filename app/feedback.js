// The prediction of one part of a slice, epoch by epoch. `props.value` is the JSON text of { run, text, scenes: [{ name, height,
// width, what, classes: [[name, colour], …] }], shots: [[epoch, scene, stamp], …] }. The pictures are fetched once, the nearest
// to the shown epoch first, and painted here: moving the sliders asks nothing of the server.
const $ = (name) => element.querySelector(name);
const AT_ONCE = 40, UNANNOTATED = 255, STEP_MS = 120;
const pictures = new Map(), backdrops = new Map(); // by epoch and stamp; by the name of the scene
let recording = { run: "", scenes: [], shots: [] }, at = -1, follows = true, loading = false, ticket = 0, player = 0;

const key = ([epoch, , stamp]) => `${epoch}:${stamp}`;
const shot = () => recording.shots[at];

function take() {
  if (!props.value) return;
  const before = shot()?.[0], run = recording.run;
  recording = JSON.parse(props.value);
  if (recording.run !== run) {
    pictures.clear();
    backdrops.clear();
    stop();
    follows = true;
  }
  const known = new Set(recording.shots.map(key));
  for (const name of pictures.keys()) if (!known.has(name)) pictures.delete(name);
  const last = recording.shots.length - 1;
  const same = recording.shots.findIndex(([epoch]) => epoch >= before);
  at = follows || same < 0 ? last : same;
  $(".empty").textContent = recording.text;
  $(".view").hidden = last < 0;
  Object.assign($("input.epoch"), { max: Math.max(last, 0), disabled: last < 1 });
  $(".film").disabled = last < 1;
  show();
  fill();
}

async function fill() {
  if (loading) return;
  loading = true;
  try {
    for (;;) {
      const { run, shots } = recording;
      const missing = shots.map((one, index) => [Math.abs(index - at), one]).filter(([, one]) => !pictures.has(key(one)));
      if (!missing.length) break;
      const next = missing.sort((a, b) => a[0] - b[0]).slice(0, AT_ONCE).map(([, one]) => one);
      const found = await server.pictures({ run, epochs: next.map(([epoch]) => epoch) });
      if (!found) break; // the server is gone; the page asks again once it is back
      if (run !== recording.run) continue;
      const waits = shot() && !pictures.has(key(shot()));
      for (const one of next) pictures.set(key(one), found[one[0]] || "");
      if (waits) show();
    }
  } finally {
    loading = false;
  }
}

async function pixels(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

function backdrop(name) {
  if (!backdrops.has(name)) {
    backdrops.set(name, server.backdrop({ run: recording.run, scene: name }).then(async (found) => {
      if (!found.image || !found.label) throw new Error("gone");
      return { image: await pixels(found.image), label: await pixels(found.label) };
    }));
    backdrops.get(name).catch(() => backdrops.delete(name));
  }
  return backdrops.get(name);
}

function canvas(name, scene) {
  const made = $(`canvas.${name}`);
  if (made.width !== scene.width || made.height !== scene.height) Object.assign(made, { width: scene.width, height: scene.height });
  return made.getContext("2d", { willReadFrequently: true });
}

// The values of an 8-bit picture stand in its red channel.
function indices(context, image, { width, height }) {
  context.clearRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
}

function paintClasses(image, scene) {
  const context = canvas("classes", scene), data = indices(context, image, scene);
  const colours = scene.classes.map(([, colour]) => [1, 3, 5].map((from) => parseInt(colour.slice(from, from + 2), 16)));
  for (let index = 0; index < data.data.length; index += 4) {
    data.data.set(colours[data.data[index]] || [0, 0, 0], index);
  }
  context.putImageData(data, 0, 0);
}

function paintOutline(image, scene) {
  const context = canvas("outline", scene), data = indices(context, image, scene), { width, height } = scene;
  const label = Uint8Array.from({ length: width * height }, (_, index) => data.data[4 * index]);
  const differs = (one, other) => label[one] !== label[other] && label[one] !== UNANNOTATED && label[other] !== UNANNOTATED;
  for (let index = 0; index < label.length; index += 1) {
    const right = (index + 1) % width ? index + 1 : index, below = index + width < label.length ? index + width : index;
    data.data.set(differs(index, right) || differs(index, below) ? [255, 255, 255, 255] : [0, 0, 0, 0], 4 * index);
  }
  context.putImageData(data, 0, 0);
}

async function show() {
  const mine = ++ticket, one = shot();
  if (!one) return;
  const scene = recording.scenes[one[1]], newest = at === recording.shots.length - 1;
  const slider = $("input.epoch");
  slider.value = at;
  slider.setAttribute("aria-valuetext", `Epoch ${one[0]}`);
  $(".number").textContent = `Epoch ${one[0]}`;
  $(".newest").disabled = newest;
  const uri = pictures.get(key(one));
  if (uri === undefined) return; // shown as soon as it is here
  try {
    const [back, prediction] = await Promise.all([backdrop(scene.name), pixels(uri)]);
    if (mine !== ticket) return;
    paint(scene, back, prediction);
    $(".stage").setAttribute("aria-label", `Prediction after epoch ${one[0]}, over the image. ${scene.what}`);
    tell("");
  } catch {
    if (mine === ticket) tell("The picture of this epoch cannot be read.");
  }
}

function paint(scene, back, prediction) {
  const stage = $(".stage");
  if (stage.dataset.scene !== `${recording.run} ${scene.name}`) {
    stage.dataset.scene = `${recording.run} ${scene.name}`;
    stage.style.setProperty("--aspect", scene.width / scene.height);
    canvas("image", scene).drawImage(back.image, 0, 0);
    paintOutline(back.label, scene);
    $(".what").textContent = scene.what;
    $(".legend").replaceChildren(...scene.classes.filter(([name]) => name).map(legendLine));
  }
  paintClasses(prediction, scene);
}

function legendLine([name, colour]) {
  const line = document.createElement("li"), swatch = document.createElement("span");
  swatch.style.background = colour;
  line.append(swatch, name);
  return line;
}

function tell(text) { $(".told").textContent = text; }

function go(index) {
  at = Math.min(Math.max(index, 0), recording.shots.length - 1);
  follows = at === recording.shots.length - 1;
  show();
}

function stop() {
  clearInterval(player);
  player = 0;
  $(".play").textContent = "▶";
  $(".play").setAttribute("aria-label", "Play the epochs");
}

function play() {
  if (player) return stop();
  if (at >= recording.shots.length - 1) go(0);
  player = setInterval(() => { if (at >= recording.shots.length - 1 || !element.isConnected) stop(); else go(at + 1); }, STEP_MS);
  $(".play").textContent = "❚❚";
  $(".play").setAttribute("aria-label", "Pause");
}

async function download(button, ask, name) {
  button.disabled = true;
  tell("Being made …");
  try {
    const made = await ask({ run: recording.run, epoch: shot()[0], opacity: $(".opacity").value / 100, outline: $(".borders").checked });
    if (made.file) Object.assign(document.createElement("a"), { href: made.file, download: name }).click();
    tell(made.problem);
  } catch {
    tell("The server does not answer. Try again.");
  } finally {
    button.disabled = false;
  }
}

$("input.epoch").addEventListener("input", (event) => { stop(); go(Number(event.target.value)); fill(); });
$(".newest").addEventListener("click", () => { stop(); go(recording.shots.length - 1); });
$(".play").addEventListener("click", play);
$(".opacity").addEventListener("input", (event) => {
  $("canvas.classes").style.opacity = event.target.value / 100;
  $(".percent").textContent = `${event.target.value} %`;
});
$(".borders").addEventListener("change", (event) => { $("canvas.outline").hidden = !event.target.checked; });
$(".still").addEventListener("click", (event) => download(event.target, server.still, `${recording.run}-epoch-${shot()[0]}.png`));
$(".film").addEventListener("click", (event) => download(event.target, server.film, `${recording.run}-epochs.gif`));
$("canvas.classes").style.opacity = 0.5;
watch("value", take);
take();
