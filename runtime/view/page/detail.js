// What became of a line: its tabs.
import { codeOf, listingOf } from "./code.js";
import { h } from "./dom.js";
import { fusionOf } from "./fusion.js";
import { graphOf } from "./graph.js";
import { coloured } from "./ledger.js";
import { coloursOf, sum } from "./model.js";
import { amount, bytes, duration, joined, operations, share, whole } from "./units.js";
import { valuesOf } from "./values.js";

export const TABS = ["What it is", "Graph", "Gradient", "Kernels", "Loops", "LLVM", "Assembly"];
const STAGES = { Loops: "loops", LLVM: "llvm", Assembly: "asm" };
const MOST_OPEN = 3; // kernels whose code is shown at once

export function detailOf(app, file, line, tab) {
  const begin = beginningOf(app.model, file, line);
  const said = begin ? h("p", { class: "part quiet" }, "This line is part of what begins in ", h("a", { onclick: () => app.go(file, begin) }, `line ${begin}`), ".") : "";
  const body = h("div", { class: "body", tabIndex: -1 }, said);
  if (tab === "What it is") body.append(whatItIs(app.model, file, line, app.go));
  else if (tab === "Graph") body.append(graphTab(app, file, line));
  else if (tab === "Gradient") body.append(gradientTab(app, file, line));
  else if (tab === "Values") valuesOf(app, file, line, body);
  else codeTab(app, file, line, tab, body);
  return body;
}

// The first line of the innermost call that goes on in a line in which nothing is computed itself.
function beginningOf(model, file, line) {
  if (model.figures.has(`${file}:${line}`) || model.names(file, line).length) return 0;
  const within = (level) => Math.max(level.at && level.at[0] === file && level.at[1] < line && line <= level.at[2] ? level.at[1] : 0, ...level.parts.map(within));
  return model.data.graph ? within(model.data.graph) : 0;
}

function whatItIs(model, file, line, go) {
  const facts = h("div", { class: "facts" }, h("div", {}, ...typesOf(model, file, line, go)), h("div", {}, figuresOf(model, file, line)));
  const names = model.called.get(`${file}:${line}`) ?? [];
  if (names.length) facts.append(h("div", {}, h("h3", {}, "calls"), ...names.map((name) => documentOf(name, model.data.documents.entries[name]))));
  return facts;
}

function typesOf(model, file, line, go) {
  const bindings = model.names(file, line);
  if (!bindings.length) {
    const shape = model.shape(file, line);
    return shape ? [h("h3", {}, "the last value of this line"), h("div", { class: "shape-large" }, shape)] : [h("p", { class: "quiet" }, "This line makes no tensor.")];
  }
  return bindings.flatMap((binding) => [h("h3", {}, ...(binding.name ? [binding.name] : ["the value of ", h("code", {}, binding.text)])), ...binding.rounds.flatMap((round) => roundOf(model, round, go))]);
}

// A type that so many rounds of a loop have one behind the other, with the origin of each dimension.
function roundOf(model, { shape, count, dimensions }, go) {
  return [h("div", { class: "shape-large" }, shape, count > 1 ? h("span", { class: "quiet" }, ` × ${count}`) : ""), h("table", {}, ...dimensions.map((dimension) => dimensionRow(model, dimension, go)))];
}

function dimensionRow(model, dimension, go) {
  const from = dimension.from;
  const place = from ? h("a", { onclick: () => go(from.file, from.line) }, `line ${from.line}`) : h("span", { class: "quiet" }, "the library");
  return h("tr", {}, h("td", { class: "mono r" }, dimension.text), h("td", {}, "from ", place), h("td", { class: "mono quiet" }, from?.text ?? ""));
}

function figuresOf(model, file, line) {
  const figures = model.figures.get(`${file}:${line}`);
  if (!figures) return h("p", { class: "quiet" }, "Nothing is computed here.");
  const times = model.profile ? model.times.get(`${file}:${line}`) : null;
  const rows = [["parameters", figures.parameters ? whole(figures.parameters) : ""], ["FLOPs, forward alone", figures.flops_forward >= 1 ? joined(amount(figures.flops_forward)) : ""]];
  ["forward", "backward", "update"].forEach((name, n) => rows.push([`FLOPs of a step, ${name}`, figures.flops[n] >= 1 ? joined(amount(figures.flops[n])) : ""]));
  rows.push(["bytes of a step", figures.bytes ? joined(bytes(figures.bytes)) : ""]);
  ["forward", "backward", "update"].forEach((name, n) => times?.[n] && rows.push([`time, ${name}`, joined(duration(times[n]))]));
  if (times) rows.push(["share of the step", share(sum(times) / model.step)]);
  return h("div", {}, h("h3", {}, `in a batch of ${whole(model.data.batch)}`),
    h("table", {}, ...rows.filter(([, value]) => value).map(([name, value]) => h("tr", {}, h("td", { class: "quiet" }, name), h("td", { class: "r" }, value)))));
}

