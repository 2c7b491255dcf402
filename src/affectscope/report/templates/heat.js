// Token heat-map: text coloured by the z of one concept. Shared by the report and by `affectscope scan --html`.
"use strict";
const HEAT_LIMIT = 4; // |z| at which the colour is full

function heatColour(z) {
  const strength = Math.min(Math.abs(z) / HEAT_LIMIT, 1) * 0.75;
  return `rgba(var(${z >= 0 ? "--hot" : "--cold"}),${strength.toFixed(3)})`;
}

function drawHeat(box, scan, concept) {
  const row = scan.concepts.indexOf(concept);
  const pieces = document.createDocumentFragment();
  const first = scan.roles.findIndex((role) => role !== "template"); // what a template puts in front is the same everywhere
  scan.tokens.forEach((token, i) => {
    if (!token || i < first) return;
    const span = document.createElement("span");
    const z = scan.z[row][i];
    span.textContent = token;
    span.style.backgroundColor = heatColour(z);
    span.className = scan.roles[i] === "template" ? "template" : "read";
    span.title = `${concept}: z ${z.toFixed(2)}, cosine ${scan.cosine[row][i].toFixed(3)} · ${scan.roles[i]}`;
    pieces.append(span);
  });
  box.replaceChildren(pieces);
}

function heatPicker(select, concepts, chosen, redraw) {
  for (const name of concepts) select.add(new Option(name, name, name === chosen, name === chosen));
  select.addEventListener("change", () => redraw(select.value));
  redraw(select.value);
}

function themeButton(button, after) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = (isDark) => {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    button.textContent = isDark ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark));
    if (after) after();
  };
  button.addEventListener("click", () => apply(document.documentElement.dataset.theme !== "dark"));
  dark.addEventListener("change", (event) => apply(event.matches));
  apply(dark.matches);
}

if (document.getElementById("scan-data")) {
  const scan = JSON.parse(document.getElementById("scan-data").textContent);
  themeButton(document.getElementById("theme"));
  heatPicker(document.getElementById("concept"), scan.concepts, scan.concepts[0], (name) =>
    drawHeat(document.getElementById("heat"), scan, name));
}
