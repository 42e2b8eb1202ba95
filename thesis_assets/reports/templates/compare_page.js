// The moving part of the compare page. A frame is [scene, camera, name, value before and after of each metric ..., picture or null].
const data = JSON.parse(byId("data").textContent);
const SCENE = 0, CAMERA = 1, NAME = 2, VALUES = 3, PICTURE = VALUES + 2 * data.metrics.length;
const LISTED = 200, STEP = 2;
const stage = byId("stage"), layers = [0, 1, 2].map(place => byId(`layer-${place}`)), handles = [0, 1].map(place => byId(`handle-${place}`));
const state = { order: [], at: 0, listed: LISTED, mode: "split", alone: 0, cuts: [33, 67], held: 1, zoom: 1, mapped: false, metric: 0 };

const before = (frame, metric = state.metric) => frame[VALUES + 2 * metric];
const after = (frame, metric = state.metric) => frame[VALUES + 2 * metric + 1];
const change = (frame, metric = state.metric) => before(frame, metric) === null || after(frame, metric) === null ? null : after(frame, metric) - before(frame, metric);
const nameOf = frame => `${data.scenes[frame[SCENE]]}/cam_${frame[CAMERA]}/${frame[NAME]}`;
const signed = (value, decimals) => value === null ? "" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(decimals);
const kindOf = (value, higher = true) => !value ? "" : (value > 0) === higher ? "gain" : "loss";

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- which frames, in which order -------------------------------------------------------------------------------------

// How much nearer to the truth a frame came by the chosen metric: of some, lower is better.
const gain = frame => { const value = change(frame); return value === null || data.metrics[state.metric][2] ? value : -value; };
const standing = frame => after(frame) === null ? Infinity : data.metrics[state.metric][2] ? after(frame) : -after(frame);
const last = (value, otherwise) => value === null ? otherwise : value;
const ORDERS = {
  worst: (a, b) => last(gain(a), Infinity) - last(gain(b), Infinity),
  best: (a, b) => last(gain(b), -Infinity) - last(gain(a), -Infinity),
  change: (a, b) => Math.abs(last(change(b), 0)) - Math.abs(last(change(a), 0)),
  lowest: (a, b) => standing(a) - standing(b),
  time: (a, b) => a[SCENE] - b[SCENE] || a[CAMERA] - b[CAMERA] || Number(a[NAME]) - Number(b[NAME]),
};

function choose(keep) {
  const scene = byId("scene").value, camera = byId("camera").value, text = byId("text").value.trim(), pictured = byId("pictured").checked;
  state.order = data.frames.filter(frame =>
    (!scene || data.scenes[frame[SCENE]] === scene) && (!camera || String(frame[CAMERA]) === camera) &&
    (!text || frame[NAME].includes(text)) && (!pictured || frame[PICTURE] !== null));
  state.order.sort((a, b) => ORDERS[byId("sort").value](a, b) || 0);
  state.at = Math.max(0, keep ? state.order.indexOf(keep) : 0);
  state.listed = Math.max(LISTED, state.at + 20);
  const n = data.frames.length;
  byId("count").textContent = state.order.length === n ? `${n.toLocaleString("en")}` : `${state.order.length.toLocaleString("en")} of ${n.toLocaleString("en")}`;
  for (const row of document.querySelectorAll(".dots a.row")) row.toggleAttribute("aria-current", row.dataset.scene === scene);
  drawList();
  show();
}

function drawList() {
  const list = byId("list");
  list.replaceChildren(...state.order.slice(0, state.listed).map((frame, place) => {
    const link = element("a"), who = element("span", "who", `cam ${frame[CAMERA]} · ${frame[NAME]}`), value = change(frame);
    link.href = `#frame=${nameOf(frame)}`;
    link.dataset.place = place;
    if (data.scenes.length > 1) who.append(element("small", "muted", data.scenes[frame[SCENE]]));
    const [, decimals, higher] = data.metrics[state.metric];
    const number = element("small", "muted", after(frame) === null ? "" : after(frame).toFixed(decimals));
    link.append(element("span", `d ${kindOf(value, higher)}`, value === null ? "–" : signed(value, decimals)), who, number);
    const item = element("li");
    item.append(link);
    return item;
  }));
  if (!state.order.length) list.append(element("li", "muted", "no frame is left"));
  if (state.order.length > state.listed) {
    const item = element("li"), more = element("button", "", `show ${Math.min(LISTED, state.order.length - state.listed)} more`);
    more.type = "button";
    more.addEventListener("click", () => { state.listed += LISTED; drawList(); mark(); });
    item.append(more);
    list.append(item);
  }
}

