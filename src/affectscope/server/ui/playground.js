// Say something to the model, press a concept within the cap, and see two doses of it side by side, drawn with the same seed.
import "/ui/affect-trace.js";
import { may, stream } from "/ui/api.js";
import { empty, field, h, select, signed } from "/ui/dom.js";

export function show(main, shared) {
  const info = shared.info, concepts = info ? info.concepts : [], cap = info ? info.s_max : 0, steers = may("control") && cap > 0;
  if (info && info.mode === "proxy") return main.append(empty("There is no playground in front of another engine", "Its text is read here, but it cannot be steered."));
  const first = ["calm", "desperate"].find((name) => concepts.includes(name)) || concepts[0] || "";
  const inputs = {
    text: h("textarea", { name: "text", rows: 4, required: true }, "The tests cannot pass, and I need them green in five minutes. What do you do?"),
    concept: select(concepts.map((name) => [name, name]), first, { name: "concept" }),
    compare: h("input", { type: "checkbox", name: "compare", checked: steers }),
    policy: select([["", info?.policies?.length ? "the floor" : "none"], ...(info?.policies || []).map((p) => [p.name, p.name])], "", { name: "policy" }),
    tokens: h("input", { type: "number", name: "tokens", min: 1, max: 1024, value: 120 }),
    seed: h("input", { type: "number", name: "seed", min: 0, value: 1 }),
    heat: h("input", { type: "number", name: "temperature", min: 0, max: 2, step: 0.1, value: 0.7 }),
  };
  const dials = [dial("A", 0, cap, steers), dial("B", cap / 2, cap, steers)];
  const send = h("button", { class: "main", type: "submit" }, "Send"), halt = h("button", { type: "button", hidden: true, onclick: () => control?.abort() }, "Stop");
  const results = h("div", { class: "pair" });
  let control = null;
  const why = !may("control") ? "Steering needs a key with the scope control." : cap === 0 ? "There is nothing to steer with: no vectors, or none at a layer where a dose may enter." : `A dose is in mean residual norms. The policy's cap is ${cap.toFixed(3)}: beyond it content is distorted more than it is moved. Each dose is recorded with the name of your key.`;
  const form = h("form", { class: "card", onsubmit: run },
    field("message", inputs.text),
    h("div", { class: "tools" }, field("concept", inputs.concept), field("policy", inputs.policy), field("tokens", inputs.tokens), field("seed", inputs.seed), field("temperature", inputs.heat), h("label", {}, "two doses side by side", h("span", {}, inputs.compare))),
    h("div", { class: "pair" }, dials.map((one) => one.box)), h("p", { class: "soft small" }, why),
    h("div", { class: "tools" }, send, halt));
  // A policy of its own cap; a request that picks none has the floor's.
  const capped = () => {
    const picked = (info?.policies || []).find((p) => p.name === inputs.policy.value);
    dials.forEach((one) => one.cap(picked ? picked.s_max : cap));
  };
  inputs.policy.addEventListener("change", capped);
  const both = () => { dials[1].box.hidden = !inputs.compare.checked; };
  inputs.compare.addEventListener("change", both);
  both();
  main.append(h("div", { class: "head" }, h("h1", {}, "Playground"), h("p", { class: "lead" }, "Colour shows how far the representation of the concept lies from its baseline at each token. A dose enters no shallower than the layer that is read, so the reading sees only what it made the model say.")), form, results);

  async function run(event) {
    event.preventDefault();
    control?.abort();
    control = new AbortController();
    const mine = control, doses = inputs.compare.checked ? dials : dials.slice(0, 1);
    const panels = doses.map((one) => new Panel(one.name, one.value(), inputs.concept.value, [...new Set([inputs.concept.value, ...(info?.watched || [])])].filter((name) => concepts.includes(name))));
    results.replaceChildren(...panels.map((panel) => panel.box));
    [send.disabled, halt.hidden] = [true, false];
    const base = { model: info ? info.model : "", messages: [{ role: "user", content: inputs.text.value }], stream: true, max_tokens: Number(inputs.tokens.value), temperature: Number(inputs.heat.value), seed: Number(inputs.seed.value) };
    await Promise.all(panels.map(async (panel) => {
      const affect = { concepts: panel.concepts, policy: inputs.policy.value, ...(steers && panel.s ? { steer: { concept: panel.concept, s: panel.s } } : {}) };
      try {
        await stream("/v1/chat/completions", { ...base, affect }, (chunk) => panel.take(chunk), mine.signal);
        panel.end("");
      } catch (error) {
        panel.end(error.name === "AbortError" ? "stopped by you" : error.message);
      }
    }));
    if (control === mine) [send.disabled, halt.hidden] = [false, true];
  }
  return () => control?.abort();
}

