// <affect-trace>: the readings of one episode, token by token. No dependency, no build step; works from disk.
//
//   element.trace = {id, concepts, tokens, roles, phases, generated, z, cosine, layer, unit, events, watch}
//     (or the same as JSON in a child <script type="application/json">). `z` and the optional `cosine` are
//     [concept][token], null where a reading is missing; `events` are {position: index of the token, kind: "alarm" or
//     "fault", detail}; `watch` names concepts to draw first. A token of null is one whose text was not kept.
//   element.append({token, role, phase, generated, z: [by concept], events}, ...)   more tokens; painted once a frame
//   element.concept = "calm"   element.cursor = 12 (-1: none)   attributes `concept` and `compact` (the text alone)
//   Events: "affect-concept" {concept} and "affect-token" {index, pinned}, when a reader chooses.
"use strict";
(() => {
const FULL = 4; // |z| at which the colour is full
const EDGE = 16; // |z| beyond which the chart draws at its edge
const LINES = 5, MOVERS = 6, DASHES = ["", "7 3", "2 4", "10 3 2 3", "14 4"];
const SPEAKERS = ["system", "user", "assistant", "tool"];
const STYLE = `
:host{display:block;container-type:inline-size}:host([hidden]),[hidden]{display:none!important}
.box{--c:var(--card,#fff);--i:var(--ink,#1d2433);--s:var(--soft,#5a6376);--l:var(--line,#dfe1e6);--a:var(--accent,#0b6e99);--b:var(--bad,#9c1c2c);--h:var(--hot,194,87,26);--k:var(--cold,11,110,153);--full:.74;--0:#0b6e99;--1:#c2571a;--2:#0f7a55;--3:#8c4a9e;--4:#7a5c00;--user:#d5dae3;--system:#e9ebef;--assistant:#b3bccb;--tool:#dcd3c3;position:relative;color:var(--i);font:.94rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.box[data-theme=dark]{--c:var(--card,#1a2030);--i:var(--ink,#e8eaf0);--s:var(--soft,#a4adbf);--l:var(--line,#303950);--a:var(--accent,#58b4e0);--b:var(--bad,#ff9aa6);--h:var(--hot,242,146,90);--k:var(--cold,88,180,224);--full:.52;--0:#58b4e0;--1:#f2925a;--2:#5fd0a0;--3:#cf9be0;--4:#e3c55a;--user:#3a4560;--system:#272f42;--assistant:#55617f;--tool:#4b4434}
*{box-sizing:border-box}p{margin:0}.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}:focus-visible{outline:2px solid var(--a);outline-offset:2px}select,button{font:inherit;color:var(--i);background:var(--c);border:1px solid var(--s);border-radius:.4rem;padding:.3rem .6rem;max-width:100%;min-width:0}button{cursor:pointer}button:hover{border-color:var(--a)}.head{display:flex;flex-wrap:wrap;gap:.5rem 1.6rem;align-items:center;margin-bottom:.6rem}.pick{display:inline-flex;align-items:center;gap:.5rem;min-width:0}.pick select{font-weight:600}
.scale{display:grid;grid-template-columns:auto 12rem auto;gap:0 .5rem;align-items:center;font-size:.8rem;color:var(--s)}.scale i{height:.8rem;border-radius:.2rem;border:1px solid var(--l);background:linear-gradient(90deg,rgba(var(--k),var(--full)),rgba(var(--k),0) 50%,rgba(var(--h),0) 50%,rgba(var(--h),var(--full)))}.scale span{grid-column:2;display:flex;justify-content:space-between;font-variant-numeric:tabular-nums;line-height:1.2}.scale em{font-style:normal}.facts{color:var(--s);font-size:.85rem;display:flex;flex-wrap:wrap;gap:.2rem .9rem;align-items:center;margin-left:auto;overflow-wrap:anywhere}.next,.more{font-size:.85rem;padding:.15rem .55rem}.next{color:var(--b);font-weight:600}
.state{padding:1.2rem;border:1px dashed var(--s);border-radius:.5rem;color:var(--s);text-align:center;margin-bottom:.5rem}.text{max-height:21rem;overflow:auto;scroll-padding:2.5rem 0;border:1px solid var(--l);border-radius:.5rem;background:var(--c);padding:.35rem .8rem}.turn{display:grid;grid-template-columns:6rem minmax(0,1fr);gap:0 .8rem;padding:.15rem 0 .15rem .6rem;margin:.25rem 0;border-left:4px solid var(--l)}.turn.system{border-left-color:var(--system)}.turn.user{border-left-color:var(--user)}.turn.assistant{border-left-color:var(--assistant)}.turn.tool{border-left-color:var(--tool)}.turn.template{border-left-color:transparent;margin:0}
.who{font-size:.8rem;font-weight:650;line-height:1.35;padding-top:.4rem;overflow-wrap:anywhere}.who small{display:block;font-weight:400;color:var(--s);font-size:.75rem}.template .who{font-weight:400;color:var(--s);font-size:.72rem;padding-top:.15rem}.words{line-height:2;white-space:pre-wrap;overflow-wrap:anywhere;min-width:0}.template .words{white-space:normal;color:var(--s);font:.76rem/1.7 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}.t{border-radius:.18em;padding:.14em 0;-webkit-box-decoration-break:clone;box-decoration-break:clone}.t.hot{background-color:rgba(var(--h),calc(var(--z)*var(--full)))}.t.cold{background-color:rgba(var(--k),calc(var(--z)*var(--full)))}
.template .t{background-color:transparent;border-radius:0}.template .t.hot{box-shadow:inset 0 -2px rgba(var(--h),var(--z))}.template .t.cold{box-shadow:inset 0 -2px rgba(var(--k),var(--z))}.t.missing{text-decoration:underline dotted var(--s) 2px;text-underline-offset:.25em}.t.line::before{content:"↵";color:var(--s)}.t.part::before,.t.unkept::before{content:"·";padding:0 .18em}.t.part::before{color:var(--s);padding:0}
.t.fault{background-image:repeating-linear-gradient(135deg,var(--s) 0 1px,transparent 1px 5px);outline:1px dashed var(--s)}.t.alarm{outline:2px solid var(--b);outline-offset:1px;margin:0 2px}.t.alarm::before{content:"▲";color:var(--b);background:var(--c);border-radius:.2em;font-size:.72em;padding:.1em .25em;margin-right:.25em;vertical-align:.12em}.t.pin::after{content:"◆";font-size:.6em;vertical-align:.6em}.words .t.here,.words .t:focus-visible{box-shadow:0 0 0 2px var(--c),0 0 0 4px var(--i);position:relative}.words .t:focus-visible:not(.alarm,.fault){outline:0}.keys{display:flex;flex-wrap:wrap;gap:.25rem 1.2rem;font-size:.78rem;color:var(--s);margin:.6rem 0 0;padding-left:.2rem}.keys .t{margin-right:.5em}
.foot{display:flex;flex-wrap:wrap;gap:.4rem .6rem;align-items:flex-start;margin:.6rem 0 .2rem}.read{flex:1 1 16rem;min-width:0;min-height:3.6em;padding:.1rem .7rem;border-left:3px solid var(--a);font-size:.9rem;font-variant-numeric:tabular-nums;overflow-wrap:break-word}.read b{font-weight:650}.read span{margin-right:.9em}.read .bad{color:var(--b);font-weight:600}.read .dim,.lines .dim{color:var(--s)}.lines{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;font-size:.84rem;margin:.7rem 0 .2rem;padding:0;list-style:none;font-variant-numeric:tabular-nums}.lines li{display:inline-flex;align-items:center;gap:.4rem}.lines li.own{font-weight:650}.lines svg{width:26px;height:8px;overflow:visible}
.chart{min-width:0;overflow:hidden}.chart svg{display:block;width:100%;height:auto;touch-action:pan-y;cursor:crosshair;font-size:11.5px;font-variant-numeric:tabular-nums}.chart text{fill:var(--s)}.chart .on{fill:var(--i)}.note{font-size:.78rem;color:var(--s)}
.movers{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(10rem,46%),1fr));gap:.4rem;margin:.35rem 0 0}.movers button{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:0 .5rem;text-align:left;padding:.3rem .6rem .4rem;font-size:.86rem;border-color:var(--l)}.movers [aria-pressed=true]{border-color:var(--i);box-shadow:inset 0 0 0 1px var(--i)}.movers b{font-weight:500;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.movers span{font-variant-numeric:tabular-nums}.movers i{grid-column:1/-1;height:.3rem;border-radius:.2rem;width:calc(var(--z)*100%);min-width:2px;background:rgb(var(--h))}.movers .cold i{background:rgb(var(--k))}
h3{font-size:.86rem;font-weight:650;margin:.9rem 0 0}details{margin-top:.9rem;font-size:.86rem}summary{cursor:pointer;font-weight:600}.wide{overflow:auto;max-height:20rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--l);overflow-wrap:anywhere}th{font-weight:600}:host([compact]) :is(.head,.keys,.graph,details){display:none}:host([compact]) .text{max-height:none;border:0;padding:.1rem 0}:host([compact]) .read{min-height:1.7em}:host([compact]) .foot{margin:.2rem 0 .4rem}
@container (max-width:34rem){.turn{grid-template-columns:minmax(0,1fr)}.who{padding-top:0}.who small{display:inline;margin-left:.5em}.scale{grid-template-columns:auto minmax(5rem,10rem) auto}.facts{margin-left:0}.text{max-height:18rem;padding:.3rem .5rem}.read{min-height:5.2em}}
@media print{.box,.box[data-theme=dark]{--c:#fff;--i:#000;--s:#444;--l:#ccc;--b:#9c1c2c;--h:194,87,26;--k:11,110,153;--full:.74;--0:#0b6e99;--1:#c2571a;--2:#0f7a55;--3:#8c4a9e;--4:#7a5c00;--user:#d5dae3;--system:#e9ebef;--assistant:#b3bccb;--tool:#dcd3c3;print-color-adjust:exact;-webkit-print-color-adjust:exact}.text{max-height:none!important;overflow:visible}.graph,.chart{break-inside:avoid}.more,.next,details,.keys>span:last-child{display:none!important}}`;

const make = (tag, name, ...inside) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...inside); // strings become text nodes, never markup
  return made;
};
const button = (name) => Object.assign(make("button", name), { type: "button" });
const draw = (tag, given, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
};
// What a trace holds for each token, under which name a step gives it, and how it is read.
const FIELDS = { tokens: "token", roles: "role", phases: "phase", generated: "generated" };
const READ = { tokens: (t) => (typeof t === "string" ? t : null), roles: (r) => String(r || "text"), phases: (p) => String(p || "none"), generated: Boolean };
const list = (value) => (Array.isArray(value) ? value : []);
const finite = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const between = (low, value, high) => Math.max(low, Math.min(value, high));
const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const signed = (value, digits = 2) => {
  if (value === null || value === undefined) return "no reading";
  const size = Math.abs(value).toFixed(digits);
  return Number(size) === 0 ? size : `${value < 0 ? "−" : "+"}${size}`;
};
const named = (token) => token === null ? "text not kept" : token === "" ? "part of a character" : `“${token.replace(/\n/g, "↵").replace(/\t/g, "⇥")}”`;
const pretty = (value) => typeof value === "number" ? String(Number(value.toPrecision(4))) : value && typeof value === "object" ? JSON.stringify(value) : String(value);

