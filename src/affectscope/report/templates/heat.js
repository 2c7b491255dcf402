// What the pages share: the colour of a z, and the button between light and dark.
"use strict";
const HEAT_LIMIT = 4; // |z| at which the colour is full

function heatColour(z) {
  const strength = Math.min(Math.abs(z) / HEAT_LIMIT, 1) * 0.52;
  return `rgba(var(${z >= 0 ? "--hot" : "--cold"}),${strength.toFixed(3)})`;
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
