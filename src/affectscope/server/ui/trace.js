// One kept episode: its readings, what happened, and under which settings.
import "/ui/affect-trace.js";
import { get } from "/ui/api.js";
import { called, clock, h, lasting } from "/ui/dom.js";
import { Timeline, forks } from "/ui/timeline.js";

export async function show(main, shared, [id = ""]) {
  const found = await get(`/v1/affect/traces/${encodeURIComponent(id)}`), timeline = new Timeline(), shown = h("affect-trace"), facts = found.tags;
  shown.trace = { ...found, events: found.events.filter((event) => event.kind === "alarm" || event.kind === "fault") };
  for (const event of found.events) timeline.add(event);
  const settings = Object.entries(found.settings).map(([name, value]) => [h("dt", {}, name), h("dd", { class: "mono" }, typeof value === "object" ? JSON.stringify(value) : String(value))]);
  const kept = found.tokens.some((token) => token !== null);
  main.append(
    h("div", { class: "head" }, h("h1", {}, facts.talk ? `${called(facts.talk)}, a turn of ${clock(found.started)}` : `Trace of ${clock(found.started)}`), h("div", { class: "grow" }),
      h("a", { href: `#/history?session=${encodeURIComponent(facts.talk || "")}` }, "All its turns"),
      h("p", { class: "lead" }, [`ended: ${found.finished}`, `took ${lasting(found.ended - found.started)}`, facts.policy ? `policy ${facts.policy}` : "no policy", `tenant ${facts.tenant || "none"}`, ...(facts.reading_of ? [`a reading of ${facts.reading_of} by another model`] : [])].join(" · "))),
    h("div", { class: "cols" },
      h("div", {}, h("div", { class: "card" }, shown), kept ? null : h("p", { class: "soft small" }, "Each “·” is a token: the text was not kept (--keep-content)."),
        found.events.filter((event) => event.kind === "counterfactual").map(forks)),
      h("div", {}, timeline.box, h("section", { class: "card" }, h("details", {}, h("summary", {}, "Settings"), h("dl", {}, settings.flat())), h("p", { class: "soft small mono" }, found.id)))),
  );
}