// An event in words: its rule or fault, and the numbers that decided, before the rest.
function told(event) {
  const { rule, fault, cause, statistic, threshold, ...rest } = event.detail && typeof event.detail === "object" ? event.detail : {};
  const parts = [[event.kind, rule, fault].filter((part) => part !== undefined).map(pretty).join(" "), ...(cause === undefined ? [] : [pretty(cause)])];
  if (statistic !== undefined) parts.push(`${pretty(statistic)} against a threshold of ${pretty(threshold)}`);
  return [...parts, ...Object.entries(rest).map(([key, value]) => `${key} ${pretty(value)}`)].join(", ");
}

// A round step that leaves at most `most` ticks: 1, 2 or 5 times a power of ten.
function roundStep(span, most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(span / most, 1)));
  return [1, 2, 5, 10].map((k) => k * power).find((size) => span / size <= most);
}

// Mean, lowest and highest of each run of `size` readings; null where none was taken.
function binned(row, size) {
  const found = [];
  for (let start = 0; start < row.length; start += size) {
    const some = row.slice(start, start + size).filter((z) => z !== null);
    found.push(some.length ? { at: start + (Math.min(size, row.length - start) - 1) / 2, mean: some.reduce((a, b) => a + b) / some.length, low: Math.min(...some), high: Math.max(...some) } : null);
  }
  return found;
}

