// Draws the report from the JSON in the page. Colours come from the style sheet, so light, dark and print agree.
const report = JSON.parse(document.getElementById("report-data").textContent);
const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

// Okabe and Ito's colours, safe for colour-blind readers; symbols tell the ten clusters apart a second time.
const CLUSTER_COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#8C6BB1", "#F0E442", "#8a93a3", "#A6761D", "#D55E00", "#CC79A7", "#0072B2"];
const CLUSTER_SYMBOLS = ["circle", "square", "diamond", "triangle-up", "star", "cross", "x", "triangle-down", "pentagon", "hexagon"];
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

function layoutOf(extra) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true };
  const base = {
    font: { family: "system-ui, sans-serif", size: 12, color: css("--ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 60, r: 16, t: 12, b: 52 }, hoverlabel: { font: { size: 13 } }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
  };
  const layout = Object.assign(base, structuredClone(extra));
  layout.xaxis = Object.assign({}, axis, layout.xaxis);
  layout.yaxis = Object.assign({}, axis, layout.yaxis);
  for (const shape of layout.shapes || []) shape.line.color = css("--soft");
  return layout;
}

function traceOf(trace) {
  const made = structuredClone(trace);
  const colours = { readers: "--accent", vectors: "--accent2", random: "--grey", text: "--grey", fit: "--grey" };
  const role = (trace.meta || "").replace("-band", "");
  if (trace.meta === "diverging") {
    made.colorscale = [[0, `rgb(${css("--cold")})`], [0.5, css("--card")], [1, `rgb(${css("--hot")})`]];
    made.colorbar = Object.assign({ outlinewidth: 0 }, trace.colorbar);
  } else if (trace.meta === "sequential") {
    made.colorscale = [[0, css("--card")], [1, css("--accent")]];
    made.colorbar = Object.assign({ outlinewidth: 0 }, trace.colorbar);
  } else if (colours[role]) {
    const colour = css(colours[role]);
    if (trace.meta.endsWith("-band")) { made.fillcolor = colour + "2e"; made.line = { width: 0 }; return made; }
    made.line = Object.assign({ color: colour, width: 2 }, trace.line);
    made.marker = Object.assign({ color: colour }, trace.marker);
    if (made.error_x) made.error_x.color = colour;
    if (made.error_y) made.error_y.color = colour;
  }
  return made;
}

function drawFigures() {
  for (const box of document.querySelectorAll(".plot[data-name]")) {
    const figure = report.results.find((r) => r.name === box.dataset.name).figures[Number(box.dataset.result)];
    if (box.clientWidth < 560 && figure.data[0].type === "heatmap") box.style.minWidth = "40rem";
    box.style.height = `${figure.layout.height || 380}px`;
    Plotly.react(box, figure.data.map(traceOf), layoutOf(figure.layout), CONFIG);
  }
}

function drawMap(marked) {
  const map = report.map;
  if (!map || !map.names) return;
  const traces = map.order.map((cluster, k) => {
    const mine = map.names.map((_, i) => i).filter((i) => map.clusters[i] === cluster);
    return {
      type: "scatter", mode: "markers+text", name: cluster, x: mine.map((i) => map.x[i]), y: mine.map((i) => map.y[i]),
      text: mine.map((i) => map.names[i]), textposition: "top center", textfont: { size: 9.5, color: css("--soft") },
      marker: { size: 9, color: CLUSTER_COLOURS[k % 10], symbol: CLUSTER_SYMBOLS[k % 10], line: { width: 0.6, color: css("--ink") } },
      hovertemplate: "%{text}<extra>" + cluster + "</extra>",
    };
  });
  const i = map.names.indexOf(marked);
  if (i >= 0) traces.push({ type: "scatter", mode: "markers+text", x: [map.x[i]], y: [map.y[i]], text: [marked], textposition: "bottom center", textfont: { size: 14, color: css("--ink") }, marker: { size: 22, color: "rgba(0,0,0,0)", line: { width: 3, color: css("--ink") } }, showlegend: false, hoverinfo: "skip" });
  const hidden = { showticklabels: false, zeroline: false, showgrid: false, showline: false };
  const narrow = byId("map-plot").clientWidth < 560;
  if (narrow) traces.slice(0, map.order.length).forEach((t) => { t.mode = "markers"; });
  Plotly.react("map-plot", traces, layoutOf({ xaxis: hidden, yaxis: hidden, margin: { l: 8, r: 8, t: 8, b: 8 }, legend: { orientation: "h", y: -0.02, x: 0, font: { size: 11 } }, hovermode: "closest" }), CONFIG);
}

function drawPlane() {
  const plane = report.plane;
  if (!plane || !plane.names) return;
  const rated = plane.names.map((_, i) => i).filter((i) => plane.human[i] !== null);
  const others = plane.names.map((_, i) => i).filter((i) => plane.human[i] === null);
  const points = (index, extra) => Object.assign({
    type: "scatter", x: index.map((i) => plane.x[i]), y: index.map((i) => plane.y[i]), text: index.map((i) => plane.names[i]), customdata: index.map((i) => plane.human[i]),
  }, extra);
  const traces = [
    points(others, { mode: "markers", name: "not rated", marker: { size: 5, color: css("--grey"), opacity: 0.6 }, hovertemplate: "%{text}<extra></extra>" }),
    points(rated, {
      mode: "markers+text", name: "rated by people (colour: their valence)", textposition: "top center", textfont: { size: 10, color: css("--ink") },
      marker: { size: 11, color: rated.map((i) => plane.human[i]), colorscale: [[0, `rgb(${css("--cold")})`], [0.5, css("--card")], [1, `rgb(${css("--hot")})`]], cmid: 0, line: { width: 1, color: css("--ink") }, colorbar: { title: { text: "human valence" }, thickness: 12, outlinewidth: 0 } },
      hovertemplate: "%{text}: rated valence %{customdata}<extra></extra>",
    }),
  ];
  Plotly.react("plane-plot", traces, layoutOf({ xaxis: { title: { text: plane.x_title } }, yaxis: { title: { text: plane.y_title } }, hovermode: "closest" }), CONFIG);
}

function describe(name) {
  const facts = report.concepts[name];
  if (!facts) return;
  const pairs = (list) => list.map(([other, cosine]) => `${other} (${cosine.toFixed(2)})`).join(", ");
  const lines = [
    ["nearest", pairs(facts.near)], ["farthest", pairs(facts.far)], ["words up", facts.up.join(", ")], ["words down", facts.down.join(", ")],
    ["mean rank on unseen topics", facts.rank === null ? "" : `${facts.rank} of ${Object.keys(report.concepts).length}`],
  ];
  const list = element("dl");
  for (const [term, text] of lines) if (text) list.append(element("dt", term), element("dd", text));
  byId("panel").replaceChildren(element("strong", name), document.createTextNode(facts.cluster ? ` · ${facts.cluster} (the paper's cluster)` : ""), list);
}

function connectMap() {
  const search = byId("search");
  if (!search) return;
  byId("map-plot").on("plotly_hover", (event) => describe(event.points[0].text));
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    const hit = report.map.names.find((n) => n === wanted) || (wanted && report.map.names.find((n) => n.startsWith(wanted)));
    byId("found").textContent = !wanted ? "" : hit ? hit : "no such emotion here";
    drawMap(hit);
    if (hit) describe(hit);
  });
}

