// The script of a page to explore.
"use strict";

const {content, layers, first, steps} = JSON.parse(document.getElementById("content-data").textContent);
const [channels, height, width] = content.shape;
// What counts as a pixel: one, or one of each channel; then there are as many entries of top pixels.
const pixels = height * width, {counted} = content, entries = counted * pixels;
const called = label => content.classNames?.[label] ?? label;
const control = name => document.getElementById(name);
const point = control("point");

// Brewer's RdBu from blue to red, as in the figures.
const ANCHORS = ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"]
  .map(colour => [0, 2, 4].map(start => parseInt(colour.slice(start, start + 2), 16)));
const SHADES = {both: "#0072b2", before: "#e69f00", after: "#cc79a7"};

function diverging(value) {
  const place = (value + 1) / 2 * (ANCHORS.length - 1), left = Math.min(Math.floor(place), ANCHORS.length - 2);
  const mixed = ANCHORS[left].map((low, part) => Math.round(low + (place - left) * (ANCHORS[left + 1][part] - low)));
  return `rgb(${mixed})`;
}

// All arrays, one after the other; the content says where each begins.
let arrays;
async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("arrays").textContent), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  arrays = new Uint8Array(await new Response(stream).arrayBuffer());
}

// Of one point: an image [C, H, W], relevance [H, W] between -1 and 1, and to how many of the top k a pixel belongs.
const part = (begin, index, size) => arrays.subarray(begin + index * size, begin + (index + 1) * size);
const image = (begin, index) => part(begin, index, channels * pixels);
const relevance = (begin, index) => Array.from(part(begin, index, pixels), value => (value << 24 >> 24) / steps);
const isTop = k => {
  const others = content.topK.length - 1 - content.topK.findIndex(value => String(value) === k);
  return count => count > others;
};
const inAnyChannel = (top, pixel) => {
  for (let channel = 0; channel < counted; channel++) if (top[channel * pixels + pixel]) return true;
  return false;
};

function overlap(pair, index, k) {
  const [before, after] = pair.map(begin => part(begin, index, entries).map(isTop(k)));
  const both = before.map((is, entry) => is & after[entry]), size = top => top.reduce((sum, is) => sum + is, 0);
  return {before, after, both, top: size(before), shared: size(both), robustness: size(both) / size(before)};
}

// Overlap of top pixels of every point.
const known = new Map();
function robustness(of, k) {
  const key = `${of.tops} ${k}`;
  if (!known.has(key)) known.set(key, content.points.map((_, index) => overlap(of.tops, index, k).robustness));
  return known.get(key);
}

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
function deviation(values) {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}
const three = value => value.toFixed(3);
const range = values => {
  const [low, high] = [three(Math.min(...values)), three(Math.max(...values))];
  return low === high ? low : `${low} to ${high}`;
};

function paint(canvas, colour, top) {
  const scale = Math.max(1, Math.floor(224 / Math.max(width, height)));
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const brush = canvas.getContext("2d");
  for (let pixel = 0; pixel < pixels; pixel++) {
    brush.fillStyle = colour(pixel);
    brush.fillRect(pixel % width * scale, Math.floor(pixel / width) * scale, scale, scale);
  }
  if (top) outline(brush, top, scale);
}

function outline(brush, top, scale) {
  const inside = (row, column) => row >= 0 && row < height && column >= 0 && column < width && inAnyChannel(top, row * width + column);
  const line = Math.max(1, Math.round(scale / 12));
  brush.fillStyle = "#222";
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
    if (!inside(row, column)) continue;
    const [x, y] = [column * scale, row * scale];
    if (!inside(row - 1, column)) brush.fillRect(x, y, scale, line);
    if (!inside(row + 1, column)) brush.fillRect(x, y + scale - line, scale, line);
    if (!inside(row, column - 1)) brush.fillRect(x, y, line, scale);
    if (!inside(row, column + 1)) brush.fillRect(x + scale - line, y, line, scale);
  }
}

const shade = values => pixel => channels === 3
  ? `rgb(${[0, 1, 2].map(channel => values[channel * pixels + pixel])})`
  : `rgb(${Array(3).fill(255 - values[pixel])})`;

// What an attack changed, in the largest change of any channel: none is the middle, of grey as of every colour.
function changed(before, after) {
  const change = Array.from(after, (value, entry) => value - before[entry]);
  const most = change.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  return {most: most / 255, values: change.map(value => Math.round(128 + 100 * value / (most || 1)))};
}

function fill(section, kind, title, note, colour, top) {
  const figure = section.querySelector(`.${kind}`);
  paint(figure.querySelector("canvas"), colour, top);
  figure.querySelector("canvas").setAttribute("aria-label", `${title}. ${note}`);
  figure.querySelector("span").textContent = note;
}

