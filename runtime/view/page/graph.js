// The graph in levels: boxes that open, from top to bottom, with the values that go between them.
import { h, harmless, svg } from "./dom.js";
import { isLong, layoutOf, roundedPath } from "./layout.js";
import { grouped } from "./model.js";
import { amount, bytes, joined } from "./units.js";

const ROW = 30;
const PAD = 14;
const ABOVE = 32; // of the first boxes
const BESIDE = 60; // pixels of the number of a line and of what lies before it
const NARROWEST = 148;
const LONGEST = 60; // characters beside an edge, whose hint has all
const STEP = 40; // widths of boxes are multiples of it, so that edges of boxes below each other are in line

// `own` is a line whose boxes are marked, and opened down to.
export function graphOf(app, root, own = null) {
  const view = h("div", { class: "canvas" });
  const open = app.openBoxes;
  if (own) openTo(root, own, open);
  const pictureOf = (level, said) => {
    const scene = boxesOf(app, { ...level, key: "" }, open, own, draw, true);
    const picture = svg("svg", { width: scene.width + 2, height: scene.height + 2, viewBox: `-1 -1 ${scene.width + 2} ${scene.height + 2}`, role: "img", "aria-label": `${said} of ${root.name}` });
    scene.paint(picture, 0, 0);
    return picture;
  };
  const draw = () => {
    const focused = document.activeElement?.dataset?.key;
    paint();
    if (focused) [...view.querySelectorAll(".box")].find((box) => box.dataset.key === focused)?.focus({ preventScroll: true });
  };
  const paint = () => {
    const forward = pictureOf(root, "the graph");
    if (!app.showsBackward || own || !root.slopes) return view.replaceChildren(forward);
    return view.replaceChildren(h("div", { class: "sides" }, h("div", {}, h("h3", { class: "group" }, "forward, downwards"), forward), h("div", {}, h("h3", { class: "group" }, "backward, upwards: the operations of gradients, and on the edges the gradients"), pictureOf(backwardOf(root), "the backward pass"))));
  };
  view.draw = draw;
  draw();
  return view;
}

// A level as the backward pass goes through it: the same boxes at the same places, with what computes gradients in them.
function backwardOf(level) {
  const parts = level.parts.map(backwardOf);
  const works = new Set(level.parts.filter((part) => part.slopes).map((part) => part.key));
  return { ...level, parts, isIdle: !level.slopes, operations: level.backward, count: level.slopes, type: level.slopes ? level.type : "",
    arrows: level.arrows.filter((arrow) => arrow.from !== "").map((arrow) => ({ ...arrow, isIdle: !works.has(arrow.from) || !works.has(arrow.to) })) };
}

const covers = (level, own) => level.at && level.at[0] === own.file && level.at[1] <= own.line && own.line <= level.at[2];

function openTo(level, own, open) {
  for (const part of level.parts) {
    if (contains(part, own) && !covers(part, own)) open.add(part.key);
    openTo(part, own, open);
  }
}

const contains = (level, own) => covers(level, own) || level.parts.some((part) => contains(part, own));
const canOpen = (level) => level.parts.length > 1 || level.parts.some((part) => part.parts.length) || level.operations?.length > 1;

// A level, with its size and a function that paints it.
function boxesOf(app, level, open, own, redraw, isRoot = false) {
  const isOpen = isRoot || open.has(level.key);
  if (!isOpen || !canOpen(level)) return closedBox(app, level, open, own, redraw);
  if (!level.parts.length) return operationsBox(app, level, open, own, redraw);
  return openedBox(app, level, open, own, redraw, isRoot);
}

function titleOf(level) {
  return level.times > 1 ? `${level.name}  × ${level.times}` : level.name;
}

function labels(group, level, x, y) {
  const name = svg("tspan", { class: "name" });
  name.textContent = harmless(level.name);
  const text = svg("text", { x: x + PAD, y: y + 20 }, name);
  if (level.times > 1) {
    const times = svg("tspan", { class: "times", dx: 7 });
    times.textContent = `× ${level.times}`;
    text.append(times);
  }
  group.append(text);
}

