// The filters of the check page. They stand in the address too (#exp=demo&status=failed), so that a view can be kept or sent.
const NAMES = ["exp", "run", "check"], outcomes = [...document.querySelectorAll("tr.outcome")], chips = [...document.querySelectorAll(".chip")];
const words = new Map(outcomes.map(row => [row, row.textContent.toLowerCase()]));
const pressed = () => chips.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.status);

function apply() {
  const statuses = pressed(), text = byId("text").value.trim().toLowerCase();
  let shown = 0;
  for (const row of outcomes) {
    row.hidden = NAMES.some(name => byId(name).value && row.dataset[name] !== byId(name).value) ||
      (statuses.length > 0 && !statuses.includes(row.dataset.status)) || (text !== "" && !words.get(row).includes(text));
    shown += !row.hidden;
  }
  for (const row of document.querySelectorAll(".matrix tbody tr"))
    row.hidden = ["exp", "run"].some(name => byId(name).value && row.dataset[name] !== byId(name).value);
  for (const table of document.querySelectorAll(".matrix")) table.hidden = ![...table.tBodies[0].rows].some(row => !row.hidden);
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

for (const name of [...NAMES, "text"]) byId(name).addEventListener("input", remember);
for (const chip of chips) chip.addEventListener("click", () => { chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true"); remember(); });
byId("clear").addEventListener("click", clear);
// A sign of the matrix leads to its outcome, also where a filter hides that.
for (const sign of document.querySelectorAll(".matrix a"))
  sign.addEventListener("click", () => { const row = byId(decodeURIComponent(sign.hash.slice(1))); if (row?.hidden) { clear(); } });
document.addEventListener("keydown", event => { if (event.key === "/" && !typing()) { event.preventDefault(); byId("text").focus(); } });
window.addEventListener("hashchange", () => { recall(); apply(); });
recall();
apply();
