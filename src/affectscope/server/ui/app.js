// The frame around the pages: who is signed in, which page is shown, and what stands in the top bar.
import { ApiError, get, listen, may, me, request } from "/ui/api.js";
import { announce, empty, failed, h } from "/ui/dom.js";
import * as wall from "/ui/wall.js";

const PAGES = [
  { path: "", title: "Wall", needs: "read", load: () => wall },
  { path: "inbox", title: "Inbox", needs: "control", load: () => import("/ui/inbox.js") },
  { path: "history", title: "History", needs: "read", load: () => import("/ui/history.js") },
  { path: "playground", title: "Playground", needs: "infer", load: () => import("/ui/playground.js") },
  { path: "vectors", title: "Vectors", needs: "read", load: () => import("/ui/vectors.js") },
  { path: "policies", title: "Policies", needs: "read", load: () => import("/ui/policies.js") },
  { path: "session", title: "Session", needs: "read", hidden: true, load: () => import("/ui/session.js") },
  { path: "trace", title: "Trace", needs: "read", hidden: true, load: () => import("/ui/trace.js") },
];
const main = document.getElementById("main"), nav = document.getElementById("nav"), status = document.getElementById("status");
let leave = () => {}, shown = 0;

// What all pages share: the server's facts, and the live conversations, heard once for all of them.
const shared = { info: null, live: new wall.Model(), server: { running: 0, queued: 0, questions: 0 }, connected: null };

// "#/history?session=a" is the page "history" with its query.
function where() {
  const [path, query = ""] = location.hash.slice(2).split("?"), [name, ...rest] = path.split("/");
  return { name, rest: rest.map(decodeURIComponent), query: new URLSearchParams(query) };
}

function bar() {
  const path = where().name;
  nav.replaceChildren(...PAGES.filter((page) => !page.hidden && may(page.needs)).map((page) => {
    const count = page.path === "inbox" && shared.server.questions ? h("span", { class: "badge", "aria-label": `${shared.server.questions} waiting` }, String(shared.server.questions)) : null;
    return h("a", { href: `#/${page.path}`, "aria-current": page.path === path ? "page" : null }, page.title, count);
  }));
  const line = { true: ["on", "live"], false: ["off", "no connection"], null: ["", "connecting"] }[shared.connected];
  status.replaceChildren(h("span", { class: `dot ${line[0]}`, "aria-hidden": "true" }), h("span", { class: "word" }, line[1]), h("span", {}, `${shared.server.running} running${shared.server.queued ? `, ${shared.server.queued} queued` : ""}`));
  const page = PAGES.find((one) => one.path === path);
  document.title = `${shared.server.questions ? `(${shared.server.questions}) ` : ""}${page ? page.title : "Not found"} · affectscope`;
}

async function show() {
  const { name, rest, query } = where(), mine = ++shown;
  leave();
  leave = () => {};
  bar();
  const page = PAGES.find((one) => one.path === name);
  if (!page) return main.replaceChildren(empty("There is no such page", h("a", { href: "#/" }, "To the wall")));
  if (!may(page.needs)) return main.replaceChildren(empty(`${page.title} needs the scope ${page.needs}`, `Your key “${me.key}” has ${me.scopes.join(", ")}.`));
  try {
    const module = await page.load();
    if (mine !== shown) return undefined;
    main.replaceChildren();
    leave = (await module.show(main, shared, rest, query)) || (() => {});
    if (mine !== shown) leave();
  } catch (error) {
    if (mine === shown) main.replaceChildren(failed(error));
  }
  if (mine !== 1) main.focus({ preventScroll: true }); // so that a reader of the screen begins at the new page
  return undefined;
}

function theme() {
  const button = document.getElementById("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => localStorage.getItem("theme") || (dark.matches ? "dark" : "light");
  const paint = () => {
    document.documentElement.dataset.theme = now();
    button.textContent = now() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${now() === "dark" ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => { localStorage.setItem("theme", now() === "dark" ? "light" : "dark"); paint(); });
  dark.addEventListener("change", paint);
  paint();
}

function hear() {
  const before = { questions: 0 };
  shared.live.clear(); // what ended meanwhile would stand there for ever
  listen("/v1/affect/live", (told) => {
    if (told.concepts) shared.live.concepts = told.concepts;
    shared.live.take(told);
    if (!told.server) return;
    shared.server = told.server;
    if (told.server.questions > before.questions) announce(`${told.server.questions} waiting for an answer`);
    before.questions = told.server.questions;
    dispatchEvent(new Event("questions"));
    bar();
  }, {
    state: (on) => { shared.connected = on; bar(); },
    again: () => shared.live.clear(),
    lost: async () => { // refused, and not merely cut: signed out, or too many look on
      await get("/ui/session").catch(() => {});
      setTimeout(hear, 3000);
    },
  });
}

async function begin() {
  theme();
  try {
    Object.assign(me, await get("/ui/session"));
    if (may("read")) shared.info = await get("/v1/affect/info");
  } catch (error) {
    return main.replaceChildren(failed(error instanceof ApiError ? error : new Error(String(error))));
  }
  document.getElementById("out").addEventListener("click", async () => {
    await request("/ui/logout", { method: "POST" }).catch(() => {});
    location.assign("/ui/login");
  });
  document.getElementById("out").title = `${me.key}, ${me.tenant}`;
  addEventListener("hashchange", show);
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
  if (!may("read") && !location.hash) location.hash = "#/playground";
  if (may("read")) hear();
  return show();
}
begin();
