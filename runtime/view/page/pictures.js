// An array as `values` writes it: pictures, bars, figures, a histogram. Blue is above 0 and orange below.
import { channelsOf, h, harmless } from "./dom.js";
import { framed, readOut, readingOf } from "./reading.js";
import { counted, share, whole } from "./units.js";

export const short = (number) => (typeof number !== "number" ? "not finite" : (Math.abs(number) >= 1e-3 && Math.abs(number) < 1e5) || number === 0 ? Number(number.toPrecision(4)).toString() : number.toExponential(2));

// `choose` is given the index of an element as a list, without the axis of the batch; `shape` is needed for it. `tokens`
// are the lists of tokens of the row: an axis as long as one of them is over its tokens.
export function arrayOf(name, value, shape = null, choose = null, tokens = []) {
  const said = readingOf("p", "quiet read");
  const read = (text) => (said.textContent = harmless(text));
  return h("div", { class: "values" }, ...pictured(name, value, shape, choose, (place) => read(place ? elementSaid(value, ...place, tokens) : "")), h("div", {}, histogramOf(name, value, read), figuresOfValue(value), said));
}

// `map 2, row 5 “o”, column 3 “w”: about 0.31`.
function elementSaid(value, map, y, x, element, tokens) {
  const placeOn = (axis, extent, n) => {
    const lists = tokens.filter((list) => list.length === extent);
    return `${axis} ${n}${lists.length === 1 ? ` “${lists[0][n]}”` : ""}`;
  };
  if (value.elements) return `${placeOn("element", value.count, y)}: ${element}`;
  const places = [value.maps > 1 ? `map ${map}` : "", placeOn("row", value.height, y), placeOn("column", value.width, x)];
  return `${places.filter(Boolean).join(", ")}: ${element}`;
}

// Pictures have 256 levels, which are enough for whole numbers of as many values.
function levelSaid(value, level) {
  const element = value.low + (level / 255) * (value.high - value.low);
  return /^[iub]/.test(value.type) && value.high - value.low <= 255 ? String(Math.round(element)) : `about ${Number(element.toPrecision(3))}`;
}

function figuresOfValue(value) {
  const rows = [["from", `${short(value.low)} to ${short(value.high)}`], ["mean", `${short(value.mean)} ± ${short(value.deviation)}`], ["zeros", share(value.zeros / Math.max(1, value.count))], ["elements", whole(value.count)]];
  if (value.dead) rows.push(["maps all zero", `${value.dead} of ${value.of}`]);
  if (value.not_finite) rows.push(["not finite", whole(value.not_finite)]);
  return h("table", {}, ...rows.map(([name, text]) => h("tr", { class: name === "not finite" ? "error" : "" }, h("td", { class: "quiet" }, name), h("td", { class: "r" }, text))));
}

function pictured(name, value, shape, choose, tell) {
  if (value.text !== null && value.text !== undefined) return [h("pre", { class: "plain text" }, value.text)];
  const pick = choose && ((place) => choose(place));
  if (value.elements) return [elementsOf(name, value, pick && ((n) => pick(shape?.length ? [n] : [])), tell)];
  const levels = Uint8Array.from(atob(value.levels), (mark) => mark.charCodeAt(0));
  const at = pick && ((map, y, x) => pick(placeOf(value, shape, map, y, x)));
  if (value.is_picture) return [canvasOf(name, value, levels, 0, value.maps, at, tell)];
  return Array.from({ length: value.maps }, (_, n) => canvasOf(name, value, levels, n, 1, at, tell)).concat(value.of > value.maps ? [h("span", { class: "quiet" }, `… ${value.of - value.maps} more`)] : []);
}

// The index of an element in a tensor of this shape, from its place in the pictures; null where nothing lies there.
function placeOf(value, shape, map, y, x) {
  if (shape.length === 1) {
    const place = y * value.width + x;
    return place < shape[0] ? [place] : null;
  }
  const outer = shape.slice(0, -2);
  const index = outer.map((_, axis) => Math.floor(map / outer.slice(axis + 1).reduce((all, extent) => all * extent, 1)) % outer[axis]);
  return [...index, y, x];
}

function elementsOf(name, value, pick, tell) {
  const rows = value.elements.map((element, n) => elementOf(value, element, n, pick));
  const list = h("div", { class: "elements", role: "group", ariaLabel: `${name}: arrows go through its elements` }, ...rows);
  const show = (place) => {
    rows.forEach((row, n) => row.classList.toggle("pointed", n === place?.[0]));
    tell(place && [0, place[0], 0, shown(value.elements[place[0]])]);
  };
  readOut(list, { size: () => [rows.length, 1, rows.length], under: (event) => placeIn(rows, event.target), tell: show, choose: pick && (([n]) => pick(n)) });
  return list;
}

