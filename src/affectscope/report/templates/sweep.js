// The page of a sweep: the highest passages of one concept, and what rose and fell against another model.
const sweep = JSON.parse(document.getElementById("sweep-data").textContent);
const byId = (id) => document.getElementById(id);
const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

// Percentile of z among all tokens of the sweep, between the percents that the file holds.
function percentile(concept, z) {
  const { percent, z: all } = sweep.quantiles, row = all[concept];
  if (z < row[0]) return "lower than 99 % of tokens";
  let i = row.length - 1;
  while (i > 0 && row[i] > z) i -= 1;
  return `higher than ${percent[i]} % of tokens`;
}

function passageOf(concept, kept, rank) {
  const text = sweep.texts[kept.text], high = sweep.quantiles.z[concept][sweep.quantiles.percent.indexOf(90)];
  const box = element("div", undefined, "card passage"), heat = element("div", undefined, "heat");
  text.tokens.forEach((token, i) => {
    if (!token) return;
    const z = kept.z[i], span = element("span", token, z > high ? "read high" : "read");
    span.style.backgroundColor = heatColour(z);
    span.title = `${concept}: z ${z.toFixed(2)}, ${percentile(concept, z)}`;
    heat.append(span);
  });
  box.append(element("strong", `${rank}. score ${kept.score.toFixed(2)}`),
    element("span", ` ${sweep.files[text.file]}, record ${text.record + 1}${text.part ? `, part ${text.part + 1}` : ""}`, "soft"), heat);
  return box;
}

function changesOf(concept) {
  const row = (sweep.against ? sweep.against.concepts : []).find((r) => r.concept === concept);
  if (!row) return [];
  const line = (p) => {
    const box = element("div", undefined, "card passage");
    box.append(element("strong", `${p.before.toFixed(2)} → ${p.now.toFixed(2)}`), element("div", sweep.against.texts[p.at.join("-")], "heat"));
    return box;
  };
  return [["rose", "Rose most against the other model"], ["fell", "Fell most"]].flatMap(([name, title]) =>
    row[name].length ? [element("h3", `${title}: ${concept}`), ...row[name].map(line)] : []);
}

function show(concept) {
  byId("found").textContent = concept;
  byId("list").replaceChildren(...sweep.top[concept].map((kept, i) => passageOf(concept, kept, i + 1)), ...changesOf(concept));
}

byId("search").addEventListener("input", () => {
  const wanted = byId("search").value.trim().toLowerCase();
  const lower = (name) => name.toLowerCase();
  const hit = sweep.concepts.find((n) => lower(n) === wanted) || (wanted && sweep.concepts.find((n) => lower(n).startsWith(wanted)));
  if (hit) show(hit);
  else byId("found").textContent = wanted ? "no such concept here" : "";
});
for (const button of document.querySelectorAll("button[data-concept]"))
  button.addEventListener("click", () => { byId("search").value = button.dataset.concept; show(button.dataset.concept); byId("top-passages").scrollIntoView(); });
themeButton(byId("theme"));
show(sweep.concepts[0]);
document.documentElement.dataset.ready = "yes";