const named = model => model.draws > 1 ? `${model.name}, ${model.draws} draws` : model.name;
const signed = value => value.toPrecision(2).replace("-", "\u2212");

function show(name, model, view) {
  const section = document.getElementById(name), {index, k} = view, seen = model.seeds[view.seed];
  const maps = seen.maps[view.explanation][view.layer], found = overlap(maps.tops, index, k);
  const label = content.points[index].label, heading = `${named(model)}, seed ${seen.seed}`;
  const predicted = seen.predictions.map(part =>
    `predicted ${called(part.class[index])} (${(100 * part.probability[index]).toFixed(0)} %), ${part.class[index] === label ? "right" : "wrong"}`);
  section.style.setProperty("--colour", model.colour);
  section.querySelector("h2").textContent = heading;
  const survives = `Overlap of top pixels ${three(found.robustness)}, on average ${three(mean(robustness(maps, k)))}; softmax robustness ${three(seen.softmaxRobustness[index])}.`;
  const blank = maps.relevant[index] < k / 100 * entries
    ? ` Only ${maps.relevant[index]} of ${entries} pixels had any relevance before the attack: blank ones fill the top k in the order of their index.` : "";
  section.querySelector(".prediction").textContent = survives + blank;
  const [before, after] = maps.maps.map(begin => relevance(begin, index));
  const scale = `scale \u00b1${signed(maps.largest[index])}`;
  const [clean, attacked] = [image(content.images, index), image(seen.attacked, index)], change = changed(clean, attacked);
  fill(section, "image", `${heading}: the image`, predicted[0], shade(clean));
  fill(section, "attacked", `${heading}: the attacked image`, predicted[1], shade(attacked));
  fill(section, "change", `${heading}: what the attack changed`, `scale \u00b1${three(change.most)}`, shade(change.values));
  fill(section, "before", `${heading}: relevance before the attack`, scale, pixel => diverging(before[pixel]), found.before);
  fill(section, "after", `${heading}: relevance after the attack`, scale, pixel => diverging(after[pixel]), found.after);
  fill(section, "overlap", `${heading}: the top pixels of both`, `${found.shared} of ${found.top} survive`, pixel =>
    inAnyChannel(found.both, pixel) ? SHADES.both : inAnyChannel(found.before, pixel) ? SHADES.before
      : inAnyChannel(found.after, pixel) ? SHADES.after : "#fff");
  return `${heading}: ${found.shared} of ${found.top} top pixels survive.`;
}