function dial(name, start, cap, on) {
  const step = cap / 20 || 0.005, input = h("input", { type: "range", min: -cap, max: cap, step, value: start, disabled: !on, "aria-label": `Dose ${name}` }), told = h("output", {});
  const value = () => (on ? Number(Number(input.value).toFixed(4)) : 0);
  const tell = () => {
    told.textContent = value() === 0 ? "no dose" : `s = ${signed(value(), 3)}`;
    input.setAttribute("aria-valuetext", value() === 0 ? "no dose" : `${signed(value(), 3)} mean residual norms, cap ${cap.toFixed(3)}`);
  };
  input.addEventListener("input", tell);
  tell();
  const ends = [h("span"), h("span")];
  const box = h("div", { class: "dial" }, h("label", { class: "tools" }, h("b", {}, `Dose ${name}`), told), input, h("div", { class: "ticks", "aria-hidden": "true" }, ends[0], h("span", {}, "0"), ends[1]));
  const limit = (now) => {
    [input.min, input.max, input.step] = [-now, now, now / 20 || 0.005];
    [ends[0].textContent, ends[1].textContent] = [`−${now.toFixed(3)} cap`, `+${now.toFixed(3)} cap`];
    tell();
  };
  limit(cap);
  return { name, box, value, cap: limit };
}

class Panel {
  constructor(name, s, concept, concepts) {
    Object.assign(this, { s, concept, concepts, count: 0 });
    this.trace = h("affect-trace");
    this.trace.trace = { id: name, concepts, watch: [concept], tokens: [], roles: [], phases: [], generated: [], z: concepts.map(() => []), events: [], unit: "z" };
    this.trace.concept = concept;
    this.state = h("p", { class: "soft small", role: "status" }, "waits for its place…");
    this.more = h("div", { class: "tools small" });
    this.box = h("section", { class: "card", "aria-label": `Dose ${name}` }, h("h2", {}, `${name}: ${s ? `${concept} ${signed(s, 3)}` : "no dose"}`), this.trace, this.state, this.more);
  }
  take(chunk) {
    const told = chunk.affect;
    if (chunk.choices?.[0]?.finish_reason) this.finish = chunk.choices[0].finish_reason;
    if (!told) return;
    if (told.z) {
      const alarms = new Map((told.alarms || []).map((alarm) => [alarm.at, alarm]));
      this.trace.append(...told.text.map((token, i) => ({ token, role: "assistant", phase: "answer", generated: true, z: told.concepts.map((_, c) => told.z[i][c]), events: i === told.text.length - 1 ? [...alarms.values()].map((detail) => ({ kind: "alarm", detail })) : [] })));
      this.count += told.text.length;
      this.state.textContent = `${this.count} tokens`;
    }
    if (told.decision) this.more.append(h("span", { class: "chip alarm" }, `decided: ${(told.decision.acts || []).map((act) => act.action).join(", ") || told.decision.verdict}`));
    if (told.retract) this.more.append(h("span", { class: "chip waiting" }, `${told.retract} characters taken back`));
    if (told.finished !== undefined) this.summary = told;
  }
  end(trouble) {
    const mean = this.summary?.summary?.[this.concept]?.mean;
    this.state.textContent = trouble || `${this.count} tokens, ended: ${this.summary?.finished || this.finish || "unknown"}${mean === undefined ? "" : `; mean z of ${this.concept} ${signed(mean)}`}`;
    this.state.classList.toggle("bad", Boolean(trouble));
    if (this.summary?.trace) this.more.append(h("a", { href: `#/trace/${encodeURIComponent(this.summary.trace)}` }, "Its trace"));
  }
}