function placeIn(rows, target) {
  const n = rows.findIndex((row) => row.contains(target));
  return n < 0 ? null : [n, 0];
}

const shown = (element) => (typeof element === "number" ? short(element) : element);

function elementOf(value, element, n, pick) {
  const size = Math.max(Math.abs(value.low), Math.abs(value.high)) || 1;
  return h("div", { class: `element${pick ? " goes" : ""}` }, h("span", { class: "quiet r" }, String(n)), h("span", { class: "bar" }, h("i", { class: element < 0 ? "backward" : "forward", style: { width: `${(100 * Math.abs(element)) / size}%` } })),
    h("span", { class: "r" }, shown(element)));
}

// As strong as the largest element of either sign; a picture has its own colours.
function canvasOf(name, value, levels, map, channels, at, tell) {
  const { width, height } = value;
  const valueAt = (place) => value.low + (levels[place] / 255) * (value.high - value.low);
  const title = value.is_picture || value.maps === 1 ? name : `${name}, map ${map}`;
  const canvas = h("canvas", { width, height, class: at ? "goes" : "", title, role: "img", ariaLabel: `${title}: arrows go through its elements` });
  const scale = value.maps > 1 && !value.is_picture ? Math.max(1, Math.floor((value.maps > 8 ? 72 : 144) / Math.max(width, height))) : Math.max(1, Math.floor(260 / Math.max(width, height)));
  Object.assign(canvas.style, { width: `${width * scale}px`, height: `${height * scale}px` });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const missing = Uint8Array.from(atob(value.missing), (mark) => mark.charCodeAt(0));
  const isMissing = (place) => Boolean((missing[place >> 3] ?? 0) & (128 >> (place & 7)));
  const strongest = Math.max(Math.abs(value.low), Math.abs(value.high)) || 1;
  for (let n = 0; n < width * height; n++) {
    if (n >= value.count) break; // a vector in rows, the last of which is not full
    const place = map * width * height + n;
    const colour = value.is_picture ? ownColour(levels, n, width * height, channels) : isMissing(place) ? channelsOf("--error") : signedColour(valueAt(place) / strongest);
    image.data.set([...colour, 255], 4 * n);
  }
  context.putImageData(image, 0, 0);
  const size = [height, width, Math.min(width * height, value.count)];
  const under = (event) => {
    const [y, x] = [Math.min(height - 1, Math.floor(event.offsetY / scale)), Math.min(width - 1, Math.floor(event.offsetX / scale))];
    return y * width + x < size[2] ? [y, x] : null;
  };
  const saidAt = (y, x) => {
    const places = Array.from({ length: channels }, (_, channel) => (map + channel) * width * height + y * width + x);
    return places.map((place) => (isMissing(place) ? "not finite" : levelSaid(value, levels[place]))).join(", ");
  };
  const [box, move] = framed(canvas, scale, scale);
  const show = (place) => {
    move(place);
    tell(place && [map, ...place, saidAt(...place)]);
  };
  readOut(canvas, { size: () => size, under, tell: show, choose: at && (([y, x]) => at(map, y, x)) });
  return box;
}

const ownColour = (levels, n, size, channels) => (channels === 3 ? [levels[n], levels[size + n], levels[2 * size + n]] : [levels[n], levels[n], levels[n]]);

function signedColour(part) {
  const [from, to] = [channelsOf("--raised"), channelsOf(part >= 0 ? "--forward" : "--backward")];
  const strength = Math.min(1, Math.abs(part)) ** 0.6; // small values are seen as well
  return from.map((level, n) => Math.round(level + strength * (to[n] - level)));
}

const BAR = { width: 6, height: 48 };

function histogramOf(name, value, read) {
  const most = Math.max(...value.histogram, 1);
  const bins = value.histogram.length;
  const edge = (n) => short(value.edges[0] + (n / bins) * (value.edges[1] - value.edges[0]));
  const title = `how often, from ${edge(0)} to ${edge(bins)}`;
  const canvas = h("canvas", { width: BAR.width * bins, height: BAR.height, title, role: "img", ariaLabel: `${name}, ${title}: arrows go through the bars` });
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--forward");
  value.histogram.forEach((count, n) => context.fillRect(n * BAR.width, BAR.height - (BAR.height * count) / most, BAR.width - 1, (BAR.height * count) / most));
  const [box, move] = framed(canvas, BAR.width, BAR.height);
  const show = (place) => {
    move(place);
    read(place ? `from ${edge(place[1])} to ${edge(place[1] + 1)}: ${counted(value.histogram[place[1]], "element")}` : "");
  };
  readOut(canvas, { size: () => [1, bins, bins], under: (event) => [0, Math.min(bins - 1, Math.floor(event.offsetX / BAR.width))], tell: show });
  return box;
}