function drawn(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

// Where a robustness lies in the scatter, and the frame of that.
const LEFT = 44, TOP = 18, SIDE = 278;
const across = value => LEFT + SIDE * value, upwards = value => TOP + SIDE * (1 - value);

// Points in the same place stand around it in a spiral.
function placed(pairs) {
  const crowd = new Map();
  return pairs.map(([x, y]) => {
    const before = crowd.get(`${x} ${y}`) ?? 0;
    crowd.set(`${x} ${y}`, before + 1);
    const [radius, angle] = [5 * Math.sqrt(before), 2.4 * before];
    return [across(x) + radius * Math.cos(angle), upwards(y) + radius * Math.sin(angle)];
  });
}

function axes(names, k) {
  const parts = [0, 0.25, 0.5, 0.75, 1].flatMap(value => [
    drawn("text", {x: across(value), y: TOP + SIDE + 15, "text-anchor": "middle"}, value),
    drawn("text", {x: LEFT - 6, y: upwards(value) + 4, "text-anchor": "end"}, value),
  ]);
  const chance = k / 100, bottom = TOP + SIDE;
  return [...parts,
    drawn("path", {class: "line", d: `M${across(0)} ${upwards(0)} L${across(1)} ${upwards(1)}`}),
    drawn("path", {class: "line dashed", d: `M${across(chance)} ${bottom} V${TOP} M${LEFT} ${upwards(chance)} H${LEFT + SIDE}`}),
    drawn("text", {x: LEFT + SIDE / 2, y: bottom + 32, "text-anchor": "middle"}, names[0]),
    drawn("text", {transform: `translate(11 ${TOP + SIDE / 2}) rotate(-90)`, "text-anchor": "middle"}, names[1]),
  ];
}

let places = [];
function scatter(models, values, view) {
  const [xs, ys] = values.map(seeds => seeds[view.seed]), seed = content.seeds[view.seed];
  places = placed(xs.map((x, index) => [x, ys[index]]));
  const figure = control("scatter"), marks = control("marks");
  figure.querySelector(".axes").replaceChildren(...axes(models.map(named), view.k));
  marks.replaceChildren(...places.map(([cx, cy], index) => drawn("circle", {
    role: "option", id: `mark-${index}`, "aria-selected": index === view.index, cx, cy, r: 4,
    "aria-label": `Test image ${content.points[index].index}, class ${called(content.points[index].label)}: ${models.map((model, number) => `${named(model)} ${three(values[number][view.seed][index])}`).join(", ")}`,
  })));
  marks.setAttribute("aria-activedescendant", `mark-${view.index}`);
  const elsewhere = content.seeds.map((_, number) => number).filter(number => number !== view.seed)
    .map(number => values.map(seeds => seeds[number][view.index]))
    .map(([x, y]) => drawn("path", {class: "elsewhere", d: `M${across(x)} ${upwards(y) - 5} l5 5 l-5 5 l-5 -5 z`}));
  const [cx, cy] = places[view.index];
  figure.querySelector(".chosen").replaceChildren(...elsewhere, drawn("circle", {class: "here", cx, cy, r: 7}));
  const better = xs.filter((x, index) => x < ys[index]).length, worse = xs.filter((x, index) => x > ys[index]).length;
  control("scatter-note").textContent = `Overlap of top pixels under seed ${seed}: each dot is a test point, to be clicked or chosen by arrow keys; `
    + `dots in the same place stand around it. Ring: the chosen point${elsewhere.length ? "; diamonds: the same point under the other seeds" : ""}. `
    + `Dotted: chance. ${named(models[1])} is above ${named(models[0])} at ${better} points, below at ${worse} of ${xs.length}.`;
}

// A row of dots on an axis from 0 to 1, one for each seed; equal ones are stacked.
function strip(name, values, now, top) {
  const room = 24, stacked = new Map(), step = Math.min(7, (room - 5) / values.length);
  const dots = values.map((value, seed) => {
    const below = stacked.get(value) ?? 0;
    stacked.set(value, below + 1);
    return drawn("circle", {class: seed === now ? "now" : "elsewhere", cx: 12 + 316 * value, cy: top + 18 + room - 5 - step * below, r: 3.5});
  });
  const base = top + 18 + room;
  return [
    drawn("text", {x: 0, y: top + 12}, `${name}: ${range(values)}`),
    drawn("path", {class: "line", d: `M12 ${base} H328 M12 ${base} v4 M170 ${base} v4 M328 ${base} v4`}),
    ...dots.filter((_, seed) => seed !== now), dots[now],
  ];
}

function spread(models, values, view) {
  const figure = control("strips"), rows = models.flatMap((model, number) => [
    [`${named(model)}, this point`, values[number].map(seed => seed[view.index])],
    [`${named(model)}, mean of all points`, values[number].map(mean)],
  ]);
  figure.setAttribute("viewBox", `0 0 340 ${54 * rows.length + 14}`);
  figure.replaceChildren(
    ...rows.flatMap(([name, found], row) => strip(name, found, view.seed, 54 * row)),
    ...[0, 0.5, 1].map(value => drawn("text", {x: 12 + 316 * value, y: 54 * rows.length + 8, "text-anchor": "middle"}, value)),
  );
  const said = ([name, found]) => `${name}: ${found.map((value, seed) => `seed ${content.seeds[seed]} ${three(value)}`).join(", ")}`;
  figure.setAttribute("aria-label", `Overlap of top pixels under each seed. ${rows.map(said).join(". ")}.`);
  const alone = content.seeds.length === 1;
  const differs = models.map((model, number) =>
    `${three(mean(content.points.map((_, index) => deviation(values[number].map(seed => seed[index])))))} (${named(model)})`);
  control("spread").textContent = alone
    ? "Overlap of top pixels. There is one seed here: how much another training would change cannot be seen."
    : `Overlap of top pixels under each of ${content.seeds.length} seeds; filled: seed ${content.seeds[view.seed]}. One point's differs between seeds by a standard deviation of ${differs.join(" and ")}, on average over all points.`;
}

// The least robust under this seed first; equally robust ones by their mean over seeds.
function leastFirst(seeds, now) {
  const means = content.points.map((_, index) => mean(seeds.map(seed => seed[index])));
  return content.points.map((_, index) => index).sort((a, b) => seeds[now][a] - seeds[now][b] || means[a] - means[b] || a - b);
}

let chosen = 0, order = [], values = [];
const ORDERS = {number: values => values[0][0].map((_, index) => index), reference: (values, now) => leastFirst(values[0], now), model: (values, now) => leastFirst(values[1], now)};

function update() {
  const explanation = control("explanation").value, k = control("k").value, seed = control("seed").selectedIndex;
  for (const option of control("layer").options) option.disabled = !(option.value in content.reference.seeds[0].maps[explanation]);
  if (control("layer").selectedOptions[0].disabled) control("layer").selectedIndex = [...control("layer").options].findLastIndex(option => !option.disabled);
  const layer = control("layer").value;
  for (const option of control("draws").options) {
    const has = explanation in content.models[option.index].seeds[0].maps;
    option.disabled = !has;
    option.text = option.value + (has ? "" : " (without this explanation)");
  }
  if (control("draws").selectedOptions[0].disabled) control("draws").selectedIndex = content.models.findLastIndex(model => explanation in model.seeds[0].maps);
  const models = [content.reference, content.models[control("draws").selectedIndex]], view = {index: chosen, explanation, layer, k, seed};
  values = models.map(model => model.seeds.map(seen => robustness(seen.maps[explanation][layer], k)));
  order = ORDERS[control("order").value](values, seed);
  point.value = order.indexOf(chosen) + 1;
  const of = content.points[chosen], where = `${point.value} of ${point.max}: test image ${of.index}, class ${called(of.label)}`;
  control("which").textContent = `no. ${of.index}, class ${called(of.label)}`;
  point.setAttribute("aria-valuetext", where);
  const said = [show("reference", models[0], view), show("model", models[1], view)];
  scatter(models, values, view);
  spread(models, values, view);
  control("status").textContent = `Point ${where}. ${said.join(" ")}`;
  history.replaceState(null, "", `#${new URLSearchParams(address())}`);
}

function address() {
  const names = ["order", "seed", "explanation", "layer", "draws", "k"];
  return {point: content.points[chosen].index, ...Object.fromEntries(names.map(name => [name, control(name).value]))};
}

function go(index) {
  chosen = index;
  control("missing").hidden = true;
  update();
}

function choose(name, value) {
  if ([...control(name).options].some(option => option.value === value)) control(name).value = value;
}

// What an address names and this page has; the rest stays as it is, and the page says so.
function follow() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const place = content.points.findIndex(of => String(of.index) === asked.point);
  if (place >= 0) chosen = place;
  for (const name of ["order", "seed", "explanation", "layer", "draws", "k"]) choose(name, asked[name]);
  update();
  const missing = Object.entries(address()).filter(([name, shown]) => name in asked && asked[name] !== String(shown));
  control("missing").textContent = missing.map(([name, shown]) => `The address asks for ${name} ${asked[name]}, which is not on this page: it shows ${name} ${shown}.`).join(" ");
  control("missing").hidden = !missing.length;
}

