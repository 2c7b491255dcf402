// Kept episodes, by what happened in them.
import { get } from "/ui/api.js";
import { called, clock, counted, empty, failed, field, h, lasting, select, sessionLink, shortened } from "/ui/dom.js";

const PAGE = 50;
const ACTIONS = ["offer_exit", "reprompt", "steer", "resample", "hold_tool", "human", "stop"];

export async function show(main, shared, _rest, query) {
  if (shared.info && !shared.info.traces) return main.append(empty("No traces are kept here", "Start the server with --db."));
  const inputs = {
    session: h("input", { type: "search", name: "session", value: query.get("session") || "", placeholder: "any" }),
    concept: select([["", "any"], ...watched(shared.info).map((name) => [name, name])], query.get("concept") || "", { name: "concept" }),
    alarm: select([["", "any"], ["true", "with an alarm"], ["false", "without"]], query.get("alarm") || "", { name: "alarm" }),
    action: select([["", "any"], ...ACTIONS.map((name) => [name, name.replace("_", " ")])], query.get("action") || "", { name: "action" }),
    since: h("input", { type: "datetime-local", name: "since", value: query.get("since") || "" }),
    until: h("input", { type: "datetime-local", name: "until", value: query.get("until") || "" }),
  };
  const form = h("form", { class: "tools", role: "search", onsubmit: (event) => { event.preventDefault(); search(); }, onchange: search },
    field("session", inputs.session), field("alarm of a rule on", inputs.concept), field("alarm", inputs.alarm), field("action", inputs.action), field("from", inputs.since), field("to", inputs.until), h("button", { type: "submit" }, "Search"));
  const body = h("tbody", {}), more = h("button", { type: "button", onclick: () => load(false) }, "Older ones"), note = h("p", { class: "soft small", role: "status" });
  const heads = ["when", "session", "policy", "tokens", "alarms", "ended", "took"];
  const table = h("table", { class: "stack" }, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))), body), state = h("div", {});
  main.append(h("div", { class: "head" }, h("h1", {}, "History"), h("p", { class: "lead" }, "What was read of past replies, the last one first. Text stands in them only where the server keeps it.")), h("div", { class: "card" }, form), note, h("div", { class: "card scroll" }, table, state), h("p", {}, more));
  let last = null, shown = 0, asked = 0;

  function search() {
    const kept = Object.entries(inputs).filter(([, input]) => input.value).map(([name, input]) => [name, input.value]);
    history.replaceState(null, "", `#/history${kept.length ? `?${new URLSearchParams(kept)}` : ""}`);
    return load(true);
  }
  async function load(anew) {
    const wanted = new URLSearchParams({ limit: String(PAGE) }), mine = ++asked;
    for (const name of ["session", "concept", "alarm", "action"]) if (inputs[name].value) wanted.set(name, inputs[name].value);
    for (const name of ["since", "until"]) if (inputs[name].value) wanted.set(name, String(new Date(inputs[name].value).getTime() / 1000));
    if (!anew && last !== null) wanted.set("before", String(last));
    let rows;
    try {
      rows = (await get(`/v1/affect/traces?${wanted}`)).data;
    } catch (error) {
      return state.replaceChildren(failed(error));
    }
    if (mine !== asked) return undefined;
    if (anew) { body.replaceChildren(); shown = 0; }
    body.append(...rows.map(line));
    shown += rows.length;
    last = rows.length ? rows[rows.length - 1].number : last;
    more.hidden = rows.length < PAGE;
    table.hidden = !shown;
    note.textContent = shown ? `${counted(shown, "trace")} shown` : "";
    return state.replaceChildren(...(shown ? [] : [empty("No trace fits", "Take a filter away, or send the server something to answer.")]));
  }
  await search();
  return undefined;
}

function line(row) {
  const cell = (of, given, ...inside) => h("td", { ...given, data: { of } }, ...inside);
  return h("tr", {},
    cell("when", { class: "name" }, h("a", { href: `#/trace/${encodeURIComponent(row.id)}` }, clock(row.started))),
    cell("session", {}, row.tags.talk ? h("a", { href: sessionLink(row.tags.talk, row.tags.tenant), title: row.tags.talk }, shortened(called(row.tags.talk), 24)) : "–"),
    cell("policy", {}, row.tags.policy || "–"),
    cell("tokens", { class: "num" }, `${row.generated} of ${row.tokens}`),
    cell("alarms", { class: "num" }, row.alarms ? h("span", { class: "chip alarm" }, `▲ ${row.alarms}`) : "0", row.faults ? h("span", { class: "chip waiting" }, `× ${row.faults}`) : null),
    cell("ended", {}, row.finished), cell("took", { class: "num" }, lasting(row.ended - row.started)));
}
const watched = (info) => (info ? info.rule_concepts || info.watched : []);
