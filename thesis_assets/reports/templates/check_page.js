// The filters of the check page. They stand in the address too (#exp=demo&status=failed), so that a view can be kept or sent.
const NAMES = ["exp", "run", "check"], outcomes = [...document.querySelectorAll(".outcome")], chips = [...document.querySelectorAll(".chip")];
const words = new Map(outcomes.map(row => [row, `${row.dataset.check} ${row.textContent}`.toLowerCase()]));
const folds = [...document.querySelectorAll("details.more, #passed details.experiment")];
const pressed = () => chips.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.status);
let narrowed = false;

function apply() {
  const statuses = pressed(), text = byId("text").value.trim().toLowerCase(), before = narrowed;
  narrowed = NAMES.some(name => byId(name).value) || statuses.length > 0 || text !== "";
  let shown = 0;
  for (const row of outcomes) {
    row.hidden = NAMES.some(name => byId(name).value && row.dataset[name] !== byId(name).value) ||
      (statuses.length > 0 && !statuses.includes(row.dataset.status)) || (text !== "" && !words.get(row).includes(text));
    shown += !row.hidden;
  }
  // Whoever filters wants to see what fits, folded or not; without a filter what passed is folded again.
  if (narrowed || before) for (const fold of folds) fold.open = narrowed;
  for (const box of document.querySelectorAll(".group, .more, #passed details.experiment")) box.hidden = !box.querySelector(".outcome:not([hidden])");
  for (const row of document.querySelectorAll(".matrix tbody tr")) row.hidden = byId("run").value !== "" && row.dataset.run !== byId("run").value;
  for (const table of document.querySelectorAll(".matrix")) table.hidden = ![...table.tBodies[0].rows].some(row => !row.hidden);
  for (const box of document.querySelectorAll("#matrix details.experiment")) box.hidden = (byId("exp").value !== "" && box.dataset.exp !== byId("exp").value) || !box.querySelector(".matrix:not([hidden])");
  for (const part of document.querySelectorAll("#open, #passed")) part.hidden = !part.querySelector(".outcome:not([hidden])");
  byId("nothing").hidden = shown > 0;
  byId("count").textContent = shown === outcomes.length ? "" : `${shown} of ${outcomes.length}`;
}

function remember() {
  const kept = NAMES.filter(name => byId(name).value).map(name => [name, byId(name).value]);
  if (pressed().length) kept.push(["status", pressed().join(",")]);
  if (byId("text").value) kept.push(["find", byId("text").value]);
  history.replaceState(null, "", kept.length ? `#${new URLSearchParams(kept)}` : location.pathname + location.search);
  apply();
}

function recall() {
  if (!location.hash.includes("=")) return;
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of NAMES) byId(name).value = kept.get(name) || "";
  for (const chip of chips) chip.setAttribute("aria-pressed", (kept.get("status") || "").split(",").includes(chip.dataset.status));
  byId("text").value = kept.get("find") || "";
}

function clear() {
  for (const name of [...NAMES, "text"]) byId(name).value = "";
  for (const chip of chips) chip.setAttribute("aria-pressed", false);
  remember();
}

// An outcome that is linked to is seen, whatever filter or fold it is in.
function reveal() {
  const row = byId(decodeURIComponent(location.hash.slice(1)));
  if (!row?.classList.contains("outcome")) return;
  if (row.hidden) { const hash = location.hash; clear(); location.hash = hash; }
  for (let fold = row.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  row.scrollIntoView();
}

for (const name of [...NAMES, "text"]) byId(name).addEventListener("input", remember);
for (const chip of chips) chip.addEventListener("click", () => { chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true"); remember(); });
byId("clear").addEventListener("click", clear);
document.addEventListener("keydown", event => { if (event.key === "/" && !typing()) { event.preventDefault(); byId("text").focus(); } });
window.addEventListener("hashchange", () => { recall(); apply(); reveal(); });
recall();
apply();
reveal();
