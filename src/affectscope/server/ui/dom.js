// Small helpers that every page uses. Whatever comes from a model or a person becomes a text node, never markup.

export function h(tag, given = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name in made && name !== "list" && name !== "form") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.flat().filter((part) => part !== null && part !== undefined && part !== false));
  return made;
}

export function svg(tag, given = {}, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

export const signed = (value, digits = 2) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value).toFixed(digits);
  return Number(size) === 0 ? size : `${value < 0 ? "−" : "+"}${size}`;
};
export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
export const clock = (seconds) => new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
export const lasting = (seconds) => {
  const s = Math.max(0, Math.round(seconds));
  return s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
};
// A reply without a session of its own has a number for a name.
export const unnamed = (name) => /^[0-9a-f]{32}$/.test(name);
export const called = (name) => (unnamed(name) ? `reply ${name.slice(0, 8)}` : name);
// Two tenants may have a session of one name.
export const sessionLink = (name, tenant) => `#/session/${encodeURIComponent(name)}${tenant ? `?tenant=${encodeURIComponent(tenant)}` : ""}`;
export const shortened = (text, most = 14) => (text.length > most + 2 ? `${text.slice(0, most)}…` : text);

// A named field of a form.
export const field = (label, input, more = {}) => h("label", more, label, input);
export const select = (options, value, given = {}) => {
  const made = h("select", given, options.map(([v, text]) => h("option", { value: v }, text)));
  made.value = value;
  return made;
};

export const empty = (title, ...more) => h("div", { class: "empty" }, h("b", {}, title), ...more);
export const failed = (error) => h("div", { class: "empty", role: "alert" }, h("b", {}, "This could not be shown"), error.message);

export function toast(text) {
  const made = h("div", { class: "toast" }, text);
  document.getElementById("toasts").append(made);
  setTimeout(() => made.remove(), 6000);
}
export const announce = (text) => { document.getElementById("said").textContent = text; };

// How near a rule is to its alarm. The mark stands at the threshold; colour repeats what length says.
export const colourOf = (level) => level >= 1 ? "var(--bad)" : level >= 0.6 ? "rgb(var(--hot))" : "rgb(var(--cold))";
export function gauge(level, label) {
  const bar = h("i");
  const made = h("div", { class: "gauge", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "1.25" }, bar, h("u"));
  made.show = (now) => {
    bar.style.width = `${Math.min(now / 1.25, 1) * 100}%`;
    bar.style.background = colourOf(now);
    made.setAttribute("aria-valuenow", Math.min(now, 1.25).toFixed(2));
    made.setAttribute("aria-valuetext", `${now.toFixed(2)} of the threshold`);
  };
  made.show(level);
  return made;
}

export const MOODS = { waiting: "waits for a person", stopped: "stopped", alarm: "in alarm", running: "running", idle: "idle", ended: "ended" };
const MARKS = { waiting: "?", stopped: "■", alarm: "▲", running: "●", idle: "○", ended: "✓" };
export const moodOf = (phase, level) => (phase === "running" || phase === "idle") && level >= 1 ? "alarm" : phase;
export function chip(mood) {
  const made = h("span", {});
  made.show = (now) => {
    made.className = `chip ${now}`;
    made.textContent = `${MARKS[now]} ${MOODS[now]}`;
  };
  made.show(mood);
  return made;
}
