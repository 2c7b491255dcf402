// What the guard does when: the served policies, what fired in the kept traces, and what another policy would have done there.
import { get, post } from "/ui/api.js";
import { clock, counted, empty, failed, field, h, select } from "/ui/dom.js";

export async function show(main, shared) {
  const found = await get("/v1/affect/policies");
  main.append(h("div", { class: "head" }, h("h1", {}, "Policies"), h("p", { class: "lead" }, "A request may pick any of them. The first is the floor: no other guards less, or the server would not have started.")));
  if (!found.policies.length) return main.append(empty("No policy is served", "Replies are read and nothing is done. Start the server with a calibration:", h("br"), h("pre", {}, "affectscope calibrate --policy cautious\naffectscope serve --calibration calibration.json --policy cautious")));
  main.append(...found.policies.map((one) => card(one, found.thresholds)), h("section", { class: "card" }, dry(shared, found)));
  return undefined;
}

function card({ policy, hash, floor, happened }, thresholds) {
  const rows = Object.entries(policy.rules).map(([name, rule]) => h("tr", {},
    h("td", { class: "name", data: { of: "rule" } }, h("b", {}, name)),
    h("td", { data: { of: "watches" } }, Object.entries(rule.concepts).map(([concept, weight]) => `${weight < 0 ? "− " : "+ "}${Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} `}${concept}`).join(" ")),
    h("td", { data: { of: "by" } }, `${rule.detector.replace("_", " ")}${Object.keys(rule.options).length ? ` (${Object.entries(rule.options).map(([k, v]) => `${k} ${v}`).join(", ")})` : ""}`),
    h("td", { class: "num", data: { of: "threshold" } }, thresholds.filter((t) => t.rule === name).map((t) => `${t.value.toFixed(2)}${t.stratum === "all" ? "" : ` in ${t.stratum}`}`).join(", ") || "–"),
    h("td", { data: { of: "then" } }, rule.ladder.map((rung) => h("span", { class: "rung" }, h("span", { class: "chip" }, rung.action.replace("_", " ")), rung.action === "steer" ? h("span", { class: "small" }, `${rung.options.concept} ${rung.options.s}`) : null))),
    h("td", { class: "num", data: { of: "alarms" } }, String(happened.alarm[name] || 0))));
  const { limits, barrier } = policy;
  return h("section", { class: "card" },
    h("div", { class: "tools" }, h("h2", {}, policy.name), floor ? h("span", { class: "chip running" }, "floor") : null, h("span", { class: "soft small mono" }, hash.slice(0, 16))), h("p", {}, policy.about),
    h("div", { class: "scroll" }, h("table", { class: "stack" }, h("thead", {}, h("tr", {}, ["rule", "watches", "by", "threshold", "then, if it does not help", "alarms kept"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows))),
    h("p", { class: "soft small" }, `Doses up to ${limits.s_max} mean norms; at most ${limits.budget} actions a session, then it stops; ${counted(limits.hold_back, "token")} held back. A tool call under alarm ${barrier.on_alarm === "human" ? `waits ${barrier.seconds} s for a person` : "is held"}. On a fault: ${policy.on_fault}${Object.entries(policy.faults).map(([fault, what]) => `, on ${fault}: ${what}`).join("")}.`),
    Object.keys(happened.action).length ? h("p", { class: "small chips" }, "Actions in its kept traces: ", Object.entries(happened.action).map(([name, count]) => h("span", { class: "chip" }, `${name.replace("_", " ")} ${count}`))) : null);
}

function dry(shared, { policies }) {
  if (shared.info && !shared.info.traces) return [h("h2", {}, "Dry run"), h("p", { class: "soft" }, "No traces are kept here, so there is nothing to decide over.")];
  const which = select([...policies.map(({ policy }) => [policy.name, policy.name]), ["", "one of my own (YAML)"]], policies[0].policy.name, { name: "policy", onchange: () => { text.parentElement.hidden = which.value !== ""; } });
  const text = h("textarea", { name: "yaml", rows: 10, class: "mono", spellcheck: false, placeholder: "format: affectscope/policy@1\nname: …\nrules: …" }), limit = h("input", { type: "number", name: "limit", min: 1, max: 500, value: 100 });
  const go = h("button", { type: "submit", class: "main" }, "Decide over them"), shown = h("div", { role: "status" });
  const own = field("policy as YAML, with rules that the calibration knows", text, { hidden: true, class: "field" });
  async function run(event) {
    event.preventDefault();
    go.disabled = true;
    shown.replaceChildren(h("p", { class: "soft" }, "Deciding…"));
    try {
      shown.replaceChildren(...outcome(await post("/v1/affect/dry-run", { ...(which.value ? { policy: which.value } : { yaml: text.value }), limit: Number(limit.value) })));
    } catch (error) {
      shown.replaceChildren(failed(error));
    }
    go.disabled = false;
  }
  return [h("h2", {}, "Dry run"), h("p", { class: "soft" }, "What would have happened under a policy, over the last kept traces. Nothing is run again and nothing is done; every decision after the first is as if nothing had been done before."),
    h("form", { onsubmit: run }, h("div", { class: "tools" }, field("policy", which), field("last traces", limit), go), own), shown];
}

function outcome({ policy, hash, traces, left_out: left }) {
  const acted = traces.filter((row) => row.first), totals = new Map();
  for (const row of traces) for (const [name, count] of Object.entries(row.acts)) totals.set(name, (totals.get(name) || 0) + count);
  if (!traces.length) return [empty("There was no trace to decide over", left ? `${left} were read with other vectors.` : "")];
  return [h("p", {}, h("b", {}, `${policy} would have acted in ${acted.length} of ${counted(traces.length, "trace")}`), ` (${(100 * acted.length / traces.length).toFixed(1)} %). `, h("span", { class: "soft small mono" }, hash.slice(0, 16)), left ? h("span", { class: "soft small" }, ` ${left} left out: read with other vectors.`) : null),
    h("p", { class: "chips" }, [...totals].map(([name, count]) => h("span", { class: "chip" }, `${name.replace("_", " ")} ${count}`))),
    acted.length ? h("div", { class: "scroll" }, h("table", { class: "stack" }, h("thead", {}, h("tr", {}, ["when", "first action", "at token", "all actions", "tools at its end"].map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, acted.map((row) => h("tr", {}, h("td", { class: "name", data: { of: "when" } }, h("a", { href: `#/trace/${encodeURIComponent(row.trace)}` }, clock(row.started))), h("td", { data: { of: "first" } }, row.first), h("td", { class: "num", data: { of: "at" } }, String(row.position)), h("td", { data: { of: "all" } }, Object.entries(row.acts).map(([name, count]) => `${name.replace("_", " ")} ${count}`).join(", ")), h("td", { data: { of: "tools" } }, row.closed ? "held" : "free")))))) : null].filter(Boolean);
}
