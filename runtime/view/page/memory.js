// Memory over a step: each buffer as a rectangle of the stretches in which it is needed and the bytes where it lies.
import { h } from "./dom.js";
import { grouped, sum } from "./model.js";
import { bytes, joined, share } from "./units.js";

const MEMORY = { height: 400, left: 68, top: 8, bottom: 26 };
const NAMED = 12; // buffers of the peak that are named
const MARKS = 5;
const PLAN = { parameter_bytes: ["parameters", ""], state_bytes: ["states", "of normalisations and the like"], optimizer_state_bytes: ["optimizer states", ""],
  static_bytes: ["static", "buffers of any batch, the lower part of the picture"], batch_bytes: ["batch", "buffers that grow with the batch, the upper part of the picture"], peak_bytes: ["peak", "all of these together"] };
const WRITERS = ["forward", "backward", "update"];

export function memoryOf(app) {
  const { memory, plan } = app.model.data;
  if (!memory) return h("div", { class: "memory quiet" }, app.isLive ? "The memory of this text is being planned." : "A text with mistakes has no memory plan.");
  const hint = "Point at a buffer; choose it to go to the line that writes it.";
  const said = h("div", { class: "said quiet" }, hint);
  const canvas = h("canvas", { height: MEMORY.height, tabIndex: -1, ariaLabel: "buffers over the step" });
  const picture = pictureOf(app.model, memory, canvas);
  const point = (buffers) => {
    picture.draw(new Set(buffers));
    said.replaceChildren(...(buffers.length === 1 ? described(app.model, memory, buffers[0]) : buffers.length ? [`${joined(bytes(sizeOf(buffers)))} in ${buffersOf(buffers)}`] : [hint]));
  };
  new ResizeObserver(() => picture.draw(new Set())).observe(canvas);
  canvas.addEventListener("mousemove", (event) => point([picture.at(event.offsetX, event.offsetY)].filter(Boolean)));
  canvas.addEventListener("mouseleave", () => point([]));
  canvas.addEventListener("click", (event) => {
    const line = firstLine(app.model, picture.at(event.offsetX, event.offsetY));
    if (line) app.go(line[0], line[1]);
  });
  return h("div", { class: "memory" }, factsOf(plan.memory), canvas, h("div", { class: "tools" }, ...writerKeys(), said), peakOf(app, memory, point));
}

const firstLine = (model, buffer) => (buffer ? model.linesOf(buffer[6])[0] : undefined);

function factsOf(plan) {
  return h("div", { class: "figures" }, ...Object.entries(PLAN).map(([key, [name, title]]) => h("span", { title }, h("span", { class: "quiet" }, `${name} `), h("b", {}, joined(bytes(plan[key]))))));
}

const writerKeys = () => [...WRITERS.map((name) => [name, name]), ["caller", "the caller"]].map(([name, said]) => h("span", { class: "key" }, h("i", { class: name }), name === "forward" ? `written by ${said}` : said));

function described(model, memory, [name, , offset, size, first, last, set]) {
  const lines = model.linesOf(set).map(([file, line, direction]) => `${model.files[file].name}:${line} ${direction}`);
  return [h("b", {}, name || "a value in between"), ` ${joined(bytes(size))} at ${joined(bytes(offset))}, in stretches ${first + 1} to ${last + 1}, `,
    lines.length ? `written by ${lines.slice(0, 4).join(", ")}` : "written by the caller", ` · ${memory.stretches[first].slice(0, 3).join(", ")}`];
}

// What is needed in the stretch in which most bytes are: by the line and the part of the step that write it, the most first.
function peakOf(app, memory, point) {
  const all = memory.buffers.filter(([, , , , first, last]) => first <= memory.peak && memory.peak <= last);
  if (!all.length) return "";
  const total = sizeOf(all);
  const groups = [...grouped(all, (buffer) => `${firstLine(app.model, buffer)?.slice(0, 2)} ${writerOf(app.model, buffer[6])}`).values()].sort((one, other) => sizeOf(other) - sizeOf(one));
  const rows = groups.slice(0, NAMED).map((buffers) => peakRow(app, buffers, total, sizeOf(groups[0]), point));
  const rest = groups.slice(NAMED).flat();
  if (rest.length) rows.push(h("tr", {}, h("td", { class: "quiet" }, "all others"), h("td"), ...amountsOf(rest, total)));
  return h("div", {}, h("h3", { class: "group" }, `The peak is in stretch ${memory.peak + 1} of ${memory.stretches.length} between barriers: ${joined(bytes(total))} in ${buffersOf(all)}`), h("table", { class: "peak" }, ...rows));
}

