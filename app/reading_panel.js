// How the images are read: other axes as chips, the channels as a table, the pixel size, the pairs of files.
// `props.value` is { readings: [{axes, text}], axes, given, channels: [{number, name, used, range}], pixel, pairs, more,
// problems }. A chip triggers `axes` with { axes }, the table triggers `channels` with { channels, names }.
const $ = (name) => element.querySelector(name);
const make = (kind, text, attributes = {}) => {
  const made = Object.assign(document.createElement(kind), attributes);
  if (text !== undefined) made.textContent = text;
  return made;
};

function chips(value) {
  const made = value.readings.map((reading) => {
    const chip = make("button", reading.text, { type: "button", className: "chip" });
    chip.setAttribute("aria-pressed", String(reading.axes === value.axes));
    chip.addEventListener("click", () => {
      if (reading.axes !== value.axes) trigger("axes", { axes: reading.axes });
    });
    return chip;
  });
  if (value.given) {
    const back = make("button", "as the file says", { type: "button", className: "chip plain" });
    back.addEventListener("click", () => trigger("axes", { axes: "" }));
    made.push(back);
  }
  $(".axes").replaceChildren(...made);
}

function changed() {
  const rows = [...$(".channels tbody").rows];
  const used = rows.filter((row) => row.querySelector("[type=checkbox]").checked);
  if (!used.length) return show(); // a network needs something to look at
  const names = used.map((row) => row.querySelector("[type=text]").value.trim());
  const all = used.length === rows.length;
  trigger("channels", {
    channels: all ? "" : used.map((row) => row.dataset.number).join(","),
    names: names.some(Boolean) ? names.map((name, at) => name || used[at].dataset.number) : [],
  });
}

function channels(value) {
  const rows = value.channels.map((channel) => {
    const row = make("tr"), box = make("input"), name = make("input");
    Object.assign(box, { type: "checkbox", checked: channel.used });
    Object.assign(name, { type: "text", value: channel.name, placeholder: `channel ${channel.number}` });
    box.setAttribute("aria-label", `Use channel ${channel.number}`);
    name.setAttribute("aria-label", `Name of channel ${channel.number}`);
    name.disabled = !channel.used;
    row.dataset.number = channel.number;
    for (const part of [box, name]) {
      part.addEventListener("change", changed);
      const cell = make("td");
      cell.append(part);
      row.append(cell);
    }
    row.append(make("td", channel.range));
    return row;
  });
  $(".channels").hidden = value.channels.length < 2;
  $(".channels tbody").replaceChildren(...rows);
}

function pairs(value) {
  const rows = value.pairs.map((pair) => {
    const row = make("tr");
    row.append(...pair.map((text) => make("td", text)));
    return row;
  });
  $(".pairs").hidden = value.pairs.length < 2;
  $(".pairs summary").textContent = value.more;
  $(".pairs tbody").replaceChildren(...rows);
}

function show() {
  const value = props.value;
  const there = Boolean(value && value.readings);
  $(".reading").hidden = !there;
  if (!there) return;
  chips(value);
  channels(value);
  pairs(value);
  $(".pixel").textContent = value.pixel;
}

watch("value", show);
show();
