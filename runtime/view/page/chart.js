// Curves by epoch: read out under the pointer or by arrow keys, smoothed, on a logarithmic axis, of several runs over one another.
import { h, harmless, svg } from "./dom.js";
import { grouped } from "./model.js";
import { readOut, readingOf } from "./reading.js";
import { measure } from "./units.js";

const CHART = { width: 560, height: 230, left: 58, right: 14, top: 10, bottom: 26 };
const SERIES = ["--forward", "--backward", "--update", "--fourth", "--fifth"];
const FAR_APART = 20; // positive values that lie further apart stand on a logarithmic axis

// `runs` have a name, curves by scalar and part, and the best epoch.
export function curvesOf(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
  if (!names.length) return h("p", { class: "quiet" }, "No epoch has ended yet.");
  const chosen = { weight: 0, hidden: new Set(), axes: new Map() };
  const charts = h("div", { class: "charts" });
  const draw = () => charts.replaceChildren(...names.map((name) => chartOf(name, runs.map((run, n) => ({ ...run, n })).filter((run) => run.curves[name] && !chosen.hidden.has(run.name)), runs.length > 1, chosen)));
  const slider = h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: 0, ariaLabel: "smoothing", oninput: (event) => { chosen.weight = Number(event.target.value); said.textContent = chosen.weight.toFixed(2); draw(); } });
  const said = h("output", {}, "0.00");
  draw();
  return h("div", {}, h("div", { class: "tools" }, h("label", {}, "smoothing ", slider, said), ...(runs.length > 1 ? runs.map((run, n) => runKey(run, n, chosen, draw)) : [])), charts);
}

function runKey(run, n, chosen, draw) {
  const toggle = () => {
    if (!chosen.hidden.delete(run.name)) chosen.hidden.add(run.name);
    key.setAttribute("aria-pressed", String(!chosen.hidden.has(run.name)));
    draw();
  };
  const key = h("button", { class: "key", onclick: toggle, title: "show or hide this run" }, swatchOf(inkOf(n)), run.name);
  key.setAttribute("aria-pressed", "true");
  return key;
}

const inkOf = (n) => `var(${SERIES[n % SERIES.length]})`;
const swatchOf = (ink) => h("i", { style: { background: ink } });

// One run has a colour for each part of the data; of several, each has its colour, and the training is dotted.
function curveLines(name, runs, areMany) {
  return runs.flatMap((run) => Object.entries(run.curves[name]).map(([part, points], n, parts) => ({
    label: areMany ? `${run.name}${parts.length > 1 ? `, ${part}` : ""}` : name === "rate" ? name : part,
    ink: inkOf(areMany ? run.n : n),
    dash: areMany && parts.length > 1 && part === "training" ? "2 3" : null,
    points: points.filter(([, value]) => value !== null),
  })));
}

function chartOf(name, runs, areMany, chosen) {
  const lines = curveLines(name, runs, areMany).filter((line) => line.points.length);
  const said = readingOf("div", "read");
  const card = h("figure", { class: "chart" });
  const values = lines.flatMap((line) => line.points.map(([, value]) => value));
  const canBe = values.length > 0 && Math.min(...values) > 0;
  if (!chosen.axes.has(name)) chosen.axes.set(name, canBe && name !== "rate" && Math.max(...values) / Math.min(...values) > FAR_APART);
  const isLogarithmic = () => chosen.axes.get(name) && canBe;
  const toggle = h("input", { type: "checkbox", checked: isLogarithmic(), disabled: !canBe, onchange: () => { chosen.axes.set(name, toggle.checked); paint(); } });
  const paint = () => card.replaceChildren(h("figcaption", {}, h("b", {}, name.replaceAll("_", " ")), h("label", { class: "quiet" }, toggle, "logarithmic")), said, ...curvePicture(name, runs, areMany, lines, isLogarithmic(), chosen.weight, said));
  paint();
  return card;
}

function curvePicture(name, runs, areMany, lines, isLogarithmic, weight, said) {
  if (!lines.length) return [h("p", { class: "quiet" }, "no finite value")];
  const epochs = [...new Set(lines.flatMap(({ points }) => points.map(([epoch]) => epoch)))].sort((a, b) => a - b);
  const place = scalesOf(epochs, lines, isLogarithmic);
  const picture = svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": `${name} by epoch: arrows go through the epochs` }, ...curveAxes(place));
  const best = grouped(runs.filter((run) => run.best), (run) => run.best); // one ink where several runs share the epoch
  for (const [epoch, those] of best) picture.append(...bestOf(epoch, lines, place, areMany && those.length === 1 ? inkOf(those[0].n) : null));
  for (const line of lines) {
    if (weight) picture.append(curveStroke(line, line.points, place, 0.25));
    picture.append(curveStroke(line, smoothed(line.points, weight), place, 1));
  }
  const pointer = svg("line", { class: "pointer", y1: CHART.top, y2: CHART.height - CHART.bottom, visibility: "hidden" });
  picture.append(pointer);
  const ends = new Set(lines.map((line) => line.points.at(-1)[0]));
  const valueOf = (line, epoch) => (epoch === null ? line.points.at(-1) : line.points.find(([one]) => one === epoch))?.[1];
  const read = (epoch) => {
    const shown = epoch ?? (ends.size === 1 ? epochs.at(-1) : null); // where runs end apart, each has its last value
    pointer.setAttribute("visibility", epoch === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) pointer.setAttribute(end, place.across(epoch ?? epochs[0]));
    said.replaceChildren(h("span", {}, shown === null ? "last epochs" : `epoch ${shown}`), ...lines.map((line) => h("span", { class: "key" }, swatchOf(line.ink), `${line.label} `, h("b", {}, measure(valueOf(line, shown))))));
  };
  const under = (event) => {
    const across = ((event.clientX - picture.getBoundingClientRect().left) * CHART.width) / picture.clientWidth;
    return [0, nearest(epochs.map(place.across), across)];
  };
  readOut(picture, { size: () => [1, epochs.length, epochs.length], under, tell: (at) => read(at && epochs[at[1]]) });
  read(null);
  return [picture];
}

