// All conversations that run now. The model of them is fed by one stream; the wall draws only the tiles that can be seen.
import { MOODS, announce, called, chip, colourOf, empty, h, moodOf, sessionLink, signed, svg, unnamed } from "/ui/dom.js";

const SHOWN = 4, PAST = 48; // concepts of a tile, levels of its line
const ORDER = { waiting: 5, stopped: 4, alarm: 3, running: 2, idle: 1, ended: 0 };
const SORT_EVERY = 1500, RISE = 300, SPOKEN = 1000, DRAWN = 200; // milliseconds between sorts, until an alarm rises, between labels and drawings of one tile
const BUDGET = 6; // tiles drawn a frame: a thousand conversations must not make the page stutter
const HIGH = 128, LINE = 38, WIDE = 272, GAP = 10, MARGIN = 2; // a tile, the space between, and rows drawn beyond the window

// What the stream has told. `changed` is called with the conversations of each message.
export class Model {
  constructor() {
    this.all = new Map();
    this.concepts = [];
    this.listeners = new Set();
  }
  clear() {
    this.all.clear();
    this._tell([], true);
  }
  take(told) {
    const changed = [];
    let other = false;
    for (const one of told.new || []) {
      this.all.set(one.number, { ...one, phase: "idle", mood: "idle", tokens: 0, level: 0, rule: "", alarms: 0, acts: 0, z: [], past: new Float32Array(PAST), at: 0 });
      other = true;
    }
    for (const [number, phase, tokens, level, rule, alarms, acts, z] of told.rows || []) {
      const one = this.all.get(number);
      if (!one) continue;
      const mood = moodOf(phase, level);
      if (mood !== one.mood) other = true;
      Object.assign(one, { phase, mood, tokens, level, rule, alarms, acts, z });
      one.past[one.at++ % PAST] = level;
      changed.push(one);
    }
    for (const number of told.gone || []) other = this.all.delete(number) || other;
    this._tell(changed, other);
  }
  _tell(changed, other) {
    for (const listener of this.listeners) listener(changed, other);
  }
}

// Levels count in steps, so that tiles do not change places for nothing.
const step = (one) => Math.floor(one.level * 5);
const before = (one, two) => ORDER[two.mood] - ORDER[one.mood] || step(two) - step(one) || two.number - one.number;

class Tile {
  constructor(one) {
    Object.assign(this, { one, dirty: false, drawn: 0 });
    this.ui = { name: h("span", { class: `name${unnamed(one.name) ? " soft" : ""}` }, called(one.name)), chip: chip(one.mood), tokens: h("span", { class: "tokens" }), line: svg("svg", { viewBox: `0 0 ${PAST - 1} ${LINE}`, preserveAspectRatio: "none", "aria-hidden": "true" }), path: svg("path", { class: "line" }), area: svg("path", { class: "area" }), number: h("b"), rule: h("small"), under: h("span", { class: "under" }) };
    this.ui.line.append(svg("path", { class: "limit", d: `M0 ${LINE * 0.2}H${PAST}` }), this.ui.area, this.ui.path);
    this.box = h("a", { class: "tile", href: sessionLink(one.name, one.tenant), tabIndex: -1, role: "listitem", data: { number: one.number } }, h("span", { class: "first" }, this.ui.name, this.ui.tokens, this.ui.chip), this.ui.line, h("span", { class: "level" }, this.ui.number, this.ui.rule), this.ui.under);
  }
  place(x, y, width) {
    const where = `translate(${x}px,${y}px)`;
    if (where === this.where && width === this.width) return;
    [this.where, this.width] = [where, width];
    this.box.style.cssText = `transform:${where};width:${width}px;height:${HIGH}px`;
  }
  draw(concepts, now) {
    const { one, ui } = this;
    [this.dirty, this.drawn] = [false, now];
    if (this.mood !== one.mood) {
      ui.chip.show(one.mood);
      this.box.dataset.mood = this.mood = one.mood;
    }
    [ui.number.textContent, ui.rule.textContent, ui.tokens.textContent] = [one.rule ? one.level.toFixed(2) : "", one.rule, `${one.tokens} tok`];
    const shown = concepts.slice(0, SHOWN);
    if (ui.under.childElementCount !== shown.length) ui.under.replaceChildren(...shown.map((name) => h("span", {}, name, h("b"))));
    shown.forEach((_, k) => { ui.under.children[k].lastChild.textContent = signed(one.z[k], 1); });
    this._line();
    if (now - (this.labelled || -SPOKEN) < SPOKEN) return;
    this.labelled = now;
    this.box.setAttribute("aria-label", `${one.name}: ${MOODS[one.mood]}${one.rule ? `, ${one.rule} at ${one.level.toFixed(2)} of its threshold` : ""}, ${one.tokens} tokens`);
  }
  _line() {
    const { one } = this, count = Math.min(one.at, PAST), y = (level) => ((1 - Math.min(level / 1.25, 1)) * LINE).toFixed(1);
    const points = Array.from({ length: count }, (_, i) => `${PAST - count + i} ${y(one.past[(one.at - count + i) % PAST])}`); // the newest at the right, as on an oscilloscope
    if (count === 1) points.unshift(`${PAST - 2} ${y(one.past[0])}`); // one reading is a dash
    const line = one.rule && count ? `M${points.join("L")}` : "";
    this.ui.path.setAttribute("d", line);
    this.ui.area.setAttribute("d", line && `${line}V${LINE}H${points[0].split(" ")[0]}Z`);
    this.ui.line.style.color = colourOf(one.level);
  }
}

