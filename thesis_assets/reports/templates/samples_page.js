// The moving part of the page of samples. A sample is [id, scene, group, half, reason or null, pictures or null].
const data = JSON.parse(byId("data").textContent);
const ID = 0, SCENE = 1, GROUP = 2, HALF = 3, REASON = 4, PICTURES = 5;
const LISTED = 60, STEP = 4, KEY = `thesis-assets samples ${data.exp_name}`;
const stage = byId("stage"), images = [...stage.querySelectorAll("img")];
const state = { order: [], at: 0, listed: LISTED, alone: null, cut: 50, flags: kept() };

function kept() { try { return JSON.parse(localStorage.getItem(KEY)) || {}; } catch { return {}; } }
function keep() { localStorage.setItem(KEY, JSON.stringify(state.flags)); }
const isFlagged = sample => Object.hasOwn(state.flags, sample[ID]);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- which samples -----------------------------------------------------------------------------------------------------

function choose(stay) {
  const half = byId("half").value, scene = byId("scene").value, text = byId("text").value.trim(), only = byId("only").checked;
  state.order = data.samples.filter(sample =>
    (!half || sample[HALF] === half) && (!scene || sample[SCENE] === scene) && (!text || sample[ID].includes(text)) && (!only || isFlagged(sample)));
  state.at = Math.max(0, stay ? state.order.indexOf(stay) : 0);
  state.listed = Math.max(LISTED, state.at + 20);
  drawList();
  show();
}

function drawList() {
  const links = state.order.slice(0, state.listed).map((sample, place) => {
    const link = element("a"), said = element("span", "", sample[ID]);
    link.href = `#${sample[ID]}`;
    link.dataset.place = place;
    for (const part of [0, 1]) {
      const picture = element("img");
      picture.loading = "lazy";
      picture.alt = "";
      if (sample[PICTURES]) picture.src = sample[PICTURES][part];
      link.append(picture);
    }
    said.append(element("small", "muted", `${sample[GROUP]}, ${sample[HALF]}`), element("small", "flagged", ""));
    link.append(said);
    return link;
  });
  const left = state.order.length - links.length;
  if (left > 0) {
    const more = element("button", "", `${left.toLocaleString("en")} more`);
    more.type = "button";
    more.addEventListener("click", () => { state.listed += 5 * LISTED; drawList(); mark(); });
    links.push(more);
  }
  byId("list").replaceChildren(...links);
  mark();
}

function mark() {
  for (const link of byId("list").querySelectorAll("a")) {
    const place = Number(link.dataset.place), sample = state.order[place];
    link.toggleAttribute("aria-current", place === state.at);
    link.querySelector(".flagged").textContent = isFlagged(sample) ? `flagged ${state.flags[sample[ID]].reason}` : "";
  }
  const flagged = Object.keys(state.flags).length;
  byId("count").textContent = `${state.order.length.toLocaleString("en")} shown, ${flagged.toLocaleString("en")} flagged`;
  byId("save").disabled = !flagged;
}

// --- one sample --------------------------------------------------------------------------------------------------------

function show() {
  const sample = state.order[state.at], pictures = sample && sample[PICTURES];
  stage.classList.toggle("absent", !pictures);
  if (pictures) {
    pictures.forEach((source, place) => { images[place].src = source; });
    images[0].decode().then(() => stage.style.setProperty("--form", images[0].naturalWidth / images[0].naturalHeight), () => {});
  }
  byId("reason").value = sample && isFlagged(sample) ? state.flags[sample[ID]].reason : "";
  byId("flag").textContent = sample && isFlagged(sample) ? "take the flag back (f)" : "flag (f)";
  byId("facts").replaceChildren(...(sample ? factsOf(sample) : []));
  arrange();
  mark();
}