// To the next point by robustness: left and right by the reference's, up and down by the other model's.
function step(event) {
  const [number, way] = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1]}[event.key] ?? [];
  if (way === undefined) return;
  event.preventDefault();
  const sorted = leastFirst(values[number], control("seed").selectedIndex);
  go(sorted[Math.min(Math.max(sorted.indexOf(chosen) + way, 0), sorted.length - 1)]);
}

// The point next to a click, so that nobody must hit a dot.
function hit(event) {
  const {x, y} = new DOMPoint(event.clientX, event.clientY).matrixTransform(control("scatter").getScreenCTM().inverse());
  const distances = places.map(place => Math.hypot(place[0] - x, place[1] - y)), nearest = distances.indexOf(Math.min(...distances));
  if (distances[nearest] < 20) go(nearest);
}

async function start() {
  await unpack();
  const explanations = [...new Set(content.models.flatMap(model => Object.keys(model.seeds[0].maps)))].sort();
  const {reference} = content, other = content.models[0];
  control("order").append(new Option("by number", "number"), new Option(`${reference.name}: least robust first`, "reference"), new Option(`${other.name}: least robust first`, "model"));
  control("seed").append(...content.seeds.map(seed => new Option(seed, seed)));
  control("explanation").append(...explanations.map(explanation => new Option(explanation, explanation)));
  control("layer").append(...Object.entries(layers).map(([layer, name]) => new Option(name, layer)));
  control("draws").append(...content.models.map(model => new Option(model.draws, model.draws)));
  control("k").append(...content.topK.map(k => new Option(`${k} %`, k)));
  for (const name of ["layer", "draws"]) control(name).selectedIndex = control(name).options.length - 1;
  choose("explanation", first.explanation);
  choose("k", String(first.k));
  control("scale").style.background = `linear-gradient(to right, ${ANCHORS.map(colour => `rgb(${colour})`)})`;
  document.querySelector("form").addEventListener("submit", event => event.preventDefault());
  for (const event of ["input", "change"]) {
    document.querySelector("form").addEventListener(event, ({target}) => go(target === point ? order[point.value - 1] : chosen));
  }
  control("scatter").addEventListener("click", hit);
  control("marks").addEventListener("keydown", step);
  addEventListener("hashchange", follow);
  follow();
}

function fail(error) {
  control("missing").textContent = "DecompressionStream" in window ? `This page is damaged: ${error.message}`
    : "This browser is too old for this page, which needs one of 2023 or later.";
  control("missing").hidden = false;
}

const main = document.querySelector("main");
main.setAttribute("aria-busy", "true");
start().catch(fail).finally(() => main.removeAttribute("aria-busy"));