function frame(app, level, open, own, redraw, size, x, y) {
  const toggle = () => {
    if (!canOpen(level)) return;
    if (!open.delete(level.key)) open.add(level.key);
    redraw();
  };
  const isOwn = own && covers(level, own);
  const classes = ["box", level.isIdle ? "idle" : "", app.foundBoxes?.has(level.key) ? "found" : "", canOpen(level) ? "opens" : "", open.has(level.key) ? "opened" : "", isOwn ? "own" : ""].filter(Boolean).join(" ");
  const rectangle = svg("rect", { x, y, width: size.width, height: size.height, rx: 7, onclick: toggle });
  const group = svg("g", { class: classes, tabindex: canOpen(level) ? 0 : null, onkeydown: (event) => event.key === "Enter" && toggle(), "data-key": level.key }, rectangle);
  const hint = svg("title");
  hint.textContent = harmless([level.type, level.paths.filter(Boolean).slice(0, 4).join(", "), level.at ? `line ${level.at[1]}` : "", workOf(level), canOpen(level) ? "choose to open or close" : ""].filter(Boolean).join("\n"));
  rectangle.append(hint);
  if (level.at) {
    const link = svg("text", { class: "faint", x: x + size.width - PAD, y: y + 20, "text-anchor": "end" });
    link.textContent = `line ${level.at[1]}`;
    group.append(link);
  }
  return group;
}

const workOf = (level) => (level.flops ? ["forward", "backward", "update"].map((name, n) => (level.flops[n] ? `${name} ${joined(amount(level.flops[n]))}FLOP` : "")).filter(Boolean).join(", ") : "");
const widthOf = (level) => STEP * Math.ceil((PAD * 2 + Math.max(NARROWEST, lengthOf(titleOf(level)) + BESIDE)) / STEP);

const pen = document.createElement("canvas").getContext("2d");

// Of a name in a box, as wide as it is drawn.
function lengthOf(text) {
  pen.font = `600 13px ${getComputedStyle(document.documentElement).getPropertyValue("--sans")}`;
  return pen.measureText(text).width;
}

function closedBox(app, level, open, own, redraw) {
  const size = { width: widthOf(level), height: ROW };
  const paint = (parent, x, y) => {
    const group = frame(app, level, open, own, redraw, size, x, y);
    labels(group, level, x, y);
    const share = app.model.shareOf(level);
    if (share > 0.002) group.append(svg("rect", { class: "heat", x: x + PAD, y: y + size.height - 5, width: Math.max(2, (size.width - 2 * PAD) * share), height: 2.5, rx: 1.25 }));
    parent.append(group);
  };
  return { ...size, paint };
}

function operationsBox(app, level, open, own, redraw) {
  const shown = level.operations.slice(0, 24);
  const longest = Math.max(...shown.map(([name, type]) => name.length + type.length + 3));
  const size = { width: Math.max(widthOf(level), PAD * 2 + 6.8 * longest), height: ROW + 6 + 16 * (shown.length + (level.operations.length > shown.length ? 1 : 0)) };
  const paint = (parent, x, y) => {
    const group = frame(app, level, open, own, redraw, size, x, y);
    labels(group, level, x, y);
    const rows = shown.map(([name, type]) => `${name}  ${type}`);
    if (level.operations.length > shown.length) rows.push(`… ${(level.count ?? level.operations.length) - shown.length} more`);
    rows.forEach((text, n) => {
      const small = svg("text", { class: "small", x: x + PAD, y: y + ROW + 12 + 16 * n });
      small.textContent = harmless(text);
      group.append(small);
    });
    parent.append(group);
  };
  return { ...size, paint };
}

function openedBox(app, level, open, own, redraw, isRoot) {
  const parts = level.parts.map((part) => ({ part, ...boxesOf(app, part, open, own, redraw) }));
  const keys = new Set(level.parts.map((part) => part.key));
  const arrows = level.arrows.filter((arrow) => keys.has(arrow.to) && (keys.has(arrow.from) || arrow.from === ""));
  const edge = isRoot ? 0 : PAD;
  const places = layoutOf(parts, arrows, isRoot ? ABOVE : ROW + 16);
  const needed = Math.max(places.width, isRoot ? 0 : widthOf(level) - 2 * PAD);
  for (const entry of parts) entry.x += edge + (needed - places.width) / 2;
  const words = Math.max(0, ...places.flows.map(({ arrow, from }) => from.x + from.width / 2 + 16 + 6.4 * arrow.shape.length)); // stand beside edges
  const side = Math.max(0, ...[...places.lanes.values()].map((lane) => lane + 4));
  const right = Math.max(edge + needed, words - edge);
  const size = { width: right + edge + side, height: places.height + (isRoot ? 26 : PAD + 22) };
  const paint = (parent, x, y) => {
    const group = isRoot ? svg("g") : frame(app, level, open, own, redraw, size, x, y);
    if (!isRoot) labels(group, level, x, y);
    const edges = svg("g", { transform: `translate(${x} ${y})` });
    const said = svg("g", { transform: `translate(${x} ${y})` });
    group.append(edges);
    for (const entry of parts) entry.paint(group, x + entry.x, y + entry.y);
    group.append(said);
    for (const flow of places.flows) if (!flow.arrow.isIdle) paintFlow(edges, flow, places.lanes, right);
    paintWords(said, places.flows);
    paintInputs(edges, said, parts, arrows, places.flows);
    parts.filter((entry) => !arrows.some((arrow) => arrow.from === entry.part.key)).forEach((entry) => paintResult(edges, said, entry));
    parent.append(group);
  };
  return { ...size, paint };
}

