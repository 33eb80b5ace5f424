// Two runs, line by line of their texts: settings, metrics, weights, and the values of a row of the data.
import { asked } from "./asking.js";
import { h } from "./dom.js";
import { short } from "./pictures.js";
import { measure, share, whole } from "./units.js";

const lastComparison = { row: null, answer: null };

export function compareOf(app) {
  const view = h("div", { class: "compare" });
  fillComparison(app, view);
  return view;
}

async function fillComparison(app, view) {
  const found = app.model.data.comparison ?? (await askedComparison(app.comparedRow ?? 0));
  if (found.error) {
    view.replaceChildren(h("p", { class: "error" }, found.error), h("p", { class: "quiet" }, found.fix));
    return;
  }
  const [first, second] = found.runs;
  view.replaceChildren(
    h("p", {}, h("b", {}, first), h("span", { class: "quiet" }, `, ${found.said[0]}`), h("span", { class: "against" }, "and"), h("b", {}, second), h("span", { class: "quiet" }, `, ${found.said[1]}`)),
    rowOfComparison(app, found),
    h("div", { class: "cards" }, pairsOf("metrics", found.metrics.map(([name, ...pair]) => [nameOfMetric(name), ...pair.map(shownMetric)]), found.runs), pairsOf("settings", found.settings, found.runs)),
    h("div", { class: "compared" }, ...headOfComparison(), ...found.lines.flatMap((line) => comparedRow(app, line))));
}

function askedComparison(row) {
  if (lastComparison.row !== row) Object.assign(lastComparison, { row, answer: asked(`/comparison?row=${row}`).then((answer) => answer.json()) });
  return lastComparison.answer;
}

function rowOfComparison(app, found) {
  const said = found.same_row ? "the same inputs in both runs" : "the inputs of this row are not the same in both runs: their data, its cut or its preparation differs";
  if (app.model.data.comparison) return h("p", { class: "quiet" }, `Values are those of row ${found.row}; ${said}.`);
  const go = (row) => {
    app.comparedRow = Math.max(0, Math.min(found.rows - 1, Math.round(row) || 0));
    app.refresh();
  };
  return h("div", { class: "tools" }, h("label", {}, "values of row ", h("input", { type: "number", min: 0, max: found.rows - 1, value: found.row, ariaLabel: "row of the comparison", onchange: (event) => go(Number(event.target.value)) })), h("span", { class: found.same_row ? "" : "warning" }, said));
}

function pairsOf(title, pairs, runs) {
  if (!pairs.length) return h("p", { class: "quiet" }, `All ${title} are the same.`);
  return h("table", {}, h("tr", {}, h("th", {}, h("b", {}, title)), ...runs.map((run) => h("th", { class: "r" }, run))), ...pairs.map(([name, one, other]) => h("tr", {}, h("td", { class: "quiet" }, name), h("td", { class: "r" }, shownSetting(one)), h("td", { class: "r" }, shownSetting(other)))));
}

const shownSetting = (value) => (value === null || value === undefined ? "—" : typeof value === "number" ? short(value) : Array.isArray(value) ? value.map(shownSetting).join(", ") : String(value));

const shownMetric = (value) => (typeof value === "number" && !Number.isInteger(value) ? measure(value) : shownSetting(value));

// As a report names it: `test_loss` is "loss, test".
function nameOfMetric(name) {
  if (name === "best_epoch" || name === "epochs") return name.replace("_", " "); // of the whole run
  const [prefix, part] = [["test_", "test"], ["val_", "validation"]].find(([begin]) => name.startsWith(begin)) ?? ["", "training"];
  return `${name.slice(prefix.length).replaceAll("_", " ")}, ${part}`;
}

const headOfComparison = () => ["", "", "", "weights", "values"].map((name) => h("span", { class: "head" }, name));

// Of both texts the line numbers; what is in one alone is marked. Weights and values have the largest of a line's differences.
function comparedRow(app, line) {
  const kind = line.first && line.second ? "" : line.first ? "gone" : "new";
  const of = (kinds) => line.differences.filter((one) => kinds.includes(one.kind));
  const told = of(["setting", "metric"]).map((one) => `${one.kind === "metric" ? nameOfMetric(one.name) : one.name} ${one.pair.map(one.kind === "metric" ? shownMetric : shownSetting).join(" → ")}`);
  const cells = [h("span", { class: "n" }, line.first || ""), h("span", { class: "n" }, line.second || ""),
    h("span", { class: `t ${kind}`, style: { "--hang": `${line.text.length - line.text.trimStart().length + 6}ch` } }, { gone: "− ", new: "+ " }[kind] ?? "  ", line.text, ...told.map((text) => h("span", { class: "told" }, text))), differenceCell(of(["parameter", "state"])), differenceCell(of(["value"]))];
  if (line.first) cells[2].addEventListener("click", () => goToLine(app, line));
  return cells;
}

function goToLine(app, line) {
  const file = app.model.files.findIndex(({ name }) => name === line.file || name.endsWith(`/${line.file}`));
  if (file >= 0) app.go(file, line.first);
}

function differenceCell(differences) {
  if (!differences.length) return h("span");
  const said = differences.map(saidDifference).join("\n");
  const other = differences.find((one) => one.shapes || one.only !== undefined);
  const sizes = differences.filter((one) => !one.shapes && one.only === undefined).map((one) => one.relative ?? Infinity);
  const most = Math.max(0, ...sizes);
  const size = most === Infinity ? "from 0" : most === 0 ? "the same" : share(most);
  const without = other && (other.shapes ? "other shapes" : "not in both");
  const texts = [...(sizes.length ? [h("span", { class: most ? "" : "quiet" }, size)] : []), ...(without ? [h("span", { class: "quiet" }, without)] : [])];
  return h("span", { class: "difference", title: said }, h("span", { class: "bar" }, h("i", { class: "forward", style: { width: `${Math.min(100, 100 * most)}%` } })), h("span", { class: "r" }, ...texts.flatMap((text, n) => (n ? [h("br"), text] : [text]))));
}

function saidDifference(one) {
  if (one.shapes) return `${one.name}: shapes ${one.shapes.map((shape) => `[${shape.join(", ")}]`).join(" and ")}`;
  if (one.only !== undefined) return `${one.name}: in the first run alone`;
  if (one.are_names) return `${one.name}: ${whole(one.changed)} of ${whole(one.count)} differ`;
  return `${one.name}: ${one.relative === null ? "changed from 0, or not finite" : `changed by ${share(one.relative)} of its norm`}, at most ${short(one.largest)}, ${whole(one.changed)} of ${whole(one.count)} elements`;
}