// Sums by concept over one kind of token.
class Tally {
  constructor(concepts) {
    this.tokens = 0;
    [this.sum, this.count, this.top] = [0, 0, -1].map((start) => new Array(concepts).fill(start));
  }
  add(z, i) {
    this.tokens += 1;
    z.forEach((row, c) => {
      if (row[i] === null) return;
      this.sum[c] += row[i];
      this.count[c] += 1;
      if (this.top[c] < 0 || row[i] > row[this.top[c]]) this.top[c] = i;
    });
  }
  mean(c) { return this.count[c] ? this.sum[c] / this.count[c] : null; }
}

let sheet; // one for all elements
class AffectTrace extends HTMLElement {
  static get observedAttributes() { return ["concept", "compact"]; }
  constructor() {
    super();
    this._build(this.attachShadow({ mode: "open" }));
    this._wire();
    this._load(null);
  }
  connectedCallback() {
    for (const name of ["concept", "trace", "cursor"].filter((key) => Object.prototype.hasOwnProperty.call(this, key))) {
      const early = this[name]; // set before the element was known
      delete this[name];
      this[name] = early;
    }
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => this._fromScript(), { once: true });
    this._fromScript();
    this._dark = matchMedia("(prefers-color-scheme: dark)");
    this._theme = () => { this._ui.box.dataset.theme = document.documentElement.dataset.theme || (this._dark.matches ? "dark" : "light"); };
    this._dark.addEventListener("change", this._theme);
    (this._themes = new MutationObserver(this._theme)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    (this._sizes = new ResizeObserver(() => { if (this._ui.plot.clientWidth !== this._width) this._later(); })).observe(this._ui.plot);
    this._theme();
    this._later();
  }
  disconnectedCallback() {
    this._dark.removeEventListener("change", this._theme);
    [this._themes, this._sizes].forEach((observer) => observer.disconnect());
  }
  attributeChangedCallback(name, _before, value) {
    if (name === "concept") { if (value !== null) this.concept = value; return; }
    Object.assign(this._ui.more, { hidden: false, textContent: value === null ? "Text alone" : "Chart and numbers" });
    this._ui.more.setAttribute("aria-expanded", String(value === null));
  }
  get trace() { return this._data; }
  set trace(value) { this._given = true; this._load(value); this._later(); }
  get concept() { return this._data.concepts[this._c] || ""; }
  set concept(name) { this._wanted = String(name); this._choose(this._data.concepts.indexOf(this._wanted)); }
  get cursor() { return this._at; }
  set cursor(index) { this._go(this._data.tokens[index] === undefined ? -1 : index); }
  append(...all) { all.forEach((one) => (one instanceof Node || typeof one === "string" ? super.append(one) : this._add(one))); } // steps, or children as of any element
  _add(one) {
    const data = this._data, i = data.tokens.length;
    this._given = this._grew = true;
    this._trouble = "";
    for (const [key, from] of Object.entries(FIELDS)) data[key].push(READ[key](one[from]));
    for (const key of ["z", "cosine"]) data[key].forEach((row, c) => row.push(finite(list(one[key])[c])));
    this._count(i);
    for (const { kind, detail } of list(one.events)) {
      data.events.push({ position: i, kind, detail });
      this._mark(data.events[data.events.length - 1]);
      if (kind === "alarm") this._say(`Token ${i}: ${told({ kind, detail })}`);
    }
    this._later();
  }

