// The graph in levels: boxes that open, from top to bottom, with the values that go between them.
import { h, svg } from "./dom.js";
import { amount, bytes, joined } from "./units.js";

const ROW = 30;
const PAD = 14;
const GAP = { across: 28, down: 32 };
const TEXT = 7.4; // pixels of a character, about

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
  name.textContent = level.name;
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
  hint.textContent = [level.type, level.paths.filter(Boolean).slice(0, 4).join(", "), level.at ? `line ${level.at[1]}` : "", workOf(level), canOpen(level) ? "choose to open or close" : ""].filter(Boolean).join("\n");
  rectangle.append(hint);
  if (level.at) {
    const link = svg("text", { class: "faint", x: x + size.width - PAD, y: y + 20, "text-anchor": "end" });
    link.textContent = `line ${level.at[1]}`;
    group.append(link);
  }
  return group;
}

const workOf = (level) => (level.flops ? ["forward", "backward", "update"].map((name, n) => (level.flops[n] ? `${name} ${joined(amount(level.flops[n]))}FLOP` : "")).filter(Boolean).join(", ") : "");
const widthOf = (level) => Math.max(180, PAD * 2 + TEXT * (titleOf(level).length + 10));

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
      small.textContent = text;
      group.append(small);
    });
    parent.append(group);
  };
  return { ...size, paint };
}

// Parts in ranks: each below all that it reads.
function openedBox(app, level, open, own, redraw, isRoot) {
  const parts = level.parts.map((part) => ({ part, ...boxesOf(app, part, open, own, redraw) }));
  const place = new Map(parts.map((entry, n) => [entry.part.key, n]));
  const arrows = level.arrows.filter((arrow) => place.has(arrow.to) && (place.has(arrow.from) || arrow.from === ""));
  const rank = parts.map(() => 0);
  parts.forEach((_, n) => {
    for (const arrow of arrows) if (place.get(arrow.to) === n && place.has(arrow.from)) rank[n] = Math.max(rank[n], rank[place.get(arrow.from)] + 1);
  });
  const ranks = [];
  parts.forEach((entry, n) => (ranks[rank[n]] ??= []).push(entry));
  const widths = ranks.map((row) => row.reduce((all, entry) => all + entry.width + GAP.across, -GAP.across));
  const said = Math.max(0, ...arrows.map((arrow) => 20 + 6.4 * arrow.shape.length)); // stands beside an edge in the middle
  const inner = Math.max(...widths, 2 * said, isRoot ? 0 : widthOf(level) - 2 * PAD);
  const top = isRoot ? 0 : ROW;
  const edge = isRoot ? 0 : PAD;
  const side = lanes(arrows, place, rank) * 12;
  let down = top + (isRoot ? GAP.down : 16);
  ranks.forEach((row, r) => {
    let across = edge + (inner - widths[r]) / 2;
    const tall = Math.max(...row.map((entry) => entry.height));
    for (const entry of row) {
      entry.x = across;
      entry.y = down;
      across += entry.width + GAP.across;
    }
    down += tall + GAP.down;
  });
  const size = { width: inner + 2 * edge + side, height: down - GAP.down + (isRoot ? 26 : PAD + 22) };
  const paint = (parent, x, y) => {
    const group = isRoot ? svg("g") : frame(app, level, open, own, redraw, size, x, y);
    if (!isRoot) labels(group, level, x, y);
    const edges = svg("g");
    group.append(edges);
    for (const entry of parts) entry.paint(group, x + entry.x, y + entry.y);
    paintArrows(edges, arrows, parts, place, rank, x, y, top, edge + inner);
    parts.filter(({ part }) => !arrows.some((arrow) => arrow.from === part.key)).forEach((entry) => paintResult(edges, entry, x, y));
    parent.append(group);
  };
  return { ...size, paint };
}

// The type of what no other part reads, below its box.
function paintResult(group, entry, x, y) {
  const [across, down] = [x + entry.x + entry.width / 2, y + entry.y + entry.height];
  group.append(svg("path", { class: "edge", d: `M${across} ${down} v10` }));
  label(group, entry.part.type, across, down + 21, "middle");
}

const isLong = (arrow, place, rank) => place.has(arrow.from) && rank[place.get(arrow.to)] - rank[place.get(arrow.from)] > 1;
const lanes = (arrows, place, rank) => Math.min(6, new Set(arrows.filter((arrow) => isLong(arrow, place, rank)).map((arrow) => arrow.from)).size);

function paintArrows(group, arrows, parts, place, rank, x, y, top, right) {
  const said = new Set();
  const lane = new Map();
  const inputs = new Map(arrows.map((arrow) => [arrow.to, [...new Set(arrows.filter((one) => one.from === "" && one.to === arrow.to && one.input && !one.isIdle).map((one) => one.input))]]));
  for (const arrow of arrows) {
    if (arrow.isIdle) continue; // no gradient goes there
    const to = parts[place.get(arrow.to)];
    const thick = 1 + Math.min(5, Math.max(0, Math.log10(Math.max(1, arrow.bytes) / 1e4)));
    const end = { x: x + to.x + to.width / 2, y: y + to.y };
    const hint = svg("title");
    hint.textContent = `${arrow.input ? `${arrow.input}: ` : ""}${arrow.shape}, ${joined(bytes(arrow.bytes))}`;
    if (arrow.from === "") {
      if (!arrow.input && rank[place.get(arrow.to)] > 0) continue;
      const aside = rank[place.get(arrow.to)] > 0 ? end.x - to.width / 3 : end.x; // beside what comes from other boxes
      group.append(svg("path", { class: "edge", "stroke-width": thick, d: `M${aside} ${end.y - 16} V${end.y}` }, hint));
      const names = inputs.get(arrow.to);
      const text = names.join(", ");
      if (arrow.input === names[0]) label(group, text, rank[place.get(arrow.to)] > 0 ? Math.min(aside, end.x - 10 - 3.2 * text.length) : aside, end.y - 19, "middle");
      continue;
    }
    const from = parts[place.get(arrow.from)];
    const start = { x: x + from.x + from.width / 2, y: y + from.y + from.height };
    if (isLong(arrow, place, rank)) {
      if (!lane.has(arrow.from)) lane.set(arrow.from, lane.size % 6);
      const out = x + right + 8 + 12 * lane.get(arrow.from);
      const leave = { x: x + from.x + from.width, y: y + from.y + from.height / 2 };
      const enter = { x: x + to.x + to.width, y: y + to.y + to.height / 2 };
      group.append(svg("path", { class: "edge", "stroke-width": thick, d: `M${leave.x} ${leave.y} H${out - 6} Q${out} ${leave.y} ${out} ${leave.y + 6} V${enter.y - 6} Q${out} ${enter.y} ${out - 6} ${enter.y} H${enter.x}` }, hint));
      continue;
    }
    const middle = (start.y + end.y) / 2;
    group.append(svg("path", { class: "edge", "stroke-width": thick, d: `M${start.x} ${start.y} C${start.x} ${middle} ${end.x} ${middle} ${end.x} ${end.y}` }, hint));
    if (!said.has(arrow.from)) label(group, arrow.shape, (start.x + end.x) / 2 + 8, middle + 4, "start");
    said.add(arrow.from);
  }
}

function label(group, text, x, y, anchor) {
  const found = svg("text", { class: "edge-text", x, y, "text-anchor": anchor });
  found.textContent = text;
  group.append(found);
}
