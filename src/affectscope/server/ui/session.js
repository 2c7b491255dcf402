// One conversation as it runs: its text coloured by a concept, how near each alarm is, and what was done about it.
import "/ui/affect-trace.js";
import { ApiError, listen, may, post, request } from "/ui/api.js";
import { called, chip, clock, empty, failed, gauge, h, moodOf, toast } from "/ui/dom.js";
import { Timeline, forks } from "/ui/timeline.js";

const AGAIN = 3000; // milliseconds until a refused stream is asked for again

export async function show(main, shared, [name = ""], query) {
  const tenant = query.get("tenant"), at = `${encodeURIComponent(name)}${tenant ? `?tenant=${encodeURIComponent(tenant)}` : ""}`, of = `${encodeURIComponent(name)}/reset${at.slice(encodeURIComponent(name).length)}`;
  let stop = () => {}, left = false;
  const parts = { chip: chip("idle"), facts: h("p", { class: "lead" }), level: gauge(0, "Rule nearest to its alarm"), rule: h("span", { class: "num" }), tokens: h("span", { class: "num soft small" }), buttons: h("div", { class: "tools" }), forks: h("div", {}), note: h("p", { class: "soft small" }), trace: h("affect-trace") };
  const timeline = new Timeline();
  let told = null, fixed = null;
  const head = h("div", { class: "head" }, h("h1", {}, called(name)), parts.chip, h("div", { class: "grow" }), parts.buttons, parts.facts);
  const side = h("div", {}, h("section", { class: "card" }, h("h2", {}, "Now"), parts.level, h("p", {}, parts.rule), parts.tokens), timeline.box);
  main.append(head, h("div", { class: "cols" }, h("div", {}, h("div", { class: "card" }, parts.trace), parts.note, parts.forks), side));

  const heard = (message) => {
    if (message.over) return stop();
    if (message.session) {
      fixed = message.session;
      parts.trace.trace = { ...message.trace, tokens: [], roles: [], phases: [], generated: [], z: message.trace.concepts.map(() => []), events: [] };
      parts.facts.textContent = [fixed.policy ? `policy ${fixed.policy}` : "no policy", `tenant ${fixed.tenant}`, `began ${clock(fixed.began)}`, ...(fixed.source ? [`the text of ${fixed.source}, read by another model`] : [])].join(" · ");
      parts.note.textContent = message.content ? "" : "Each “·” is a token: this server does not show or keep what was said (--keep-content).";
      return undefined;
    }
    const steps = message.steps || [], happened = message.happened || [];
    if (steps.length) parts.trace.append(...steps.map((step) => ({ ...step, events: step.events })));
    for (const event of [...steps.flatMap((step) => step.events), ...happened].sort((a, b) => a.position - b.position)) {
      timeline.add(event);
      if (event.kind === "counterfactual") parts.forks.append(forks(event));
    }
    if (message.row) row(message.row, message.trace);
    return undefined;
  };
  function row([, phase, tokens, level, rule, alarms, acts], trace) {
    parts.chip.show(moodOf(phase, level));
    parts.level.show(level);
    parts.rule.textContent = rule ? `${rule}: ${level.toFixed(2)} of its threshold` : "no rule has a threshold";
    parts.tokens.textContent = `${tokens} tokens · ${alarms} alarms · ${acts} actions`;
    const now = `${phase} ${trace}`;
    if (now === told) return;
    told = now;
    parts.buttons.replaceChildren(
      ...(phase === "waiting" && may("control") ? [h("a", { href: "#/inbox" }, "Answer it in the inbox")] : []),
      ...(phase === "stopped" && may("control") ? [h("button", { type: "button", class: "danger", onclick: reset }, "Open it again")] : []),
      ...(trace ? [h("a", { href: `#/trace/${encodeURIComponent(trace)}` }, "Last kept trace")] : []),
      h("a", { href: `#/history?session=${encodeURIComponent(name)}` }, "All its turns"),
    );
  }
  async function reset() {
    if (!confirm(`Open “${name}” again? Its record will say that you did.`)) return;
    try {
      await post(`/v1/affect/sessions/${of}`, {});
      toast(`${name} is open again.`);
    } catch (error) {
      toast(error.message);
    }
  }
  async function lost() {
    stop();
    const look = new AbortController();
    try {
      await request(`/v1/affect/live/${at}`, { signal: look.signal });
      look.abort(); // it would go on
      setTimeout(hear, AGAIN);
    } catch (error) {
      if (left) return;
      if (error.status === 429 || error.status === 0) { setTimeout(hear, AGAIN); return; }
      if (error instanceof ApiError && error.status === 404) main.replaceChildren(empty(`“${name}” does not run any more`, h("a", { href: `#/history?session=${encodeURIComponent(name)}` }, "See its kept turns")));
      else main.replaceChildren(failed(error));
    }
  }
  const clear = () => { timeline.list.replaceChildren(); parts.forks.replaceChildren(); };
  function hear() {
    if (left) return;
    clear();
    stop = listen(`/v1/affect/live/${at}`, heard, { again: clear, lost, rests: true });
  }
  hear();
  return () => {
    left = true;
    stop();
  };
}