  // ---- data
  _fromScript() {
    const script = this._given ? null : this.querySelector(':scope > script[type="application/json"]');
    if (!script) return;
    try { this.trace = JSON.parse(script.textContent); } catch (error) { this._trouble = "This trace cannot be read: its JSON is damaged."; this._later(); }
  }
  _load(value) {
    const given = value && typeof value === "object" ? value : {}, names = list(given.concepts).map(String);
    const count = Math.max(list(given.tokens).length, list(given.roles).length);
    const each = (key) => Array.from({ length: count }, (_, i) => READ[key](list(given[key])[i]));
    const grid = (rows) => names.map((_, c) => Array.from({ length: count }, (__, i) => finite(list(list(rows)[c])[i])));
    this._data = {
      id: String(given.id || ""), concepts: names, tokens: each("tokens"), roles: each("roles"), phases: each("phases"), generated: each("generated"),
      z: grid(given.z), cosine: given.cosine ? grid(given.cosine) : [], layer: given.layer === undefined ? null : given.layer, unit: String(given.unit || "z"),
      events: list(given.events).filter((e) => e && typeof e === "object"), watch: list(given.watch).filter((name) => names.includes(name)),
    };
    this._trouble = value ? "" : "No trace yet.";
    Object.assign(this, { _spans: [], _index: new WeakMap(), _turn: null, _dirty: new Set(), _at: -1, _pin: -1, _hover: -1, _stop: -1, _grew: false, _lined: null, _overlay: null });
    Object.assign(this, { _events: new Map(), _slots: new Map(), _every: new Tally(names.length), _made: new Tally(names.length) });
    for (let i = 0; i < count; i++) this._count(i);
    this._data.events.forEach((event) => this._mark(event));
    const first = [this._wanted, ...this._data.watch, names[this._ranked()[0]]].find((name) => names.includes(name));
    this._c = first === undefined ? Math.min(0, names.length - 1) : names.indexOf(first);
    this._ui.text.replaceChildren();
    this._ui.select.replaceChildren(...names.map((name) => new Option(name)));
    this._ui.select.selectedIndex = this._c;
  }
  _count(i) {
    if (this._data.roles[i] === "template") return;
    this._every.add(this._data.z, i);
    if (this._data.generated[i]) this._made.add(this._data.z, i);
  }
  _tally() { return this._made.tokens ? this._made : this._every; } // of what the model generated, where it did
  _over() {
    return this._made.tokens ? counted(this._made.tokens, "generated token") : counted(this._every.tokens, "token") + (this._every.tokens < this._data.tokens.length ? " outside the template" : "");
  }
  _ranked() {
    const tally = this._tally();
    return this._data.concepts.map((_, c) => c).filter((c) => tally.count[c]).sort((a, b) => tally.mean(b) - tally.mean(a));
  }
  _z(i, c = this._c) { return c < 0 || i < 0 ? null : this._data.z[c][i]; }
  // An event beyond the text stands at its nearest token: none is dropped.
  _mark(event) {
    const i = between(0, Number.isInteger(event.position) ? event.position : 0, this._data.tokens.length - 1);
    if (!this._events.has(i)) this._events.set(i, []);
    this._events.get(i).push(event);
    this._dirty.add(i);
  }
  _has(i, kind) { return (this._events.get(i) || []).some((event) => event.kind === kind); }
  _where(kind) { return [...this._events.keys()].filter((i) => this._has(i, kind)).sort((a, b) => a - b); }