const middleOf = (entry) => entry.x + entry.width / 2;
const thickness = (arrow) => 1 + Math.min(5, Math.max(0, Math.log10(Math.max(1, arrow.bytes) / 1e4)));

function hintOf(arrow) {
  const hint = svg("title");
  hint.textContent = `${arrow.input ? `${arrow.input}: ` : ""}${arrow.shape}, ${joined(bytes(arrow.bytes))}`;
  return hint;
}

// The output and the type of what no other part reads, below its box.
function paintResult(edges, said, entry) {
  const [across, down] = [middleOf(entry), entry.y + entry.height];
  edges.append(svg("path", { class: "edge", d: `M${across} ${down} v10` }));
  label(said, [(entry.part.outputs ?? []).join(", "), entry.part.type].filter(Boolean).join(": "), across, down + 21, "middle");
}

// From a box to one of the next rank, or in a lane beside all boxes past others.
function paintFlow(edges, flow, lanes, right) {
  const { arrow, from, to } = flow;
  const start = { x: middleOf(from), y: from.y + from.height };
  const end = { x: middleOf(to), y: to.y };
  const middle = (start.y + end.y) / 2;
  const curve = () => `M${start.x} ${start.y} C${start.x} ${middle} ${end.x} ${middle} ${end.x} ${end.y}`;
  const path = () => {
    const lane = right + lanes.get(from);
    const leave = from.isLast ? [{ x: from.x + from.width, y: from.y + from.height / 2 }] : [start, { x: start.x, y: start.y + 7 }];
    const enter = to.isLast ? [{ x: to.x + to.width, y: to.y + to.height / 2 }] : [{ x: end.x, y: end.y - 7 }, end];
    return roundedPath([...leave, { x: lane, y: leave.at(-1).y }, { x: lane, y: enter[0].y }, ...enter]);
  };
  edges.append(svg("path", { class: "edge", "stroke-width": thickness(arrow), d: isLong(flow) ? path() : curve() }, hintOf(arrow)));
}

// The shape of what leaves a box, once: beside an edge that goes straight down, else where its edges begin.
function paintWords(said, flows) {
  for (const [from, own] of grouped(flows, (flow) => flow.from)) {
    const near = own.filter((flow) => !isLong(flow) && !flow.arrow.isIdle);
    if (!near.length) continue;
    const isStraight = near.length === 1 && Math.abs(middleOf(near[0].to) - middleOf(from)) < 4;
    const y = isStraight ? (from.y + from.height + near[0].to.y) / 2 + 4 : from.y + from.height + 14;
    const text = near[0].arrow.shape;
    const leansRight = !isStraight && near.every(({ to }) => middleOf(to) > middleOf(from) - 4);
    const isLeft = leansRight && middleOf(from) - 8 > 6.4 * text.length; // where the edges do not pass, if there is room
    label(said, text, middleOf(from) + (isLeft ? -8 : 8), y, isLeft ? "end" : "start");
  }
}

// What a box reads of the inputs of the model, above it, on the side from which no other box is read; of what surrounds it, a stroke.
function paintInputs(edges, said, parts, arrows, flows) {
  for (const entry of parts) {
    const own = arrows.filter((arrow) => arrow.from === "" && arrow.to === entry.part.key && !arrow.isIdle && (arrow.input || !entry.rank));
    if (!own.length) continue;
    const sides = flows.filter(({ to }) => to === entry).map(({ from }) => Math.sign(Math.round((middleOf(from) - middleOf(entry)) / 8)));
    const isRight = sides.includes(-1) && !sides.includes(1);
    const aside = middleOf(entry) + (entry.rank ? (isRight ? 1 : -1) * (entry.width / 3) : 0);
    for (const arrow of own) edges.append(svg("path", { class: "edge", "stroke-width": thickness(arrow), d: `M${aside} ${entry.y - 16} V${entry.y}` }, hintOf(arrow)));
    const text = cut([...new Set(own.map((arrow) => arrow.input).filter(Boolean))].join(", "));
    if (text) label(said, text, entry.rank ? middleOf(entry) + (isRight ? 1 : -1) * Math.max(entry.width / 3, 10 + 3.2 * text.length) : aside, entry.y - 19, "middle");
  }
}

const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);

function label(group, text, x, y, anchor) {
  const found = svg("text", { class: "edge-text", x, y, "text-anchor": anchor });
  found.textContent = cut(harmless(text));
  group.append(found);
}
