// Curves over the steps of a training, read out under the pointer.
import { roundTicks, tickText, written } from "./chart.js";
import { h, svg } from "./dom.js";
import { whole } from "./units.js";

const FRAME = { width: 400, height: 168, left: 58, right: 10, top: 8, bottom: 22 };
const GRID_LINES = 3;

// `each` is how many steps an epoch has, and `now` the last step that was made; `fromZero` lets the axis begin there.
export function traceOf(title, series, each, now, fromZero = false) {
  const shown = series.filter(({ points }) => points.length);
  const plain = h("span", { class: "quiet" }, ...shown.filter(({ isFaint }) => !isFaint).map(({ name, ink, points }) => keyOf(name, ink, points.at(-1)[1])));
  const said = h("span", { class: "quiet", hidden: true });
  const card = h("div", { class: "curve trace" }, h("div", { class: "tools" }, h("b", {}, title), plain, said));
  const every = shown.flatMap(({ points }) => points);
  if (!every.length) return card;
  const last = Math.max(now, ...every.map(([step]) => step));
  const values = [...every.map(([, value]) => value), ...(fromZero ? [0] : [])];
  const ticks = roundTicks(Math.min(...values), Math.max(...values), GRID_LINES);
  const [low, high] = [ticks[0], ticks.at(-1)];
  const across = (step) => FRAME.left + (step / (last || 1)) * (FRAME.width - FRAME.left - FRAME.right);
  const down = (value) => FRAME.height - FRAME.bottom - ((value - low) / (high - low || 1)) * (FRAME.height - FRAME.top - FRAME.bottom);
  const picture = svg("svg", { viewBox: `0 0 ${FRAME.width} ${FRAME.height}`, role: "img", "aria-label": `${title} by step` }, ...axesOf(ticks, down, last, across, each));
  for (const one of shown) picture.append(...strokeOf(one, across, down));
  const mark = svg("line", { class: "mark", y1: FRAME.top, y2: FRAME.height - FRAME.bottom, visibility: "hidden" });
  picture.append(mark);
  const read = (event) => {
    const place = (event.offsetX * FRAME.width) / picture.clientWidth;
    const step = Math.max(0, Math.min(last, ((place - FRAME.left) / (FRAME.width - FRAME.left - FRAME.right)) * last));
    for (const [name, value] of [["x1", across(step)], ["x2", across(step)], ["visibility", "visible"]]) mark.setAttribute(name, value);
    const near = shown.map(({ name, points }) => [name, ...points.reduce((one, other) => (Math.abs(other[0] - step) < Math.abs(one[0] - step) ? other : one))]);
    said.textContent = near.map(([name, at, value]) => `${name} ${inShort(value)} at step ${whole(at)}`).join("   ");
    [plain.hidden, said.hidden] = [true, false];
  };
  picture.addEventListener("pointermove", read);
  picture.addEventListener("pointerleave", () => {
    mark.setAttribute("visibility", "hidden");
    [plain.hidden, said.hidden] = [false, true];
  });
  card.append(picture);
  return card;
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
