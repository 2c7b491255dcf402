// The concept vectors: where they lie to each other, which are near, and which words they push.
import { get } from "/ui/api.js";
import { empty, failed, h, signed, svg } from "/ui/dom.js";

// Okabe and Ito's colours, safe for colour-blind readers; the shapes tell the clusters apart a second time.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#8c6bb1", "#c9bd1e", "#8a93a3", "#a6761d", "#d55e00", "#cc79a7", "#0072b2"];
const SHAPES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`, (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`, (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z`,
  (r) => `M0 ${-1.2 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`, (r) => `M0 ${1.2 * r}L${1.2 * r} ${-r}H${-1.2 * r}Z`, (r) => `M${-r} ${-r / 3}H${-r / 3}V${-r}H${r / 3}V${-r / 3}H${r}V${r / 3}H${r / 3}V${r}H${-r / 3}V${r / 3}H${-r}Z`,
  (r) => `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`, (r) => `M${-1.2 * r} 0L${r} ${-1.2 * r}V${1.2 * r}Z`, (r) => `M${1.2 * r} 0L${-r} ${-1.2 * r}V${1.2 * r}Z`, (r) => `M${-r} ${-0.6 * r}L0 ${-1.2 * r}L${r} ${-0.6 * r}V${0.6 * r}L0 ${1.2 * r}L${-r} ${0.6 * r}Z`,
];
const WIDE = 900, TALL = 640;

export async function show(main, shared, [picked = ""]) {
  if (shared.info && !shared.info.concepts.length) return main.append(empty("This server reads nothing", "Start it with --vectors."));
  const head = h("div", { class: "head" }, h("h1", {}, "Vectors"), h("div", { class: "grow" }), shared.info?.report ? h("a", { href: "/ui/report", target: "_blank", rel: "noopener" }, "Audit report") : h("span", { class: "soft small" }, "no audit report: --report"));
  main.append(head, h("p", { class: "empty" }, "Laying out the map…"));
  const atlas = await get("/v1/affect/vectors"), { map } = atlas;
  const find = h("input", { type: "search", placeholder: "concept", list: "names", "aria-label": "Concept", onchange: () => { if (map.names.includes(find.value.trim())) choose(find.value.trim()); } });
  const panel = h("div", { "aria-live": "polite" }), drawing = draw(map, choose);
  const list = h("datalist", { id: "names" }, map.names.map((name) => h("option", { value: name })));
  find.setAttribute("list", "names");
  main.replaceChildren(head,
    h("p", { class: "soft" }, `${map.title}. Near vectors lie near each other; only neighbourhoods mean anything, not distances across the map.`),
    h("div", { class: "cols" }, h("div", { class: "card" }, drawing.box, drawing.keys),
      h("div", {}, h("section", { class: "card" }, h("label", { class: "field" }, "concept", find), list, panel),
        h("section", { class: "card" }, h("h2", {}, "Made from"), h("dl", {}, facts(atlas).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))))));

  async function choose(name) {
    history.replaceState(null, "", `#/vectors/${encodeURIComponent(name)}`);
    find.value = name;
    panel.replaceChildren(h("p", { class: "soft" }, "…"));
    try {
      const found = await get(`/v1/affect/vectors/${encodeURIComponent(name)}`);
      drawing.mark(name, found.near.map(([other]) => other));
      panel.replaceChildren(h("h2", {}, name), h("h3", {}, "Nearest, by cosine"), bars(found.near, choose), h("h3", {}, "Farthest"), bars(found.far, choose),
        h("h3", {}, "Pushes up (logit lens)"), words(found.up), h("h3", {}, "Pushes down"), words(found.down));
    } catch (error) {
      panel.replaceChildren(failed(error));
    }
  }
  await choose(map.names.includes(picked) ? picked : ["desperate", "calm"].find((name) => map.names.includes(name)) || map.names[0]);
  return undefined;
}

const words = (all) => h("div", { class: "words" }, all.map((word) => h("span", {}, word)));
const bars = (pairs, choose) => h("div", { class: "bars" }, pairs.flatMap(([name, cosine]) => {
  const bar = h("i", { class: cosine < 0 ? "cold" : "" });
  bar.style.width = `${Math.min(Math.abs(cosine), 1) * 100}%`;
  return [h("button", { type: "button", onclick: () => choose(name) }, name), bar, h("span", { class: "num" }, signed(cosine))];
}));

function facts({ model, layer, layers, corpus, fingerprint }) {
  const author = corpus.author || corpus.authors;
  return [["model", model.id], ["read at layer", `${layer} of ${layers.join(", ")}`], ...(corpus.stories ? [["stories", String(corpus.stories)]] : []), ...(author ? [["written by", String(author)]] : []), ["vectors", fingerprint.slice(0, 16)], ["weights", String(model.weights).slice(0, 16)]];
}

function draw(map, choose) {
  const span = (all) => [Math.min(...all), Math.max(...all) - Math.min(...all) || 1], [x0, dx] = span(map.x), [y0, dy] = span(map.y);
  const x = (i) => 40 + ((map.x[i] - x0) / dx) * (WIDE - 110), y = (i) => TALL - 20 - ((map.y[i] - y0) / dy) * (TALL - 40);
  const kind = (i) => map.order.indexOf(map.clusters[i]) % 10;
  const marks = map.names.map((name, i) => {
    const made = svg("path", { class: kind(i) === 6 ? "mark cross" : "mark", d: SHAPES[kind(i)](6), fill: COLOURS[kind(i)], transform: `translate(${x(i).toFixed(1)} ${y(i).toFixed(1)})` }, svg("title"));
    made.firstChild.textContent = `${name}, ${map.clusters[i]}`;
    made.addEventListener("click", () => choose(name));
    return made;
  });
  const taken = [];
  const free = (left, middle, wide) => { // a name that would run into another one is shown when it is chosen
    if (taken.some(([l, m, w]) => Math.abs(m - middle) < 10 && left < l + w + 12 && l < left + wide + 12)) return false;
    taken.push([left, middle, wide]);
    return true;
  };
  const texts = map.names.map((name, i) => {
    const made = svg("text", { x: (x(i) + 8).toFixed(1), y: (y(i) + 3).toFixed(1), class: free(x(i), y(i), name.length * 4.9) ? "" : "off" });
    made.textContent = name;
    return made;
  });
  const box = svg("svg", { class: "map", viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `Map of ${map.names.length} concepts; choose one in the field beside it` }, ...texts, ...marks);
  const keys = h("ul", { class: "keys" }, map.order.map((cluster, k) => h("li", {}, svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, svg("path", { d: SHAPES[k % 10](6), fill: COLOURS[k % 10], stroke: k % 10 === 6 ? COLOURS[6] : "none", "stroke-width": 3 })), cluster)));
  const mark = (name, near) => map.names.forEach((other, i) => {
    marks[i].classList.toggle("picked", other === name);
    texts[i].classList.toggle("own", other === name);
    texts[i].classList.toggle("near", near.includes(other));
    if (other === name) box.append(marks[i], texts[i]); // above the others
  });
  return { box, keys, mark };
}