function factsOf(sample) {
  const table = element("table");
  const facts = [["scene", sample[SCENE]], ["group", sample[GROUP]], ["half", sample[HALF]], ["left out as", sample[REASON]]];
  for (const [name, value] of facts) {
    if (value === null) continue;
    const row = element("tr");
    row.append(element("th", "", name), element("td", "", value));
    table.append(row);
  }
  return [element("h3", "mono", sample[ID]), table];
}

function arrange() {
  const alone = state.alone;
  stage.classList.toggle("alone", alone !== null);
  images.forEach((image, place) => {
    image.style.visibility = (alone === null ? place < 2 : place === alone) ? "" : "hidden";
    image.style.clipPath = alone === null ? (place ? `inset(0 0 0 ${state.cut}%)` : `inset(0 ${100 - state.cut}% 0 0)`) : "none";
  });
  byId("cut").style.left = `${state.cut}%`;
  byId("split").setAttribute("aria-pressed", alone === null);
  for (const button of document.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", Number(button.dataset.show) === alone);
}

// --- what a person does ------------------------------------------------------------------------------------------------

function go(place) {
  if (!state.order.length) return;
  state.at = Math.min(state.order.length - 1, Math.max(0, place));
  if (state.at >= state.listed) { state.listed = state.at + LISTED; drawList(); }
  show();
  byId("list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

function cut(percent) { state.cut = Math.min(100, Math.max(0, percent)); arrange(); }
function alone(place) { state.alone = place; arrange(); }

function flag() {
  const sample = state.order[state.at];
  if (!sample) return;
  if (isFlagged(sample)) delete state.flags[sample[ID]];
  else state.flags[sample[ID]] = { reason: byId("reason").value.trim(), when: new Date().toISOString() };
  keep();
  show();
}

function save() {
  const quoted = text => `"${text.replaceAll('"', '""').replaceAll(/\s+/g, " ")}"`;
  const lines = Object.keys(state.flags).sort().map(id => [id, state.flags[id].reason, "", state.flags[id].when].map(quoted).join(","));
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([["sample_id,reason,who,when", ...lines, ""].join("\n")], { type: "text/csv" }));
  link.download = "exclude.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const id of ["half", "scene", "text", "only"]) byId(id).addEventListener("input", () => choose(state.order[state.at]));
byId("flag").addEventListener("click", flag);
byId("save").addEventListener("click", save);
byId("split").addEventListener("click", () => alone(null));
for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => alone(Number(button.dataset.show)));
byId("reason").addEventListener("keydown", event => { if (event.key === "Enter") { if (!isFlagged(state.order[state.at])) flag(); byId("reason").blur(); } });
byId("reason").addEventListener("change", () => {
  const sample = state.order[state.at];
  if (sample && isFlagged(sample)) { state.flags[sample[ID]].reason = byId("reason").value.trim(); keep(); show(); }
});
byId("list").addEventListener("click", event => {
  const link = event.target.closest("a");
  if (link) { event.preventDefault(); go(Number(link.dataset.place)); }
});
stage.addEventListener("pointerdown", event => { if (!event.button) { stage.setPointerCapture(event.pointerId); state.dragged = true; slide(event); } });
stage.addEventListener("pointermove", event => { if (state.dragged) slide(event); });
for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => { state.dragged = false; });
function slide(event) { const box = stage.getBoundingClientRect(); if (state.alone === null) cut(100 * (event.clientX - box.left) / box.width); }
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing()) { if (event.key === "Escape") document.activeElement.blur(); return; }
  const keys = {
    ArrowDown: () => go(state.at + 1), j: () => go(state.at + 1), ArrowUp: () => go(state.at - 1), k: () => go(state.at - 1),
    ArrowLeft: () => cut(state.cut - STEP), ArrowRight: () => cut(state.cut + STEP),
    0: () => alone(null), 1: () => alone(0), 2: () => alone(1), 3: () => alone(2), f: flag, r: () => byId("reason").focus(), "/": () => byId("text").focus(),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
choose(data.samples.find(sample => `#${sample[ID]}` === location.hash));
