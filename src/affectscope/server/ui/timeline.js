// What happened in a conversation, in words: alarms, decisions, actions, tools, and counterfactual forks side by side.
import { h, signed, svg } from "/ui/dom.js";

const RANK = { alarm: 0, fault: 0, decision: 1, counterfactual: 2, action: 3 }; // at one token: what came, what was decided, what was done
const number = (value) => (typeof value === "number" ? Number(value.toPrecision(4)) : value);

export function told(event) {
  const d = event.detail || {};
  if (event.kind === "alarm") return [h("b", {}, `▲ ${d.rule}`), ` ${number(d.statistic)} over ${number(d.threshold)}${d.promised === false ? ", beyond the promise" : ""}`];
  if (event.kind === "fault") return [h("b", {}, `Fault: ${d.fault}`), ` ${d.cause || ""}`];
  if (event.kind === "decision") {
    const acts = (d.acts || []).map((act) => act.action).join(", ");
    const released = (d.released || []).length ? `released ${d.released.join(", ")}` : "";
    return [h("b", {}, `Decided: ${(acts || released || d.verdict).replace("_", " ")}`), d.reason ? ` ${d.reason}` : ""];
  }
  if (event.kind === "action") {
    const { act, rule, by, later, ...rest } = d;
    if (typeof d.s_milli === "number") return [h("b", {}, `Done: ${act} ${d.dose} ${signed(d.s_milli / 1000, 3)}`), ` (${rule}${by ? `, ${by}` : ""})${d.ttl < 1e6 ? ` for ${d.ttl} tokens` : " until it is changed"}, at layer ${(d.layers || []).join(", ")}`];
    const more = Object.entries(rest).filter(([, value]) => value !== "").map(([key, value]) => `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
    return [h("b", {}, `Done: ${String(act).replace("_", " ")}`), `${rule ? ` (${rule}${by ? `, ${by}` : ""})` : ""}${more ? ` ${more}` : ""}`];
  }
  if (event.kind === "counterfactual") return [h("b", {}, `Forked before ${d.act}`), ` ${(d.seeds || []).length} continuations with it and without`];
  return [h("b", {}, event.kind), ` ${JSON.stringify(d)}`];
}

export class Timeline {
  constructor() {
    this.list = h("ol", { class: "log" });
    this.none = h("p", { class: "soft small" }, "Nothing yet: no alarm, no decision.");
    this.box = h("section", { class: "card", "aria-label": "What happened" }, h("h2", {}, "What happened"), this.none, this.list);
  }
  add(event) {
    this.none.hidden = true;
    const place = [event.detail?.position ?? event.position, RANK[event.kind] ?? 1], made = h("li", { data: { kind: event.kind } }, h("span", { class: "at" }, `token ${place[0]} · `), ...told(event));
    made.place = place;
    const after = [...this.list.children].find((other) => other.place[0] > place[0] || (other.place[0] === place[0] && other.place[1] > place[1]));
    this.list.insertBefore(made, after || null);
  }
}

// The forks of one action: what was read with it, without it, and with words that say nothing, seed by seed.
export function forks(event) {
  const d = event.detail, arms = [["plain", "Without it"], ["acted", `With ${d.act}`], ["control", "With words that say nothing"]].filter(([arm]) => Array.isArray(d[arm]));
  const all = arms.flatMap(([arm]) => (d[`${arm}_z`] || []).flat());
  const low = Math.min(0, ...all), high = Math.max(1000, ...all), longest = Math.max(2, ...arms.flatMap(([arm]) => (d[`${arm}_z`] || []).map((row) => row.length)));
  return h("section", { class: "card", "aria-label": "Counterfactual" },
    h("h2", {}, `What if it had not been done? ${d.act}, rule ${d.rule}`),
    h("p", { class: "soft small" }, "Continuations of the same past with the same seeds. Shown is the held-out reading of the rule's concepts, which no rule sees, in s.d.; each line is one seed. Nothing that they wrote was released."),
    h("div", { class: "pair" }, arms.map(([arm, title]) => h("div", { class: "card" }, h("h3", {}, title), summary(d[arm], arm === "plain" ? null : d.plain), lines(d[`${arm}_z`] || [], low, high, longest, title), ...texts(d, arm)))));
}
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
function summary(values, plain) {
  const read = values.filter((value) => value !== null).map((value) => value / 1000);
  if (!read.length) return h("p", { class: "soft" }, "nothing could be read");
  const apart = plain ? values.flatMap((value, i) => (value === null || plain[i] === null || plain[i] === undefined ? [] : [(value - plain[i]) / 1000])) : [];
  return h("p", {}, h("b", { class: "num" }, signed(mean(read))), h("span", { class: "soft" }, ` mean of ${read.length}`), apart.length ? h("span", { class: "soft" }, `; less without it ${signed(mean(apart))} ${interval(apart)}, ${apart.length} pairs`) : null);
}
// 95 % of means of pairs drawn again; the same draws each time.
function interval(values) {
  if (values.length < 2) return "";
  let seed = 1;
  const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const means = Array.from({ length: 2000 }, () => mean(values.map(() => values[Math.floor(next() * values.length)]))).sort((a, b) => a - b);
  return `[${signed(means[50])}, ${signed(means[1949])}]`;
}
function lines(rows, low, high, longest, title) {
  const wide = 320, tall = 90, x = (i) => 4 + (i / (longest - 1)) * (wide - 8), y = (z) => tall - 6 - ((z - low) / (high - low)) * (tall - 12);
  const zero = svg("path", { d: `M0 ${y(0)}H${wide}`, stroke: "var(--edge)", "stroke-dasharray": "3 3" });
  const paths = rows.map((row) => svg("path", { d: `M${row.map((z, i) => `${x(i).toFixed(1)} ${y(z).toFixed(1)}`).join("L") || "0 0"}`, fill: "none", stroke: "var(--accent)", "stroke-width": "1.6", opacity: "0.75" }));
  const edge = (z) => {
    const made = svg("text", { x: 2, y: y(z) + (z === low ? -3 : 10), fill: "var(--soft)", "font-size": "10" });
    made.textContent = signed(z / 1000, 1);
    return made;
  };
  return svg("svg", { viewBox: `0 0 ${wide} ${tall}`, width: "100%", role: "img", "aria-label": `${title}: readings by token` }, zero, ...paths, edge(low), edge(high));
}
function texts(detail, arm) {
  const kept = detail[`${arm}_text`];
  if (!kept) return [];
  return [h("details", {}, h("summary", {}, "What it wrote"), kept.map((text, i) => h("p", { class: "said" }, h("span", { class: "soft small" }, `seed ${i + 1} `), text)))];
}
