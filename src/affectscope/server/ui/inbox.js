// Questions that wait for a person. No answer in time is a no.
import { get, post } from "/ui/api.js";
import { called, empty, failed, h, lasting, sessionLink, toast } from "/ui/dom.js";

const EVERY = 2000; // milliseconds between looks, beside those that the stream asks for

export async function show(main) {
  const list = h("div", {}), cards = new Map();
  main.append(h("div", { class: "head" }, h("h1", {}, "Inbox"), h("p", { class: "lead" }, "Each waits with its session held. No answer before the time is over is a no. Every answer is recorded with the name of your key.")), list);
  let stopped = false;

  async function look() {
    if (stopped) return;
    let found;
    try {
      found = (await get("/v1/affect/escalations")).data;
    } catch (error) {
      if (!cards.size) list.replaceChildren(failed(error));
      return;
    }
    for (const [id, card] of cards) if (!found.some((one) => one.id === id)) { card.box.remove(); cards.delete(id); }
    if (!found.length) return list.replaceChildren(empty("Nothing waits", "When a policy asks a person, the question stands here."));
    if (!cards.size) list.replaceChildren();
    for (const one of found) if (!cards.has(one.id)) {
      const card = question(one, look);
      cards.set(one.id, card);
      list.append(card.box);
    }
    return undefined;
  }
  const tick = setInterval(() => { for (const card of cards.values()) card.tick(); }, 500), every = setInterval(look, EVERY);
  addEventListener("questions", look);
  await look();
  return () => {
    stopped = true;
    clearInterval(tick);
    clearInterval(every);
    removeEventListener("questions", look);
  };
}

function question(one, look) {
  const left = h("b", { class: "num" }), buttons = [["approved", "Approve", "main"], ["denied", "Deny", "danger"]].map(([answer, text, kind]) => h("button", { type: "button", class: kind, onclick: () => say(answer) }, text));
  async function say(answer) {
    buttons.forEach((button) => { button.disabled = true; });
    try {
      await post(`/v1/affect/escalations/${encodeURIComponent(one.id)}`, { answer });
      toast(`${one.session}: ${answer}.`);
    } catch (error) {
      toast(error.message);
      buttons.forEach((button) => { button.disabled = false; });
    }
    look();
  }
  const tool = one.tool ? [h("h3", {}, `It wants to call ${one.tool.name}`), h("pre", { tabIndex: 0 }, JSON.stringify(one.tool.arguments, null, 2))] : [];
  const box = h("section", { class: "card", "aria-label": `Question of ${one.session}` },
    h("div", { class: "head" }, h("h2", {}, h("a", { href: sessionLink(one.session, one.tenant) }, called(one.session))), h("span", { class: "chip waiting" }, "? ", left, " left"), h("div", { class: "grow" }), ...buttons),
    h("p", {}, one.reason), ...tool,
    one.text ? h("div", {}, h("h3", {}, "What it said"), h("p", { class: "said", tabIndex: 0 }, one.text)) : h("p", { class: "soft small" }, "It had said nothing yet."),
    h("p", { class: "soft small" }, `tenant ${one.tenant}`));
  const card = { box, tick: () => { left.textContent = lasting(one.deadline - Date.now() / 1000); } };
  card.tick();
  return card;
}
