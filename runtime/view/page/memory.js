// Memory over a step: each buffer as a rectangle of the stretches in which it is needed and the bytes where it lies.
import { h } from "./dom.js";
import { bytes, joined } from "./units.js";

const HEIGHT = 420;

export function memoryOf(app) {
  const { memory, plan } = app.model.data;
  if (!memory) return h("div", { class: "memory quiet" }, app.isLive ? "The memory of this text is being planned." : "A text with mistakes has no memory plan.");
  const said = h("div", { class: "said quiet" }, "Point at a buffer; choose it to go to the line that writes it.");
  const canvas = h("canvas", { height: HEIGHT, tabIndex: -1, ariaLabel: "buffers over the step" });
  const view = h("div", { class: "memory" }, factsOf(plan.memory, memory), canvas, said);
  const picture = pictureOf(app.model, memory, canvas);
  const observer = new ResizeObserver(() => picture.draw(null));
  observer.observe(canvas);
  const found = (event) => picture.at(event.offsetX, event.offsetY);
  canvas.addEventListener("mousemove", (event) => {
    const buffer = found(event);
    picture.draw(buffer);
    said.replaceChildren(...(buffer ? described(app.model, memory, buffer) : ["Point at a buffer; choose it to go to the line that writes it."]));
  });
  canvas.addEventListener("click", (event) => {
    const buffer = found(event);
    const lines = buffer ? app.model.linesOf(buffer[6]) : [];
    if (lines.length) app.go(lines[0][0], lines[0][1]);
  });
  return view;
}

function factsOf(plan, memory) {
  const entries = Object.entries(plan).map(([name, value]) => h("span", {}, h("span", { class: "quiet" }, `${name.replace("_bytes", "").replaceAll("_", " ")} `), h("b", {}, joined(bytes(value)))));
  return h("div", { class: "figures" }, ...entries, h("span", {}, h("span", { class: "quiet" }, "most is needed in stretch "), h("b", {}, `${memory.peak + 1}`), h("span", { class: "quiet" }, ` of ${memory.stretches.length}`)));
}

function described(model, memory, [name, , offset, size, first, last, set]) {
  const lines = model.linesOf(set).map(([file, line, direction]) => `${model.files[file].name}:${line} ${direction}`);
  return [h("b", {}, name || "a value in between"), ` ${joined(bytes(size))} at ${joined(bytes(offset))}, needed in stretches ${first + 1} to ${last + 1}`,
    h("div", {}, lines.length ? `written by ${lines.slice(0, 4).join(", ")}` : "written by the caller", ` · ${memory.stretches[first].slice(0, 3).join(", ")}`)];
}

function pictureOf(model, memory, canvas) {
  const total = Math.max(1, memory.static_bytes + memory.batch_bytes);
  const stretches = Math.max(1, memory.stretches.length);
  const box = ([, isOfBatch, offset, size, first, last], width) => {
    const begin = isOfBatch ? memory.static_bytes + offset : offset;
    return [(first / stretches) * width, HEIGHT - ((begin + size) / total) * HEIGHT, ((last - first + 1) / stretches) * width, (size / total) * HEIGHT];
  };
  const colourOf = (set) => {
    const directions = new Set(model.linesOf(set).map(([, , direction]) => direction));
    return directions.has("forward") ? "--forward" : directions.has("backward") ? "--backward" : directions.has("update") ? "--update" : "--faint";
  };
  const draw = (chosen) => {
    const style = getComputedStyle(document.documentElement);
    const width = canvas.clientWidth;
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = HEIGHT * scale;
    canvas.style.height = `${HEIGHT}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = style.getPropertyValue("--panel");
    context.fillRect(0, 0, width, HEIGHT);
    for (const buffer of memory.buffers) {
      const [x, y, w, tall] = box(buffer, width);
      context.globalAlpha = buffer === chosen ? 1 : 0.72;
      context.fillStyle = style.getPropertyValue(colourOf(buffer[6]));
      context.fillRect(x, y, Math.max(1, w - 0.75), Math.max(0.5, tall - 0.75));
    }
    context.globalAlpha = 1;
    context.strokeStyle = style.getPropertyValue("--ink");
    const at = ((memory.peak + 0.5) / stretches) * width;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(at, 0);
    context.lineTo(at, HEIGHT);
    context.stroke();
  };
  const at = (x, y) => memory.buffers.find((buffer) => {
    const [left, up, w, tall] = box(buffer, canvas.clientWidth);
    return left <= x && x <= left + w && up <= y && y <= up + tall;
  });
  return { draw, at };
}
