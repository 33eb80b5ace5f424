// Curves over the steps of a training, read out under the pointer or by keys.
import { nearest, roundTicks, tickText, written } from "./chart.js";
import { h, svg } from "./dom.js";
import { readOut, readingOf } from "./reading.js";
import { whole } from "./units.js";

const FRAME = { width: 400, height: 168, left: 58, right: 10, top: 8, bottom: 22 };
const GRID_LINES = 3;

// A card that keeps focus and place while its curves grow: `paint` draws them anew.
export function traceOf(title, fromZero = false) {
  const plain = h("span", { class: "quiet" });
  const said = readingOf("span", "quiet");
  const picture = svg("svg", { viewBox: `0 0 ${FRAME.width} ${FRAME.height}`, role: "img", "aria-label": `${title} by step: arrows go through the steps` });
  const root = h("div", { class: "curve trace" }, h("div", { class: "tools" }, h("b", {}, title), plain, said), picture);
  let curves = null;
  let at = null; // the step that is read
  const tell = (step) => {
    at = step;
    plain.hidden = step !== null;
    curves.mark(step);
    const text = step === null ? "" : curves.said(step);
    if (said.textContent !== text) said.textContent = text; // what stays is not said again
  };
  readOut(picture, { size: () => [1, curves.steps.length, curves.steps.length], under: (event) => [0, nearest(curves.steps, curves.under(event, picture))], tell: (place) => tell(place && curves.steps[place[1]]) });
  const paint = (series, each, now) => {
    const shown = series.filter(({ points }) => points.length);
    root.hidden = !shown.length;
    if (!shown.length) return;
    plain.replaceChildren(...shown.filter(({ isFaint }) => !isFaint).map(({ name, ink, points }) => keyOf(name, ink, points.at(-1)[1])));
    curves = curvesIn(picture, shown, each, now, fromZero);
    tell(at);
  };
  return { root, paint };
}

// Draws curves: `each` is how many steps an epoch has, and `now` the last step that was made; `fromZero` lets the axis begin there.
function curvesIn(picture, shown, each, now, fromZero) {
  const every = shown.flatMap(({ points }) => points);
  const steps = [...new Set(every.map(([step]) => step))].sort((a, b) => a - b);
  const last = Math.max(now, steps.at(-1));
  const values = [...every.map(([, value]) => value), ...(fromZero ? [0] : [])];
  const ticks = roundTicks(Math.min(...values), Math.max(...values), GRID_LINES);
  const [low, high] = [ticks[0], ticks.at(-1)];
  const across = (step) => FRAME.left + (step / (last || 1)) * (FRAME.width - FRAME.left - FRAME.right);
  const down = (value) => FRAME.height - FRAME.bottom - ((value - low) / (high - low || 1)) * (FRAME.height - FRAME.top - FRAME.bottom);
  const line = svg("line", { class: "mark", y1: FRAME.top, y2: FRAME.height - FRAME.bottom });
  const mark = (step) => {
    line.setAttribute("visibility", step === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) line.setAttribute(end, across(step ?? 0));
  };
  picture.replaceChildren(...axesOf(ticks, down, last, across, each), ...shown.flatMap((one) => strokeOf(one, across, down)), line);
  const under = (event) => (((event.offsetX * FRAME.width) / picture.clientWidth - FRAME.left) / (FRAME.width - FRAME.left - FRAME.right)) * last;
  const said = (wanted) => shown.map(({ name, points }) => [name, points[nearest(points.map(([step]) => step), wanted)]]).map(([name, [step, value]]) => `${name} ${inShort(value)} at step ${whole(step)}`).join(", ");
  return { steps, under, said, mark };
}

const inShort = (value) => (Math.abs(value) >= 1e-3 || value === 0 ? String(Number(value.toPrecision(4))) : value.toExponential(2));

function keyOf(name, ink, value) {
  return h("span", { class: "key" }, h("i", { style: { background: ink } }), `${name} ${inShort(value)}`);
}

function axesOf(ticks, down, last, across, each) {
  const rows = ticks.flatMap((tick) => [svg("line", { class: "grid", x1: FRAME.left, x2: FRAME.width - FRAME.right, y1: down(tick), y2: down(tick) }), written(tickText(tick), FRAME.left - 8, down(tick) + 4, "end")]);
  const epochs = (last / each).toFixed(last / each < 10 && last % each ? 1 : 0);
  return [...rows, written(`step ${whole(last)}, epoch ${epochs}`, across(last), FRAME.height - 5, "end")];
}

function strokeOf({ points, ink, isFaint }, across, down) {
  const path = points.map(([step, value], n) => `${n ? "L" : "M"}${across(step).toFixed(1)} ${down(value).toFixed(1)}`).join("");
  const [step, value] = points.at(-1);
  return [svg("path", { d: path, stroke: ink, opacity: isFaint ? 0.4 : 1 }), ...(isFaint ? [] : [svg("circle", { cx: across(step), cy: down(value), r: 2.5, fill: ink })])];
}