// The index of the number that is nearest to another one.
export const nearest = (numbers, wanted) => numbers.reduce((best, number, n) => (Math.abs(number - wanted) < Math.abs(numbers[best] - wanted) ? n : best), 0);

// Where an epoch and a value stand, with the ticks of both axes.
function scalesOf(epochs, lines, isLogarithmic) {
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = isLogarithmic ? powersOf(low, high) : roundTicks(low, high);
  const form = isLogarithmic ? Math.log10 : (value) => value;
  const [bottom, top] = isLogarithmic ? [form(low), form(high)] : [Math.min(low, ticks[0]), Math.max(high, ticks.at(-1))];
  const part = (value, from, to) => (to > from ? (value - from) / (to - from) : 0.5);
  const across = (epoch) => CHART.left + part(epoch, epochs[0], epochs.at(-1)) * (CHART.width - CHART.left - CHART.right);
  const up = (value) => CHART.height - CHART.bottom - part(form(value), bottom, top) * (CHART.height - CHART.top - CHART.bottom);
  const wholes = roundTicks(epochs[0], epochs.at(-1)).filter((tick) => Number.isInteger(tick) && tick >= epochs[0] && tick <= epochs.at(-1));
  return { across, up, ticks, epochs: wholes.length ? wholes : [epochs[0]] };
}

// Multiples of 1, 2 or 5 times a power of ten around values.
export function roundTicks(low, high, wanted = 4) {
  const rough = (high - low || Math.abs(high) || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const count = Math.min(20, Math.ceil(high / step - 1e-9) - first);
  return Array.from({ length: Math.max(1, count) + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
}

function powersOf(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const apart = Math.max(1, Math.floor((last - first) / 6));
  const factors = last - first <= 2 ? [1, 2, 5] : [1];
  const found = [];
  for (let power = first; power <= last; power += apart) found.push(...factors.map((factor) => factor * 10 ** power));
  const inside = found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return inside.length ? inside : [low];
}

export const tickText = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4 ? value.toExponential(1).replace(".0e", "e") : String(Number(value.toPrecision(4))));

function curveAxes(place) {
  const [right, bottom] = [CHART.width - CHART.right, CHART.height - CHART.bottom];
  const rows = place.ticks.flatMap((tick) => [svg("line", { class: "grid", x1: CHART.left, x2: right, y1: place.up(tick), y2: place.up(tick) }), written(tickText(tick), CHART.left - 8, place.up(tick) + 4, "end")]);
  const marks = place.epochs.map((epoch) => written(String(epoch), place.across(epoch), bottom + 18, "middle"));
  return [...rows, ...marks];
}

export function written(text, x, y, anchor) {
  const found = svg("text", { x, y, "text-anchor": anchor });
  found.textContent = harmless(text);
  return found;
}

// The best epoch, with its word where no curve passes; of several runs in the ink of its own.
function bestOf(epoch, lines, place, ink) {
  const x = place.across(epoch);
  const passes = lines.map(({ points }) => points.find(([one]) => one === epoch)).filter(Boolean).map(([, value]) => place.up(value));
  const y = Math.min(...passes) < (CHART.top + CHART.height - CHART.bottom) / 2 ? CHART.height - CHART.bottom - 6 : CHART.top + 9;
  const isRight = x > CHART.width - 90;
  return [svg("line", { class: "best", x1: x, x2: x, y1: CHART.top, y2: CHART.height - CHART.bottom, stroke: ink ?? "var(--faint)" }), written("best", x + (isRight ? -5 : 5), y, isRight ? "end" : "start")];
}

function curveStroke(line, points, place, opacity) {
  if (points.length === 1) return svg("circle", { cx: place.across(points[0][0]), cy: place.up(points[0][1]), r: 3, fill: line.ink });
  const path = points.map(([epoch, value], n) => `${n ? "L" : "M"}${place.across(epoch).toFixed(1)} ${place.up(value).toFixed(1)}`).join("");
  return svg("path", { d: path, stroke: line.ink, "stroke-dasharray": line.dash, opacity });
}

// Means in which a value counts `weight` times as much as the next; at the beginning over what there is.
export function smoothed(points, weight) {
  let [sum, total] = [0, 0];
  return points.map(([epoch, value]) => {
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return [epoch, sum / total];
  });
}