function peakRow(app, buffers, total, most, point) {
  const line = firstLine(app.model, buffers[0]);
  const writer = writerOf(app.model, buffers[0][6]);
  const bar = h("span", { class: "bar" }, h("i", { class: writer, style: { width: `${(100 * sizeOf(buffers)) / most}%` } }));
  const text = line && (app.model.files[line[0]].lines[line[1] - 1]?.trim() ?? "");
  const go = line ? h("button", { class: "goes", onclick: () => app.go(line[0], line[1]), onfocus: () => point(buffers), onblur: () => point([]), title: "show the line" }, `line ${line[1]}, ${writer}`, h("code", { class: "quiet" }, `  ${text}`)) : h("span", { class: "goes" }, "the caller");
  return h("tr", { onmouseenter: () => point(buffers), onmouseleave: () => point([]) }, h("td", { class: "text" }, go), h("td", {}, bar), ...amountsOf(buffers, total));
}

const sizeOf = (buffers) => sum(buffers.map(([, , , size]) => size));
const buffersOf = (all) => `${all.length} ${all.length === 1 ? "buffer" : "buffers"}`;
const amountsOf = (buffers, total) => [h("td", { class: "r" }, joined(bytes(sizeOf(buffers)))), h("td", { class: "r" }, share(sizeOf(buffers) / total)), h("td", { class: "quiet" }, buffersOf(buffers))];

// The part of the step that first writes a buffer of these origins, or the caller.
function writerOf(model, set) {
  const directions = new Set(model.linesOf(set).map(([, , direction]) => direction));
  return WRITERS.find((name) => directions.has(name)) ?? "caller";
}

function pictureOf(model, memory, canvas) {
  const total = Math.max(1, memory.static_bytes + memory.batch_bytes);
  const stretches = Math.max(1, memory.stretches.length);
  const inner = () => ({ width: Math.max(1, canvas.clientWidth - MEMORY.left), height: MEMORY.height - MEMORY.top - MEMORY.bottom });
  const up = (place) => MEMORY.top + (1 - place / total) * inner().height;
  const across = (stretch) => MEMORY.left + (stretch / stretches) * inner().width;
  const box = ([, isOfBatch, offset, size, first, last]) => {
    const begin = isOfBatch ? memory.static_bytes + offset : offset;
    return [across(first), up(begin + size), across(last + 1) - across(first), up(begin) - up(begin + size)];
  };
  const colours = new Map(memory.buffers.map((buffer) => [buffer, writerOf(model, buffer[6])]));
  const draw = (chosen) => {
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(`--${name === "caller" ? "faint" : name}`);
    const scale = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [canvas.clientWidth * scale, MEMORY.height * scale];
    canvas.style.height = `${MEMORY.height}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    drawAxes(context, ink, { total, stretches, up, across, inner: inner() });
    for (const buffer of memory.buffers) {
      const [x, y, wide, tall] = box(buffer);
      context.globalAlpha = chosen.has(buffer) ? 1 : chosen.size ? 0.4 : 0.78;
      context.fillStyle = ink(colours.get(buffer));
      context.fillRect(x, y, Math.max(1, wide - 0.75), Math.max(0.5, tall - 0.75));
    }
    context.globalAlpha = 1;
    drawPeak(context, ink, across(memory.peak + 0.5), inner().height);
  };
  const at = (x, y) => memory.buffers.find((buffer) => {
    const [left, top, wide, tall] = box(buffer);
    return left <= x && x <= left + wide && top <= y && y <= top + tall;
  });
  return { draw, at };
}

function drawAxes(context, ink, { total, stretches, up, across, inner }) {
  context.fillStyle = ink("panel");
  context.fillRect(MEMORY.left, MEMORY.top, inner.width, inner.height);
  context.font = `11px ${ink("sans")}`;
  context.strokeStyle = ink("line");
  context.fillStyle = ink("quiet");
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (let place = 0; place <= total; place += stepOf(total)) {
    context.fillText(joined(bytes(place)), MEMORY.left - 10, Math.max(8, up(place)));
    context.strokeRect(MEMORY.left, Math.round(up(place)) + 0.5, inner.width, 0);
  }
  context.fillText(`stretch ${stretches}`, MEMORY.left + inner.width, MEMORY.height - 9);
  context.textAlign = "left";
  context.fillText("stretch 1", across(0), MEMORY.height - 9);
}

// Round in the unit in which it is written: 1, 2 or 5 times a power of ten of bytes, KB, MB, …
function stepOf(total) {
  const unit = 1024 ** Math.floor(Math.log(total) / Math.log(1024) + 1e-9);
  const rough = total / unit / MARKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  return unit * [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
}

function drawPeak(context, ink, x, height) {
  context.strokeStyle = ink("ink");
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(x, MEMORY.top);
  context.lineTo(x, MEMORY.top + height);
  context.stroke();
  context.fillStyle = ink("ink");
  context.textAlign = "center";
  context.fillText("peak", x, MEMORY.height - 9);
}