export function show(main, shared) {
  const model = shared.live, tiles = new Map();
  let order = [], stale = true, moved = true, sorted = 0, frame = 0, timer = 0, only = "", wanted = "", active = 0, columns = 1;

  const counts = h("div", { class: "counts", role: "group", "aria-label": "Show only" });
  const find = h("input", { type: "search", placeholder: "name, policy, tenant", "aria-label": "Find", oninput: () => { wanted = find.value.trim().toLowerCase(); again(); } });
  const wall = h("div", { class: "wall", role: "list", "aria-label": "Conversations", onkeydown: key, onfocusin: (event) => focused(event) });
  const none = h("div", {}), lead = h("p", { class: "lead" }, ruled(shared.info));
  const buttons = new Map(Object.keys(ORDER).map((mood) => [mood, h("button", { type: "button", "aria-pressed": "false", onclick: () => { only = only === mood ? "" : mood; again(); } }, h("b"), mood === "waiting" ? "waiting" : MOODS[mood])]));
  counts.append(...buttons.values());
  main.append(h("div", { class: "head" }, h("h1", {}, "Wall"), counts, h("div", { class: "grow" }), find, lead), none, wall);

  function again() {
    stale = true;
    sorted = 0;
    paint();
  }
  function heard(changed, other) {
    for (const one of changed) {
      const tile = tiles.get(one.number);
      if (tile) tile.dirty = true;
    }
    if (other) [stale, sorted] = [true, Math.min(sorted, performance.now() - SORT_EVERY + RISE)];
    stale ||= changed.length > 0;
    paint();
  }
  const paint = () => { frame ||= requestAnimationFrame(draw); };
  const later = (wait) => { timer ||= setTimeout(() => { timer = 0; paint(); }, wait); };
  const move = () => { moved = true; paint(); };

  function draw(now) {
    frame = 0;
    const room = moved || stale ? measured() : null; // read before anything is written
    if (stale && now - sorted >= SORT_EVERY) sort(now);
    else if (stale) later(SORT_EVERY);
    if (moved) layout(room);
    const due = [...tiles.values()].filter((tile) => tile.dirty).sort((one, two) => one.drawn - two.drawn);
    for (const tile of due.slice(0, BUDGET)) if (now - tile.drawn >= DRAWN || tile.mood !== tile.one.mood) tile.draw(model.concepts, now);
    if (due.length) paint();
  }
  function sort(now) {
    [stale, moved, sorted] = [false, true, now];
    const all = [...model.all.values()], sums = Object.fromEntries(Object.keys(ORDER).map((mood) => [mood, 0]));
    for (const one of all) sums[one.mood] += 1;
    for (const [mood, button] of buttons) {
      button.firstChild.textContent = sums[mood].toLocaleString("en");
      button.setAttribute("aria-pressed", String(only === mood));
    }
    const fits = (one) => (!only || one.mood === only) && (!wanted || `${one.name} ${one.policy} ${one.tenant}`.toLowerCase().includes(wanted));
    order = all.filter(fits).sort(before);
    const alarms = all.filter((one) => one.mood === "alarm").map((one) => one.name);
    const fresh = alarms.filter((name) => !sort.before.has(name));
    if (fresh.length) announce(`In alarm: ${fresh.slice(0, 3).join(", ")}${fresh.length > 3 ? ` and ${fresh.length - 3} more` : ""}`);
    sort.before = new Set(alarms);
    none.replaceChildren(...(order.length ? [] : [all.length ? empty("Nothing fits", "Take the filter away to see all.") : welcome(shared.info)]));
  }
  sort.before = new Set();

  const measured = () => ({ wide: wall.clientWidth || 300, top: -wall.getBoundingClientRect().top });
  function layout({ wide, top }) {
    moved = false;
    columns = Math.max(1, Math.floor((wide + GAP) / (WIDE + GAP)));
    const width = Math.floor((wide - GAP * (columns - 1)) / columns), rows = Math.ceil(order.length / columns);
    const high = rows ? `${rows * (HIGH + GAP)}px` : "0px";
    if (wall.style.height !== high) wall.style.height = high;
    const first = Math.max(0, Math.floor(top / (HIGH + GAP)) - MARGIN), last = Math.ceil((top + innerHeight) / (HIGH + GAP)) + MARGIN;
    const seen = new Set();
    for (let i = first * columns; i < Math.min(order.length, last * columns); i++) {
      const one = order[i];
      seen.add(one.number);
      let tile = tiles.get(one.number);
      if (tile?.one !== one) {
        tile?.box.remove();
        tile = new Tile(one);
        tiles.set(one.number, tile);
        wall.append(tile.box);
      }
      const width0 = tile.width;
      tile.place((i % columns) * (width + GAP), Math.floor(i / columns) * (HIGH + GAP), width);
      if (width0 === undefined) tile.draw(model.concepts, performance.now());
      tile.box.tabIndex = (active ? one.number === active : i === 0) ? 0 : -1;
    }
    for (const [number, tile] of tiles) if (!seen.has(number) && (number !== active || !model.all.has(number))) { tile.box.remove(); tiles.delete(number); }
  }

  function focused(event) {
    const number = Number(event.target.closest(".tile")?.dataset.number);
    if (number) active = number;
  }
  function key(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey || !order.length) return;
    event.preventDefault();
    const from = Math.max(0, order.findIndex((one) => one.number === active)), to = Math.max(0, Math.min(order.length - 1, from + by));
    active = order[to].number;
    const y = wall.getBoundingClientRect().top + Math.floor(to / columns) * (HIGH + GAP);
    if (y < 70 || y + HIGH > innerHeight) scrollBy(0, y - innerHeight / 2);
    layout(measured());
    tiles.get(active)?.box.focus({ preventScroll: true });
  }
  const sizes = new ResizeObserver(move);
  model.listeners.add(heard);
  sizes.observe(wall);
  addEventListener("scroll", move, { passive: true });
  again();
  return () => {
    model.listeners.delete(heard);
    sizes.disconnect();
    removeEventListener("scroll", move);
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  };
}

function ruled(info) {
  if (!info) return "";
  if (info.mode === "proxy") return `Readings of the text by ${info.reader}, another model; not the state of the model that wrote it. The line is the rule nearest to its alarm; dashed: its threshold.`;
  if (!info.calibration) return "Readings without alarms: the server has no calibration.";
  return `The line is the rule nearest to its alarm; dashed: its threshold. Calibrated to at most ${(100 * info.calibration.alpha).toLocaleString("en")} % false alarms a conversation.`;
}

function welcome(info) {
  const url = `${location.origin}/v1`;
  return empty("No conversation runs now", "Point any OpenAI client here; each reply appears as it is written.", h("br"),
    h("pre", {}, `client = openai.OpenAI(base_url="${url}", api_key="as-…")\nclient.chat.completions.create(\n    model="${info ? info.model : "MODEL"}", messages=[…],\n    extra_body={"affect": {"session": "agent-1"}})`));
}
