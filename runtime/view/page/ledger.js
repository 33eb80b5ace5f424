// The ledger: each line of the text with its figures.
import { h } from "./dom.js";
import { sum } from "./model.js";
import { amount, bytes, duration, joined, share } from "./units.js";

const DIRECTIONS = ["forward", "backward", "update"];
const FEW = 0.0005; // of all: shares below are not written

// While a text is edited, findings stand below it, so that its lines stay where they are.
export function ledgerOf(model, choose, isEdited = false) {
  const rows = h("div", { class: `rows${model.profile ? " measured" : ""}`, role: "listbox", tabIndex: 0, ariaLabel: "lines of the model" }, heading(model));
  model.files.forEach((file, number) => {
    if (number) rows.append(h("div", { class: "row file" }, h("span"), h("span", {}, file.name)));
    file.lines.forEach((text, index) => {
      rows.append(lineRow(model, number, index + 1, text, choose));
      for (const finding of model.findings.get(`${number}:${index + 1}`) ?? []) if (!isEdited) rows.append(findingRow(finding));
      for (const lesson of model.lessons.get(`${number}:${index + 1}`) ?? []) if (!isEdited) rows.append(lessonRow(lesson));
    });
  });
  const rest = restRow(model);
  if (rest && !isEdited) rows.append(rest);
  const all = [...model.findings.values()].flat();
  if (isEdited && all.length) rows.append(h("div", { class: "strip" }, ...all.slice(0, 4).map((finding) => findingRow(finding, `line ${finding.line}: `))));
  return rows;
}

function heading(model) {
  const keys = DIRECTIONS.map((name) => h("span", { class: "key" }, h("i", { class: name }), name));
  const what = model.profile ? "bars: time of a step" : "bars: FLOPs of a step";
  return h("div", { class: "row head" }, h("span"), h("span", {}, what), h("span", {}, "shape"), h("span", { class: "r" }, "parameters"),
    h("span", { class: "r" }, "FLOPs"), h("span", { class: "r", title: "of a step: what each call of a kernel reads and writes, each element once" }, "bytes"), h("span", { class: "cost" }, ...keys));
}

function lineRow(model, file, line, text, choose) {
  const figures = model.figures.get(`${file}:${line}`);
  const cost = model.cost(file, line);
  const isIdle = !figures && !model.names(file, line).length;
  const shape = model.shape(file, line);
  const worst = (model.findings.get(`${file}:${line}`) ?? []).map((finding) => finding.severity).sort()[0];
  const classes = ["row", isIdle ? "idle" : "", { error: "wrong", warning: "doubtful" }[worst] ?? ""].filter(Boolean).join(" ");
  return h("div", { class: classes, role: "option", ariaSelected: "false", id: `line-${file}-${line}`, onclick: () => choose(file, line) },
    h("span", { class: "n" }, String(line)),
    h("span", { class: "t", style: { "--hang": `${text.length - text.trimStart().length + 4}ch` } }, ...coloured(text, model.colours[file].get(line) ?? [])),
    h("span", { class: "shape", title: shape }, shape),
    h("span", { class: "r" }, ...(figures?.parameters ? numbers(amount(figures.parameters)) : [])),
    h("span", { class: "r" }, ...(figures && sum(figures.flops) >= 1 ? numbers(amount(sum(figures.flops))) : [])),
    h("span", { class: "r" }, ...(figures?.bytes ? numbers(bytes(figures.bytes)) : [])),
    costCell(model, cost));
}

function costCell(model, cost) {
  const all = sum(cost);
  if (!all || all < FEW * model.total) return h("span", { class: "cost" });
  const parts = cost.map((part, n) => h("i", { class: DIRECTIONS[n], style: { width: `${(100 * part) / model.most}%` } }));
  const told = DIRECTIONS.map((name, n) => `${name} ${model.profile ? duration(cost[n]).join(" ") : amount(cost[n]).join(" ")}`).join(", ");
  return h("span", { class: "cost", title: told }, h("span", { class: "bar" }, ...parts), model.profile ? h("span", { class: "r" }, ...numbers(duration(all))) : "",
    h("span", { class: "r quiet" }, share(all / model.total).replace("100.0 %", "100 %")));
}

// The time of a step in which no line computes, so that the shares add up.
function restRow(model) {
  const rest = model.rest();
  if (!model.profile || rest < FEW * model.total) return null;
  const { barrier_ms: barrier, idle_ms: idle, runner_ms: runner, call_ms: call } = model.profile;
  const told = [["at barriers", barrier], ["idle", idle], ["from kernel to kernel", runner], ["around the call", call]].filter(([, time]) => time > 0).map(([name, time]) => `${name} ${joined(duration(time))}`).join(", ");
  return h("div", { class: "row idle without" }, h("span"), h("span", {}, "in no line: threads that wait, and what lies between kernels"), h("span"), h("span"), h("span"), h("span"),
    h("span", { class: "cost", title: told }, h("span"), h("span", { class: "r" }, ...numbers(duration(rest))), h("span", { class: "r quiet" }, share(rest / model.total).replace("100.0 %", "100 %"))));
}

export function numbers([value, unit]) {
  return [value, h("span", { class: "unit" }, unit)]; // as wide without a unit, so that digits stand below digits
}

function findingRow(finding, place = "") {
  const hint = finding.notes.find((note) => note.kind === "hint");
  return h("div", { class: "row finding" }, h("span"),
    h("span", { class: `t ${finding.severity}` }, `${place}${finding.code} ${finding.message}`, hint ? h("span", { class: "quiet" }, ` — ${hint.message}`) : ""));
}

// A text about a line, with pictures of real values; what stands in backticks is code.
function lessonRow(lesson) {
  const paragraphs = lesson.text.map((block) => h("p", {}, ...block.split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part))));
  const pictures = lesson.pictures.map(([alternative, data]) => h("img", { src: data, alt: alternative, title: alternative }));
  return h("div", { class: "row lesson" }, h("span"), h("div", { class: "taught" }, ...paragraphs, ...pictures));
}

// A line of text as coloured stretches.
export function coloured(text, stretches) {
  const marks = Array.from(text); // columns count characters, as in the compiler
  const found = [];
  let place = 0;
  for (const [begin, length, kind] of stretches) {
    if (begin > place) found.push(marks.slice(place, begin).join(""));
    found.push(h("span", { class: `c${kind}` }, marks.slice(begin, begin + length).join("")));
    place = begin + length;
  }
  found.push(marks.slice(place).join(""));
  return found;
}