function lensRows() {
  const table = byId("lens-table");
  if (!table) return;
  const data = report.results.find((r) => r.name === "logit_lens").data;
  const row = (name) => {
    const made = element("tr");
    const words = (list) => { const cell = element("td"); list.forEach((w) => cell.append(element("span", w, "word token"))); return cell; };
    made.append(element("th", name), words(data.table[name].up), words(data.table[name].down));
    return made;
  };
  const draw = (extra) => table.tBodies[0].replaceChildren(...[...(data.table[extra] && !data.first.includes(extra) ? [extra] : []), ...data.first].map(row));
  byId("lens-search").addEventListener("input", (event) => draw(event.target.value.trim().toLowerCase()));
  draw();
}

function sweepTop() {
  const select = byId("sweep-concept");
  if (!select) return;
  for (const name of Object.keys(report.sweep.top)) select.add(new Option(name, name));
  const draw = () => {
    const list = byId("sweep-top");
    list.replaceChildren();
    for (const passage of report.sweep.top[select.value]) {
      const item = element("li"), score = element("b");
      score.textContent = `${passage.score.toFixed(1)} `;
      item.append(score, passage.text);
      list.append(item);
    }
  };
  select.addEventListener("change", draw);
  draw();
}

function neuronTables() {
  const search = byId("neuron-search");
  if (!search) return;
  const data = report.results.find((r) => r.name === "neurons").data;
  const draw = (name) => {
    byId("neuron-found").textContent = name;
    for (const kind of ["writers", "separators"]) {
      const table = byId(`neuron-${kind}`), head = element("tr"), body = element("tbody"), top = element("thead");
      data.columns.forEach((column) => head.append(element("th", column)));
      top.append(head);
      for (const row of data.emotions[name][kind]) {
        const line = element("tr");
        row.forEach((value) => line.append(element("td", value === null ? "" : String(value), "num")));
        body.append(line);
      }
      table.replaceChildren(table.caption, top, body);
    }
  };
  const names = Object.keys(data.emotions);
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    const hit = names.find((n) => n === wanted) || (wanted && names.find((n) => n.startsWith(wanted)));
    if (hit) draw(hit); else byId("neuron-found").textContent = wanted ? "no such emotion here" : "";
  });
  draw(names.includes("desperate") ? "desperate" : names[0]);
}

function situationTraces() {
  const box = byId("heats");
  if (!box) return;
  const { concepts } = report.situations[0], select = byId("concept"), own = byId("own");
  const traces = report.situations.map((scan) => {
    const first = scan.roles.findIndex((role) => role !== "template"); // what a template puts in front is the same everywhere
    const made = document.createElement("affect-trace"), cut = (row) => row.slice(first);
    made.setAttribute("compact", "");
    made.concept = scan.emotion;
    made.trace = { ...scan, id: scan.emotion, tokens: cut(scan.tokens), roles: cut(scan.roles), phases: cut(scan.phases || []), z: scan.z.map(cut), cosine: scan.cosine.map(cut) };
    return made;
  });
  box.replaceChildren(...traces.map((made, i) => {
    const part = element("div", undefined, "situation");
    part.append(element("strong", `evokes: ${report.situations[i].emotion}`), made);
    return part;
  }));
  const colour = () => traces.forEach((made, i) => { made.concept = own.checked ? report.situations[i].emotion : select.value; });
  select.append(...concepts.map((name) => new Option(name)));
  select.addEventListener("change", () => { own.checked = false; colour(); });
  own.addEventListener("change", colour);
  own.checked = true;
}

function drawAll() { drawFigures(); drawMap(byId("search") ? byId("search").value : undefined); drawPlane(); }
themeButton(byId("theme"), drawAll);
connectMap();
lensRows();
sweepTop();
neuronTables();
situationTraces();
document.documentElement.dataset.ready = "yes";
