// The data doctor: `props.value` is { text, proposals: [{key, level, what, where, remedy, changes, before, after,
// captions, repairs}], applied: [{line, text}] }. Buttons trigger `apply` with { key } and `undo` with { line }.
const PATIENCE = 5000;
const $ = (name) => element.querySelector(name);
const make = (kind, text, name = "") => {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  made.className = name;
  return made;
};

function button(text, action, name = "") {
  const made = make("button", text, name);
  made.type = "button";
  made.addEventListener("click", () => {
    const all = element.querySelectorAll("button");
    for (const one of all) one.disabled = true; // until the answer comes, or it is clear that none does
    setTimeout(() => all.forEach((one) => { one.disabled = false; }), PATIENCE);
    action();
  });
  return made;
}

function figure(source, caption) {
  const made = make("figure"), image = make("img");
  Object.assign(image, { src: source, alt: caption });
  made.append(image, make("figcaption", caption));
  return made;
}

function card(proposal) {
  const made = make("article", undefined, proposal.level);
  made.append(make("p", proposal.what, "what"));
  if (proposal.where) made.append(make("p", proposal.where, "where"));
  if (proposal.before) {
    const pictures = make("div", undefined, "pictures");
    pictures.append(figure(proposal.before, proposal.captions[0]), figure(proposal.after, proposal.captions[1]));
    made.append(pictures);
  }
  if (proposal.remedy) made.append(make("p", proposal.remedy, "remedy"));
  if (proposal.repairs) {
    const line = make("div", undefined, "line");
    line.append(button("Apply", () => trigger("apply", { key: proposal.key }), "apply"), make("code", proposal.changes));
    made.append(line);
  }
  return made;
}

function repair(step) {
  const made = make("li");
  made.append(make("span", step.text), make("code", step.line), button("Undo", () => trigger("undo", { line: step.line })));
  return made;
}

function show() {
  const value = props.value || {};
  const proposals = value.proposals || [], applied = value.applied || [];
  $(".text").textContent = value.text || "";
  $(".proposals").replaceChildren(...proposals.map(card));
  $(".applied").hidden = !applied.length;
  $(".applied ul").replaceChildren(...applied.map(repair));
}

watch("value", show);
show();
