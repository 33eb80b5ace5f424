// The fusions that made a kernel, in their order, each with its reason.
import { h } from "./dom.js";

export function fusionOf(app, kernel) {
  const steps = kernel.fusion ?? [];
  if (!steps.length) return "";
  const rows = [fusionRow("", steps[0].first, "", []), ...steps.map((step) => fusionRow("+", step.second, step.fusion, app.model.linesOf(step.origins), app))];
  return h("table", { class: "fusion" }, ...rows);
}

function fusionRow(sign, words, fusion, lines, app) {
  const numbers = [...new Map(lines.map(([file, line]) => [`${file}:${line}`, [file, line]])).values()];
  const links = numbers.slice(0, 3).flatMap(([file, line], n) => [n ? ", " : "", h("a", { onclick: () => app.go(file, line) }, String(line))]);
  return h("tr", {}, h("td", { class: "quiet r" }, sign), h("td", { class: "mono" }, words.join(", ")), h("td", {}, fusion.replaceAll("_", " ")), h("td", { class: "quiet" }, app ? app.model.data.fusions[fusion] : "begins"),
    h("td", { class: "quiet" }, numbers.length ? (numbers.length > 1 ? "lines " : "line ") : "", ...links));
}