function mark() {
  for (const link of byId("list").querySelectorAll("a")) {
    const here = Number(link.dataset.place) === state.at;
    link.toggleAttribute("aria-current", here);
    if (here) {
      const list = byId("list"), top = link.offsetTop - list.offsetTop;
      if (top < list.scrollTop || top + link.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
    }
  }
}

// --- all differences at once -------------------------------------------------------------------------------------------

function drawRanks() {
  const canvas = byId("ranks"), width = canvas.clientWidth, height = canvas.clientHeight, sharp = window.devicePixelRatio || 1;
  canvas.width = width * sharp; canvas.height = height * sharp;
  const pen = canvas.getContext("2d"), look = getComputedStyle(document.documentElement), n = state.order.length;
  pen.scale(sharp, sharp);
  if (!n) return;
  // A single frame that fell apart must not flatten all others: what is beyond three times the 90th percentile is cut off.
  const sizes = state.order.map(frame => Math.abs(gain(frame) || 0)).sort((a, b) => a - b), most = 3 * sizes[Math.floor(.9 * (n - 1))] || Infinity;
  const shown = frame => Math.min(most, Math.max(-most, gain(frame) || 0));
  let low = 0, high = 0;
  for (const frame of state.order) { low = Math.min(low, shown(frame)); high = Math.max(high, shown(frame)); }
  const room = height - 8, span = high - low || 1, zero = 4 + room * high / span, wide = width / n;
  state.order.forEach((frame, place) => {
    const value = shown(frame), tall = room * Math.abs(value) / span;
    pen.fillStyle = look.getPropertyValue(value < 0 ? "--loss" : "--gain");
    pen.fillRect(place * wide, value < 0 ? zero : zero - tall, Math.max(.6, wide - (wide > 4 ? 1 : 0)), Math.max(.5, tall));
  });
  pen.fillStyle = look.getPropertyValue("--muted");
  pen.fillRect(0, zero - .5, width, 1);
  pen.fillStyle = look.getPropertyValue("--ink");
  pen.fillRect(Math.min(width - 2, state.at * wide + wide / 2 - 1), 0, 2, height);
}

// --- one frame ---------------------------------------------------------------------------------------------------------

function show() {
  const frame = state.order[state.at];
  stage.classList.toggle("empty", !frame || frame[PICTURE] === null);
  const absent = byId("absent");
  absent.hidden = Boolean(frame) && frame[PICTURE] !== null;
  absent.textContent = frame ? "The pictures of this frame are not in this file; where they lie stands below." : "No frame is left; widen the filter above.";
  byId("facts").replaceChildren(...(frame ? factsOf(frame) : []));
  if (frame && frame[PICTURE] !== null) {
    data.pictures[frame[PICTURE]].forEach((source, place) => { layers[place].querySelector("img").src = source; });
    layers.forEach((layer, place) => {
      const value = [before(frame), after(frame), null][place];
      const [title, decimals, , unit] = data.metrics[state.metric];
      layer.querySelector(".value").textContent = value === null ? "" : `${value.toFixed(decimals)} ${unit || title}`;
    });
    layers[0].querySelector("img").decode().then(fit, fit);
    if (state.mapped) drawMap();
  }
  arrange();
  mark();
  drawRanks();
}

function factsOf(frame) {
  const table = element("table"), head = element("tr"), folders = element("details");
  head.append(element("th"), element("th", "n", data.names[0]), element("th", "n", data.names[1]), element("th", "n", "Δ"));
  table.append(head);
  data.metrics.forEach(([title, decimals, higher], metric) => {
    if (before(frame, metric) === null && after(frame, metric) === null) return;
    const row = element("tr"), value = change(frame, metric);
    const numbers = [before(frame, metric), after(frame, metric)].map(number => element("td", "n", number === null ? "" : number.toFixed(decimals)));
    row.append(element("td", "", title), ...numbers, element("td", `n ${kindOf(value, higher)}`, signed(value, decimals)));
    table.append(row);
  });
  folders.append(element("summary", "muted", "files"));
  data.folders[frame[SCENE]].forEach((folder, place) => folders.append(element("div", "mono", `${data.names[place]}: ${folder}`)));
  const title = element("h3"), link = element("a", "", nameOf(frame));
  link.href = `#frame=${nameOf(frame)}`;
  link.id = "here";
  title.append(link);
  return [title, table, folders];
}

// The style sheet makes the pictures as large as the column and the window let them be; it needs their form and how many stand abreast.
function fit() {
  const picture = layers[0].querySelector("img"), bench = stage.closest(".bench");
  if (!picture.naturalWidth) return;
  bench.style.setProperty("--form", picture.naturalWidth / picture.naturalHeight);
  bench.style.setProperty("--columns", state.mode !== "side" || window.innerWidth <= 640 ? 1 : state.mapped ? 4 : 3);
  const shown = layers[state.mode === "alone" ? state.alone : 0].querySelector(".picture").clientWidth * state.zoom * (window.devicePixelRatio || 1);
  stage.classList.toggle("enlarged", shown > picture.naturalWidth);
}

function arrange() {
  const [first, second] = state.cuts, shares = [[0, first], [first, second], [second, 100]];
  stage.classList.toggle("split", state.mode === "split");
  stage.classList.toggle("side", state.mode === "side");
  stage.classList.toggle("mapped", state.mapped);
  stage.classList.toggle("alone", state.mode === "alone");
  stage.style.setProperty("--zoom", state.zoom);
  layers.forEach((layer, place) => {
    const [left, right] = state.mode === "split" ? shares[place] : [0, 100];
    layer.querySelector(".picture").style.clipPath = state.mode === "split" ? `inset(0 ${100 - right}% 0 ${left}%)` : "none";
    layer.style.display = (state.mode === "alone" && place !== state.alone) || (state.mapped && state.mode !== "side") ? "none" : "";
  });
  handles.forEach((handle, place) => {
    handle.style.left = `${state.cuts[place]}%`;
    handle.setAttribute("aria-valuenow", Math.round(state.cuts[place]));
  });
  byId("split").setAttribute("aria-pressed", state.mode === "split");
  byId("side").setAttribute("aria-pressed", state.mode === "side");
  byId("mapped").setAttribute("aria-pressed", state.mapped);
  byId("zoom").textContent = `${state.zoom}×`;
  for (const button of document.querySelectorAll("[data-show]"))
    button.setAttribute("aria-pressed", state.mode === "alone" && Number(button.dataset.show) === state.alone);
  fit();
}

// Blue where the tuned picture is nearer to the truth than the baseline, red where it is farther: of the squared errors, a pixel each.
async function drawMap() {
  const frame = state.order[state.at];
  const pictures = await Promise.all(data.pictures[frame[PICTURE]].map(async source => { const picture = new Image(); picture.src = source; await picture.decode(); return picture; }));
  if (frame !== state.order[state.at]) return;
  const width = pictures[0].naturalWidth, height = pictures[0].naturalHeight, canvas = byId("map").querySelector("canvas");
  const [was, now, truth] = pictures.map(picture => {
    const paper = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    paper.drawImage(picture, 0, 0);
    return paper.getImageData(0, 0, width, height).data;
  });
  canvas.width = width; canvas.height = height;
  const pen = canvas.getContext("2d"), drawn = pen.createImageData(width, height), out = drawn.data;
  for (let at = 0; at < out.length; at += 4) {
    let gain = 0, grey = 0;
    for (let channel = 0; channel < 3; channel++) {
      gain += (was[at + channel] - truth[at + channel]) ** 2 - (now[at + channel] - truth[at + channel]) ** 2;
      grey += truth[at + channel] / 3;
    }
    const strength = Math.min(1, Math.sqrt(Math.abs(gain)) / 60), ground = 18 + .3 * grey, [r, g, b] = gain > 0 ? [70, 160, 255] : [255, 120, 50];
    out[at] = ground + (r - ground) * strength; out[at + 1] = ground + (g - ground) * strength; out[at + 2] = ground + (b - ground) * strength; out[at + 3] = 255;
  }
  pen.putImageData(drawn, 0, 0);
}

// --- what a person does ------------------------------------------------------------------------------------------------

function go(place) {
  if (!state.order.length) return;
  state.at = Math.min(state.order.length - 1, Math.max(0, place));
  if (state.at >= state.listed) { state.listed = state.at + LISTED; drawList(); }
  history.replaceState(null, "", `#frame=${nameOf(state.order[state.at])}`);
  show();
}

function cut(handle, percent) {
  const [low, high] = handle === 0 ? [0, state.cuts[1]] : [state.cuts[0], 100];
  state.cuts[handle] = Math.min(high, Math.max(low, percent));
  state.held = handle;
  arrange();
}

function setMode(mode, alone = state.alone) { state.mode = mode; state.alone = alone; arrange(); }
function toggleMap() { state.mapped = !state.mapped; if (state.mapped && !stage.classList.contains("empty")) drawMap(); arrange(); }
function nextZoom() { state.zoom = state.zoom >= 4 ? 1 : state.zoom * 2; arrange(); }

function follow() {
  const hash = decodeURIComponent(location.hash.slice(1)), wanted = hash.split("=").slice(1).join("=");
  if (hash.startsWith("frame=")) {
    const frame = data.frames.find(each => nameOf(each) === wanted);
    if (!frame) return;
    if (!state.order.includes(frame)) {
      byId("scene").value = ""; byId("camera").value = ""; byId("text").value = "";
      if (frame[PICTURE] === null) byId("pictured").checked = false;
    }
    choose(frame);
  } else if (hash.startsWith("scene=") && data.scenes.includes(wanted)) {
    byId("scene").value = byId("scene").value === wanted ? "" : wanted;
    choose();
    history.replaceState(null, "", location.pathname);
    byId("frames").scrollIntoView({ block: "start" });
  }
}

byId("metric").addEventListener("input", () => { state.metric = Number(byId("metric").value); choose(); });
for (const id of ["sort", "scene", "camera", "text", "pictured"])
  byId(id).addEventListener("input", () => choose(id === "sort" ? undefined : state.order[state.at]));
byId("split").addEventListener("click", () => setMode("split"));
byId("side").addEventListener("click", () => setMode("side"));
byId("mapped").addEventListener("click", toggleMap);
byId("zoom").addEventListener("click", nextZoom);
for (const button of document.querySelectorAll("[data-show]"))
  button.addEventListener("click", () => setMode("alone", Number(button.dataset.show)));
byId("list").addEventListener("click", event => {
  const link = event.target.closest("a");
  if (link) { event.preventDefault(); go(Number(link.dataset.place)); }
});
byId("ranks").addEventListener("click", event => go(Math.floor(event.offsetX / event.currentTarget.clientWidth * state.order.length)));
handles.forEach((handle, place) => {
  handle.addEventListener("keydown", event => {
    const by = { ArrowLeft: -STEP, ArrowRight: STEP, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (by) { event.preventDefault(); event.stopPropagation(); cut(place, state.cuts[place] + by); }
  });
});
stage.addEventListener("pointerdown", event => {
  if (state.mode !== "split" || event.button) return;
  const box = stage.getBoundingClientRect(), percent = 100 * (event.clientX - box.left) / box.width;
  const near = handles.indexOf(event.target) >= 0 ? handles.indexOf(event.target) : Math.abs(percent - state.cuts[0]) <= Math.abs(percent - state.cuts[1]) ? 0 : 1;
  stage.setPointerCapture(event.pointerId);
  state.dragged = near;
  handles[near].focus({ preventScroll: true });
  cut(near, percent);
});
stage.addEventListener("pointermove", event => {
  const box = (event.target.closest(".picture") || stage).getBoundingClientRect();
  if (state.dragged !== undefined && state.mode === "split") {
    const whole = stage.getBoundingClientRect();
    cut(state.dragged, 100 * (event.clientX - whole.left) / whole.width);
  } else {
    stage.style.setProperty("--x", `${100 * (event.clientX - box.left) / box.width}%`);
    stage.style.setProperty("--y", `${100 * (event.clientY - box.top) / box.height}%`);
  }
});
for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => { state.dragged = undefined; });
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing()) { if (event.key === "Escape") document.activeElement.blur(); return; }
  const keys = {
    ArrowDown: () => go(state.at + 1), j: () => go(state.at + 1), ArrowUp: () => go(state.at - 1), k: () => go(state.at - 1),
    ArrowLeft: () => cut(state.held, state.cuts[state.held] - STEP), ArrowRight: () => cut(state.held, state.cuts[state.held] + STEP),
    1: () => setMode("alone", 0), 2: () => setMode("alone", 1), 3: () => setMode("alone", 2), 0: () => setMode("split"),
    s: () => setMode(state.mode === "side" ? "split" : "side"), d: toggleMap, z: nextZoom, "/": () => byId("text").focus(),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
window.addEventListener("resize", () => { fit(); drawRanks(); });
window.addEventListener("hashchange", follow);
byId("theme").addEventListener("click", () => setTimeout(drawRanks));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawRanks);
choose();
follow();