function documentOf(name, entry) {
  const [before, ...after] = entry.head.split(name);
  return h("div", { class: "doc" }, h("div", { class: "mono" }, h("span", { class: "quiet" }, `${entry.keyword} `), before, h("b", {}, name), after.join(name)),
    ...paragraphs(entry.text), h("div", { class: "where" }, entry.place.replace("<prelude>/", "library: ")));
}

// The lines of a comment as paragraphs, with what stands in backticks as code.
function paragraphs(text) {
  return text.split(/\n\s*\n/).map((block) => h("p", {}, ...block.split("\n").join(" ").split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part))));
}

function graphTab(app, file, line) {
  const graph = app.model.data.graph;
  return graph ? graphOf(app, graph, { file, line }) : h("p", { class: "quiet" }, "A text with mistakes has no graph.");
}

function gradientTab(app, file, line) {
  const { model } = app;
  const { gradient } = model.data;
  if (!model.data.trains) return h("p", { class: "quiet" }, "A model without `train` is not differentiated.");
  if (!gradient) return h("p", { class: "quiet" }, app.isLive ? "The gradient of this text is being made." : "A text with mistakes has no gradient.");
  if (gradient.refused) return h("p", { class: "quiet" }, `This gradient cannot be written as text: ${gradient.refused}`);
  const parts = gradient.parts.filter((part) => part.lines.some(([f, n]) => f === file && n === line));
  if (!parts.length) return h("p", { class: "quiet" }, "No function of the backward pass is for this line.");
  parts.sort((one, other) => isForward(one) - isForward(other)); // what the backward pass does, then what it needs
  return h("div", { class: "functions" }, ...parts.map((part) => h("pre", { class: "plain" }, ...inColour(part))));
}

const isForward = (part) => /^fn \w*forward/m.test(part.text);

function inColour(part) {
  const colours = coloursOf(part.colours);
  return part.text.split("\n").flatMap((text, n) => [...coloured(text, colours.get(n + 1) ?? []), "\n"]);
}

// Kernels, and their code

function codeTab(app, file, line, tab, body) {
  const { model } = app;
  if (!model.data.kernels) {
    body.append(h("p", { class: "quiet" }, app.isLive ? "The kernels of this text are being made." : "A text with mistakes has no kernels."));
    return;
  }
  const isOwn = model.setsOf(file, line);
  const kernels = model.data.kernels.filter((kernel) => isOwn[kernel.origins]);
  if (!kernels.length) {
    body.append(h("p", { class: "quiet" }, "No kernel comes from this line: it may be configuration only, or folded away."));
    return;
  }
  const toggle = h("input", { type: "checkbox", checked: app.onlyOwn, onchange: () => app.toggleOwn() });
  body.append(h("div", { class: "tools" }, h("span", {}, `${kernels.length} ${kernels.length === 1 ? "kernel" : "kernels"}`),
    tab === "Kernels" ? "" : h("label", {}, toggle, "only this line's"), h("span", {}, "choose a row to go to the line it comes from")));
  const cost = (kernel) => (model.profile ? (model.kernelTimes.get(kernel.symbol)?.ms ?? 0) : kernel.flops);
  kernels.sort((a, b) => cost(b) - cost(a) || b.bytes - a.bytes);
  kernels.forEach((kernel, n) => body.append(kernelBox(app, kernel, tab, isOwn, n < MOST_OPEN)));
}

function kernelBox(app, kernel, tab, isOwn, isOpen) {
  const { model } = app;
  const time = model.kernelTimes.get(kernel.symbol);
  const from = model.linesOf(kernel.origins);
  const lines = [...new Set(from.map(([, line]) => line))];
  const said = [kernel.kind, kernel.calls > 1 ? `${kernel.calls} calls` : "", kernel.flops >= 1 ? operations(kernel.flops) : "", kernel.bytes ? joined(bytes(kernel.bytes)) : "", time ? `${joined(duration(time.ms))}, ${share(time.ms / model.step)}` : "",
    time?.gflops ? `${joined(amount(time.gflops * 1e9))}FLOP/s, ${share(time.of_peak)} of peak, bound by ${time.bound}` : "", `from ${lines.length === 1 ? "line" : "lines"} ${lines.join(", ")}`];
  const box = h("details", { class: "kernel", open: isOpen }, h("summary", {}, h("b", {}, kernel.name), h("span", { class: "quiet" }, said.filter(Boolean).join(" · "))));
  const fill = async () => {
    if (!box.open || box.dataset.filled) return;
    box.dataset.filled = "yes";
    if (tab === "Kernels") box.append(fusionOf(app, kernel), statementsOf(app, kernel, isOwn));
    else {
      const code = await codeOf(kernel.symbol, STAGES[tab], app.codeSource).catch((error) => error);
      box.append(code instanceof Error ? h("p", { class: "error" }, code.message) : listingOf(model, kernel, code, STAGES[tab], isOwn, app.onlyOwn, app.go));
    }
  };
  box.addEventListener("toggle", fill);
  fill();
  return box;
}

function statementsOf(app, kernel, isOwn) {
  const code = { text: kernel.statements.join("\n"), origins: kernel.statement_origins, statements: kernel.statements.map(() => 0) };
  return listingOf(app.model, kernel, code, "kernels", isOwn, false, app.go);
}
