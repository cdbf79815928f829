// The queue: `props.value` is { groups: [{ title, jobs: [{ id, name, text, fraction, actions }] }], empty }.
// An action is { name, label, icon, ask, said, off }; choosing it triggers `apply` with { id, action }.
// A click answers at once: `said` replaces the buttons until the server has sent the next value.
let asking = "";
let acted = null;
const said = new Map();

function made(kind, className, ...content) {
  const one = document.createElement(kind);
  if (className) one.className = className;
  one.append(...content);
  return one;
}

function key(job, action) {
  return `${job.id} ${action}`;
}

function button(job, action, label, onClick) {
  const one = made("button", action.icon ? `act act-${action.icon}` : "icon", label);
  one.type = "button";
  one.dataset.key = key(job, action.name);
  one.disabled = Boolean(action.off);
  if (action.aria) one.title = action.aria;
  one.setAttribute("aria-label", `${action.aria || action.label}: ${job.name} ${job.id}`);
  one.addEventListener("click", onClick);
  return one;
}

function act(job, action) {
  asking = "";
  acted = { job: job.id, key: key(job, action.name) };
  said.set(job.id, action.said);
  show();
  trigger("apply", { id: job.id, action: action.name });
}

function question(job, action) {
  const yes = button(job, { ...action, name: `${action.name}!` }, action.label, () => act(job, action));
  yes.classList.add("stop");
  const no = button(job, { name: `${action.name}?`, label: "Keep", icon: "" }, "Keep", () => {
    asking = "";
    show(key(job, action.name));
  });
  no.classList.remove("icon");
  const box = made("div", "ask", made("span", "", action.ask), yes, no);
  box.setAttribute("role", "alertdialog");
  box.setAttribute("aria-label", action.ask);
  return box;
}

function progress(job) {
  const inner = made("div");
  inner.style.width = `${100 * job.fraction}%`;
  const bar = made("div", "bar", inner);
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", `${job.name}: ${job.text}`);
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  bar.setAttribute("aria-valuenow", String(Math.round(100 * job.fraction)));
  return bar;
}

function line(job) {
  const link = made("a", "name", job.name);
  link.href = `?run=${encodeURIComponent(job.id)}`;
  const what = made("div", "what", link, made("span", "id", job.id), made("div", "text", job.text));
  if (job.fraction !== null) what.append(progress(job));
  const one = made("li", "", what);
  if (said.has(job.id)) {
    const note = made("div", "text", said.get(job.id));
    note.setAttribute("role", "status");
    one.append(note);
    return one;
  }
  const buttons = job.actions.map((action) => button(job, action, action.label, () => {
    if (!action.ask) return act(job, action);
    asking = key(job, action.name);
    show(key(job, `${action.name}?`));
  }));
  one.append(made("div", "buttons", ...buttons));
  const asked = job.actions.find((action) => key(job, action.name) === asking);
  if (asked) one.append(question(job, asked));
  return one;
}

// Only what has changed is replaced: a button must not vanish under the finger that is pressing it.
function renew(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const before = [...old.children], after = [...fresh.children];
  const alike = after.length && before.length === after.length && old.cloneNode().isEqualNode(fresh.cloneNode());
  if (alike) before.forEach((child, at) => renew(child, after[at]));
  else old.replaceWith(fresh);
}

function show(focus) {
  const value = props.value || { groups: [], empty: "" };
  const inside = element.contains(document.activeElement) ? document.activeElement.dataset.key : "";
  const groups = value.groups.map((group) =>
    made("section", "", made("h3", "", group.title), made("ol", "", ...group.jobs.map(line))));
  const none = groups.length ? [] : [made("p", "none", value.empty)];
  renew(element.querySelector(".queue"), made("div", "queue", ...groups, ...none));
  const wanted = focus || inside;
  if (wanted) element.querySelector(`[data-key="${CSS.escape(wanted)}"]`)?.focus({ preventScroll: true });
}

watch("value", () => {
  said.clear();
  show(acted?.key);
  // Who works with the keyboard stays at the job, also where it was moved to the top and its button is off.
  if (acted && document.activeElement === document.body) {
    element.querySelector(`[data-key^="${CSS.escape(acted.job)} "]:not(:disabled)`)?.focus({ preventScroll: true });
  }
  acted = null;
});
show();
