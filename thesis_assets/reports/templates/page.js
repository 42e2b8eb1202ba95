"use strict";
const byId = id => document.getElementById(id);

function typing() {
  const at = document.activeElement;
  return at instanceof HTMLSelectElement || (at instanceof HTMLInputElement && at.type !== "checkbox");
}

function nextTheme() {
  const order = ["", "light", "dark"], root = document.documentElement;
  const now = order.indexOf(root.dataset.theme || "");
  const next = order[(now + 1) % order.length];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
}

byId("theme")?.addEventListener("click", nextTheme);
document.addEventListener("keydown", event => {
  if (event.key === "t" && !typing() && !event.ctrlKey && !event.metaKey && !event.altKey) nextTheme();
});