  // ---- page
  _build(root) {
    const key = (kind, text) => make("span", "", make("span", `t ${kind}`, "text"), text);
    const ui = (this._ui = { select: make("select"), facts: make("span"), next: button("next"), state: make("p", "state"), text: make("div", "text"), read: make("div", "read"), more: button("more") });
    const scale = make("div", "scale", "below", make("i"), "above", make("span", "", ...["z −4", "−2", "0", "+2", "+4"].map((text) => make("em", "", text))));
    ui.head = make("div", "head", make("label", "pick", "concept ", ui.select), scale, make("div", "facts", ui.facts, ui.next));
    ui.marks = { alarm: key("alarm", "alarm"), fault: key("fault", "fault"), missing: key("missing", "no reading") };
    ui.keys = make("p", "keys", ...Object.values(ui.marks), make("span", "", "← → token · ↑ ↓ concept · A next alarm · Enter pins"));
    Object.assign(ui, { lines: make("ul", "lines"), plot: make("div", "chart"), note: make("p", "note"), over: make("h3"), movers: make("div", "movers"), table: make("table"), live: make("p", "sr"), summary: make("p", "sr") });
    ui.graph = make("div", "graph", ui.lines, ui.plot, ui.note, ui.over, ui.movers);
    ui.details = make("details", "", make("summary", "", "Numbers by concept"), make("div", "wide", ui.table));
    ui.box = make("div", "box", ui.head, ui.state, ui.text, ui.keys, make("div", "foot", ui.read, ui.more), ui.graph, ui.details, ui.live, ui.summary);
    [ui.more.hidden, ui.summary.id, ui.next.title] = [true, "summary", "go to the next alarm"];
    for (const [part, name, value] of [[ui.text, "role", "application"], [ui.live, "aria-live", "polite"], [ui.box, "role", "figure"], [ui.box, "aria-describedby", "summary"]]) part.setAttribute(name, value);
    if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    root.append(ui.box);
  }
  _wire() {
    const { select, next, more, details, movers, text, plot } = this._ui, at = (event) => this._index.get(event.target);
    const over = (event) => between(0, Math.floor(((event.clientX - plot.getBoundingClientRect().left - this._left) / this._inner) * this._data.tokens.length), this._spans.length - 1);
    const on = (part, kind, action) => part.addEventListener(kind, action);
    on(select, "change", () => this._pick(select.selectedIndex));
    on(next, "click", () => this._alarm(1));
    on(more, "click", () => { this.toggleAttribute("compact"); this._later(); });
    on(details, "toggle", () => this._numbers());
    on(movers, "click", (event) => { const chosen = event.target.closest("button"); if (chosen) this._pick(Number(chosen.dataset.c)); });
    on(text, "keydown", (event) => this._key(event));
    on(text, "focusin", (event) => { const i = at(event); if (i !== undefined && i !== this._at) { this._go(i); this._speak(); } });
    on(text, "pointerover", (event) => this._point(at(event)));
    on(text, "pointerleave", () => this._point(-1));
    on(text, "click", (event) => { const i = at(event); if (i !== undefined) { this._put(i); this._spans[i].focus({ preventScroll: true }); } });
    on(plot, "pointermove", (event) => { this._point(over(event)); this._show(this._hover); });
    on(plot, "pointerleave", () => this._point(-1));
    on(plot, "click", (event) => this._put(over(event)));
  }
  _tell(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true })); }
  _told() { this._tell("affect-token", { index: this._at, pinned: this._pin }); }

  // ---- what a reader does
  _key(event) {
    const last = this._spans.length - 1, at = Math.max(this._at, 0), concepts = this._data.concepts.length;
    const turn = (by) => () => { if (concepts) this._pick((this._c + by + concepts) % concepts); }, move = (i) => () => this._move(between(0, i, last));
    const action = {
      ArrowRight: move(at + 1), ArrowLeft: move(at - 1), Home: move(0), End: move(last), ArrowDown: turn(1), ArrowUp: turn(-1),
      a: () => this._alarm(1), A: () => this._alarm(-1), Enter: () => this._put(at), Escape: () => { if (this._pin >= 0) this._put(this._pin); },
    }[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
    this._speak();
  }
  _move(i) {
    this._write(); // the token may have come since the last frame
    this._go(i);
    this._spans[i].focus({ preventScroll: true });
    this._spans[i].scrollIntoView({ block: "nearest" });
    this._told();
  }
  _alarm(way) {
    const all = this._where("alarm"), ordered = way > 0 ? all : all.reverse();
    if (!ordered.length) return this._say("no alarms");
    const next = ordered.find((i) => (i - this._at) * way > 0);
    this._move(next === undefined ? ordered[0] : next);
    this._speak();
  }
  // Pins a token, or frees the pinned one.
  _put(i) {
    const before = this._pin;
    this._pin = i === before ? -1 : i;
    this._go(i === before && this._at >= 0 ? this._at : i);
    this._dress(before);
    this._told();
  }
  _go(i) {
    const [before, stop, hover] = [this._at, this._stop, this._hover];
    Object.assign(this, { _at: i, _hover: -1, _stop: i < 0 ? stop : i });
    [before, stop, hover, i].forEach((k) => this._dress(k));
    this._cross();
  }
  _point(i) {
    if (i === undefined || i === this._hover) return;
    const before = this._seen();
    this._hover = i;
    [before, this._seen()].forEach((k) => this._dress(k));
    this._cross();
  }
  _pick(c) {
    this._choose(c);
    this._wanted = this.concept;
    this._tell("affect-concept", { concept: this.concept });
    this._speak();
  }
  _choose(c) {
    if (c < 0 || c === this._c) return;
    this._ui.select.selectedIndex = this._c = c;
    this._spans.forEach((_, i) => this._dress(i));
    this._later();
  }
  // Brings a token into the box of text; the page stays.
  _show(i) {
    const box = this._ui.text, outer = box.getBoundingClientRect(), inner = this._spans[i].getBoundingClientRect();
    if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - box.clientHeight / 2;
  }
  _seen() { return this._hover >= 0 ? this._hover : this._at; }
  _say(text) { this._ui.live.textContent = text; }
  _speak() {
    if (this._at >= 0) this._say([`${named(this._data.tokens[this._at])}, token ${this._at}`, this._who(this._at), ...this._readings(this._at), ...(this._events.get(this._at) || []).map(told), ...(this._pin === this._at ? ["pinned"] : [])].join(", "));
    else if (this._c >= 0) this._say(`${this.concept}, mean z ${signed(this._tally().mean(this._c))}`);
  }
  _who(i) {
    const { roles, phases, generated } = this._data;
    return [roles[i], ...(phases[i] === "none" ? [] : [phases[i].replace("_", " ")]), ...(generated[i] ? ["generated"] : [])].join(", ");
  }
  _readings(i) {
    if (this._c < 0) return [];
    const cosine = (this._data.cosine[this._c] || [])[i];
    return [`${this.concept} ${this._z(i) === null ? "" : `${this._data.unit} `}${signed(this._z(i))}`, ...(typeof cosine === "number" ? [`cosine ${signed(cosine, 3)}`] : [])];
  }

  // ---- painting
  _later() { if (!this._frame && this.isConnected) this._frame = requestAnimationFrame(() => this._paint()); }
  _paint() {
    this._frame = 0;
    const ui = this._ui, data = this._data, tokens = data.tokens.length, concepts = data.concepts.length;
    const follow = this._grew && ui.text.scrollTop + ui.text.clientHeight > ui.text.scrollHeight - 40; // a reader at the end stays there
    this._grew = false;
    this._write();
    const missing = concepts ? data.z[this._c].filter((z) => z === null).length : 0, alarms = this._where("alarm").length, faults = this._where("fault").length;
    ui.state.textContent = this._trouble || (!tokens ? "This trace has no token yet." : !concepts ? "No concept was read: the text stands without colour." : missing === tokens ? `No reading of ${this.concept} could be taken.` : "");
    ui.state.hidden = !ui.state.textContent;
    ui.head.hidden = !tokens && !concepts;
    ui.text.hidden = ui.keys.hidden = ui.read.hidden = !tokens;
    ui.graph.hidden = ui.details.hidden = !tokens || !concepts;
    ui.facts.textContent = [...(data.id ? [data.id] : []), counted(tokens, "token"), ...(data.layer === null ? [] : [`layer ${data.layer}`]), ...(faults ? [counted(faults, "fault")] : [])].join(" · ");
    ui.next.textContent = `▲ ${counted(alarms, "alarm")}`;
    ui.next.hidden = ui.marks.alarm.hidden = !alarms;
    [ui.marks.fault.hidden, ui.marks.missing.hidden, ui.select.disabled] = [!faults, !missing, !concepts];
    ui.text.setAttribute("aria-label", `Text, coloured by ${this.concept || "nothing"}. Left and right move, up and down change the concept, a goes to the next alarm, Enter pins.`);
    ui.box.setAttribute("aria-label", `Readings of ${data.id || "one episode"}, token by token`);
    if (follow) ui.text.scrollTop = ui.text.scrollHeight;
    this._chart();
    this._strip();
    this._numbers();
    this._cross();
  }
  // Spans for tokens that have none yet, in a block for each run of one speaker.
  _write() {
    const { tokens, roles } = this._data;
    for (let i = this._spans.length; i < tokens.length; i++) {
      const who = this._who(i);
      if (!this._turn || this._turn.who !== who) {
        const more = who.split(", ").slice(1).filter((part) => part !== "answer").join(", ");
        this._turn = { who, words: make("div", "words"), line: null };
        this._ui.text.append(make("div", `turn ${[...SPEAKERS, "template"].includes(roles[i]) ? roles[i] : ""}`, make("div", "who", roles[i], ...(more ? [make("small", "", more)] : [])), this._turn.words));
      }
      const span = make("span", "t", tokens[i] || "");
      this._index.set(span, this._spans.push(span) - 1);
      if (!this._turn.line) this._turn.words.append((this._turn.line = make("div"))); // a block for each line, so that a new token lays out only its own
      this._turn.line.append(span);
      if (tokens[i] === null ? this._turn.line.childElementCount >= 200 : tokens[i].endsWith("\n") && roles[i] !== "template") this._turn.line = null;
      this._dirty.add(i);
    }
    if (this._stop < 0 && tokens.length) this._dirty.add((this._stop = Math.max(0, roles.findIndex((role) => role !== "template"))));
    this._dirty.forEach((i) => this._dress(i));
    this._dirty.clear();
  }
  // All that is seen of one token.
  _dress(i) {
    const span = this._spans[i];
    if (!span) return;
    const token = this._data.tokens[i], z = this._z(i), marks = { missing: this._c >= 0 && z === null, hot: z > 0, cold: z < 0, unkept: token === null, part: token === "", line: token && token.includes("\n"), alarm: this._has(i, "alarm"), fault: this._has(i, "fault"), pin: i === this._pin, here: i === this._seen() };
    span.className = ["t", ...Object.keys(marks).filter((name) => marks[name])].join(" ");
    span.style.setProperty("--z", Math.min(Math.abs(z || 0) / FULL, 1).toFixed(3));
    if (i === this._stop) span.tabIndex = 0;
    else span.removeAttribute("tabindex");
  }
  // The concepts of the chart: the chosen one, the watch-list, the highest. Each keeps its colour while it stays.
  _drawn() {
    const drawn = [...new Set([this._c, ...this._data.watch.map((name) => this._data.concepts.indexOf(name)), ...this._ranked()])].slice(0, LINES);
    for (const c of [...this._slots.keys()]) if (!drawn.includes(c)) this._slots.delete(c);
    const free = DASHES.map((_, k) => k).filter((k) => ![...this._slots.values()].includes(k));
    for (const c of drawn) if (!this._slots.has(c)) this._slots.set(c, free.shift());
    return drawn;
  }
  _chart() {
    const { plot, note, graph } = this._ui, count = this._data.tokens.length, width = plot.clientWidth;
    this._width = width;
    if (graph.hidden || !width) return;
    const height = width < 480 ? 230 : 270, left = 36, top = 30, bottom = height - 42;
    Object.assign(this, { _left: left, _inner: width - left - 8, _top: top, _bottom: bottom, _lined: this._drawn() });
    const size = Math.ceil(count / (this._inner / 3)), runs = this._lined.map((c) => binned(this._data.z[c], size)), seen = [0];
    runs.forEach((run, k) => run.forEach((p) => { if (p) seen.push(...(k ? [p.mean] : [p.low, p.high])); }));
    const low = Math.max(-EDGE, Math.floor(Math.min(-2, ...seen))), high = Math.min(EDGE, Math.ceil(Math.max(FULL, ...seen)));
    this._x = (i) => Number((left + ((i + 0.5) / count) * this._inner).toFixed(1));
    this._y = (z) => Number((bottom - ((between(low, z, high) - low) / (high - low)) * (bottom - top)).toFixed(1));
    this._overlay = draw("g", {});
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Lines of ${this._lined.map((c) => this._data.concepts[c]).join(", ")} over ${counted(count, "token")}` });
    svg.append(...this._axes(low, high, width), ...this._bands(), ...runs.map((run, k) => this._line(run, k)).reverse().flat(), ...this._ticks(), this._overlay);
    plot.replaceChildren(svg);
    note.textContent = [size > 1 ? `Each point is the mean of ${size} tokens; the band spans lowest to highest of ${this.concept}. ` : "", seen.some((z) => Math.abs(z) > EDGE) ? `Readings beyond ±${EDGE} are drawn at the edge.` : ""].join("");
  }
  _axes(low, high, width) {
    const { _left: left, _bottom: bottom } = this, count = this._data.tokens.length, each = high - low > 20 ? 8 : high - low > 12 ? 4 : 2, found = [];
    for (let z = Math.ceil(low / each) * each; z <= high; z += each)
      found.push(draw("path", { d: `M${left} ${this._y(z)}H${width - 8}`, stroke: z ? "var(--l)" : "var(--s)", "stroke-width": z ? 1 : 1.5 }), draw("text", { x: left - 6, y: this._y(z) + 4, "text-anchor": "end" }, signed(z, 0)));
    const along = roundStep(count, this._inner / 70), word = width - 44;
    for (let i = 0; i < count; i += along) {
      found.push(draw("path", { d: `M${this._x(i)} ${bottom + 20}v4`, stroke: "var(--s)" }));
      if (this._x(i) < word - 14 || i === 0) found.push(draw("text", { x: this._x(i), y: bottom + 37, "text-anchor": "middle" }, String(i)));
    }
    return [...found, draw("text", { x: 2, y: 12 }, this._data.unit === "z" ? "z (s.d. from baseline)" : this._data.unit), draw("text", { x: width - 8, y: bottom + 37, "text-anchor": "end" }, "token")];
  }
  // Who speaks, below the lines.
  _bands() {
    const { roles } = this._data, found = [];
    for (let start = 0, i = 1; i <= roles.length; i++) {
      if (i < roles.length && roles[i] === roles[start]) continue;
      const from = this._x(start - 0.5), span = this._x(i - 0.5) - from, known = SPEAKERS.includes(roles[start]);
      found.push(draw("rect", { x: from, y: this._bottom + 4, width: Math.max(span - 0.6, 0.4), height: 15, fill: known ? `var(--${roles[start]})` : "none", stroke: known ? "none" : "var(--l)" }));
      if (span > roles[start].length * 6.4 + 6) found.push(draw("text", { x: from + span / 2, y: this._bottom + 15.5, "text-anchor": "middle", class: known ? "on" : "" }, roles[start]));
      start = i;
    }
    return found;
  }
  _line(run, k) {
    const c = this._lined[k], colour = `var(--${this._slots.get(c)})`, found = [];
    let path = "", band = [];
    run.concat(null).forEach((p, b) => {
      if (p) {
        path += `${run[b - 1] ? "L" : "M"}${this._x(p.at)} ${this._y(p.mean)}${run[b - 1] || run[b + 1] ? "" : "h.01"}`; // a lone reading is a dot
        band.push(p);
        return;
      }
      const edge = (points, side) => points.map((q) => `${this._x(q.at)} ${this._y(q[side])}`).join("L");
      if (!k && band.some((q) => q.high > q.low)) found.push(draw("path", { d: `M${edge(band, "high")}L${edge(band.slice().reverse(), "low")}Z`, fill: colour, "fill-opacity": 0.2 }));
      band = [];
    });
    return [...found, draw("path", { d: path || "M0 0", fill: "none", stroke: colour, "stroke-width": k ? 1.4 : 2.4, "stroke-dasharray": DASHES[this._slots.get(c)], "stroke-linecap": path.includes("h") ? "round" : "butt", "stroke-linejoin": "round" })];
  }
  _ticks() {
    const down = (i, dash, colour) => draw("path", { d: `M${this._x(i)} ${this._top - 2}V${this._bottom}`, stroke: colour, "stroke-width": 1.3, "stroke-dasharray": dash });
    const faults = this._where("fault").flatMap((i) => [down(i, "1 3", "var(--s)"), draw("path", { d: `M${this._x(i) - 3} ${this._top - 10}l6 6m0-6l-6 6`, stroke: "var(--s)", "stroke-width": 1.6 })]);
    return [...faults, ...this._where("alarm").flatMap((i) => [down(i, "3 3", "var(--b)"), draw("path", { class: "tick", d: `M${this._x(i)} ${this._top - 12}l5 9h-10z`, fill: "var(--b)" })])];
  }
  // Cursor and pin, with the numbers that go with them.
  _cross() {
    const i = this._seen(), { read, lines, graph } = this._ui, { tokens, concepts } = this._data, tally = this._tally(), pin = this._pin;
    if (!tokens.length) return;
    const mark = ([at, dash]) => [draw("path", { d: `M${this._x(at)} ${this._top - 2}V${this._bottom + 20}`, stroke: "var(--i)", "stroke-dasharray": dash }), ...(this._z(at) === null ? [] : [draw("circle", { cx: this._x(at), cy: this._y(this._z(at)), r: 4, fill: "var(--c)", stroke: "var(--i)", "stroke-width": 2 })])];
    if (this._overlay && !graph.hidden) this._overlay.replaceChildren(...[[pin, ""], [i, "4 3"]].filter(([at]) => at >= 0).flatMap(mark));
    const span = (text, name) => make("span", name, text), top = tally.top[this._c];
    const bottom = this._c < 0 || top < 0 ? [] : [span(`mean ${this._data.unit} of ${this.concept} ${signed(tally.mean(this._c))} over ${this._over()}`), span(`highest ${signed(this._z(top))} at token ${top}, ${named(tokens[top])}`, "dim")];
    const here = i < 0 ? bottom : [make("span", "", make("b", "", named(tokens[i]))), span(`token ${i} · ${this._who(i)}`, "dim"), ...this._readings(i).map((text) => span(text)), ...(this._events.get(i) || []).map((event) => span(`${event.kind === "alarm" ? "▲ " : ""}${told(event)}`, "bad"))];
    const away = pin < 0 || pin === i || this._c < 0 ? [] : [span(`◆ pinned ${named(tokens[pin])}, token ${pin}: ${signed(this._z(pin))}${this._z(pin) === null || this._z(i) === null || i < 0 ? "" : `; from there ${signed(this._z(i) - this._z(pin))}`}`, "dim")];
    read.replaceChildren(...here, ...away);
    if (graph.hidden || !this._lined) return;
    lines.replaceChildren(make("li", "dim", i < 0 ? "mean:" : `token ${i}:`), ...this._lined.map((c, k) => {
      const swatch = draw("svg", { "aria-hidden": "true" });
      swatch.append(draw("path", { d: "M0 4H26", stroke: `var(--${this._slots.get(c)})`, "stroke-width": k ? 1.6 : 3, "stroke-dasharray": DASHES[this._slots.get(c)] }));
      return make("li", k ? "" : "own", swatch, concepts[c], make("span", "dim", signed(i < 0 ? tally.mean(c) : this._z(i, c))));
    }));
  }
  _strip() {
    const { over, movers, summary } = this._ui, tally = this._tally(), { concepts, tokens } = this._data, best = this._ranked().slice(0, MOVERS);
    over.textContent = `Highest mean z over ${this._over()}`;
    while (movers.childElementCount > best.length) movers.lastElementChild.remove();
    best.forEach((c, k) => { // buttons are kept, so that focus stays while tokens stream
      const one = movers.children[k] || movers.appendChild(button(""));
      if (!one.firstChild) one.append(make("b"), make("span"), make("i"));
      [one.children[0].textContent, one.children[1].textContent, one.dataset.c] = [concepts[c], signed(tally.mean(c)), c];
      one.className = tally.mean(c) < 0 ? "cold" : "";
      one.setAttribute("aria-pressed", String(c === this._c));
      one.style.setProperty("--z", Math.min(Math.abs(tally.mean(c)) / FULL, 1).toFixed(3));
    });
    const alarms = this._where("alarm").slice(0, 20).map((i) => `token ${i}, ${this._events.get(i).map(told).join("; ")}`);
    const highest = best.map((c) => `${concepts[c]} mean ${signed(tally.mean(c))}, highest ${signed(this._z(tally.top[c], c))} at token ${tally.top[c]}`);
    summary.textContent = `${counted(tokens.length, "token")}. Highest mean z over ${this._over()}: ${highest.join("; ") || "none"}. ${alarms.length ? `Alarms: ${alarms.join("; ")}.` : "No alarm."}`;
  }
  // The table of all concepts, while it is open.
  _numbers() {
    if (!this._ui.details.open) return;
    const { concepts, tokens } = this._data, tally = this._tally(), order = [...new Set([...this._ranked(), ...concepts.keys()])];
    const row = (kind, cells) => make("tr", "", ...cells.map((text, k) => make(k ? kind : "th", "", text)));
    const body = order.map((c) => row("td", [concepts[c], signed(tally.mean(c)), signed(this._z(tally.top[c], c)), tally.top[c] < 0 ? "" : `${tally.top[c]}, ${named(tokens[tally.top[c]])}`]));
    this._ui.table.replaceChildren(make("thead", "", row("th", ["concept", "mean z", "highest z", "at token"])), make("tbody", "", ...body));
  }
}
if (!customElements.get("affect-trace")) customElements.define("affect-trace", AffectTrace);
})();
