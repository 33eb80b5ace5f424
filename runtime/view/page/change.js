// Changes of inputs and weights: their form, the list of those made, and what they change, by line and in the outputs.
import { h } from "./dom.js";
import { short } from "./pictures.js";
import { share, whole } from "./units.js";

const LISTED = 12; // lines of differences

export function changesOf(app) {
  app.changes ??= [];
  return app.changes;
}

// The form. `found` is an answer with the tensors that there are; those of the line itself stand first.
export function changeForm(app, found, file, line) {
  const isHere = (tensor) => tensor.file === file && tensor.line === line;
  const tensors = [...found.tensors.filter(isHere), ...found.tensors.filter((tensor) => !isHere(tensor))];
  if (!tensors.length) return "";
  if (!tensors.some((tensor) => tensor.name === app.changed?.tensor)) app.changed = { tensor: tensors[0].name, at: "", how: "set", value: "" };
  const wanted = app.changed;
  const chosen = tensors.find((tensor) => tensor.name === wanted.tensor);
  const select = h("select", { ariaLabel: "tensor", onchange: (event) => { app.changed = { tensor: event.target.value, at: "", how: "set", value: "" }; app.refreshLine(); } },
    ...tensors.map((tensor) => h("option", { value: tensor.name, selected: tensor === chosen }, `${tensor.name}${tensor.role === "input" ? ", an input" : ""}`)));
  const at = h("input", { class: "place", value: wanted.at, placeholder: chosen.shape.map(() => ":").join(", "), ariaLabel: "which elements", title: `an index, a range such as 0:16 or : for each axis of ${chosen.type}`, oninput: (event) => (wanted.at = event.target.value) });
  const how = h("select", { ariaLabel: "how", onchange: (event) => (wanted.how = event.target.value) }, ...waysOf(chosen).map(([value, said]) => h("option", { value, selected: value === wanted.how }, said)));
  const value = h("input", { class: "amount", value: wanted.value, ariaLabel: "value", placeholder: "0", oninput: (event) => (wanted.value = event.target.value) });
  const said = h("span", { class: "error" });
  const apply = (event) => {
    event.preventDefault();
    const change = changeOf(wanted);
    if (typeof change === "string") said.textContent = change;
    else {
      changesOf(app).push(change);
      app.shownValues = "difference";
      app.refreshLine();
    }
  };
  return h("div", {}, h("form", { class: "tools change", onsubmit: apply }, h("span", {}, "change"), select, h("span", { class: "mono quiet" }, `[${chosen.shape.join(", ")}]`), h("span", {}, "at"), at, how, value, h("button", { type: "submit" }, "Change"), said), tokensOf(app, chosen));
}

function waysOf(tensor) {
  const ways = [["set", "set to"], ["scale", "times"]];
  return tensor.tokens ? [["token", "the token"], ...ways.slice(0, 1)] : ways;
}

function changeOf({ tensor, at, how, value }) {
  if (how === "token") return value ? { tensor, at, token: value } : "give a token";
  const number = Number(value.trim() || "0");
  return Number.isFinite(number) ? { tensor, at, [how]: number } : `${value} is no number`;
}

// The tokens of an input, each of which can be chosen.
function tokensOf(app, tensor) {
  if (!tensor.tokens) return "";
  if (app.changed.how === "set" && !app.changed.value) app.changed.how = "token";
  return h("div", { class: "tokens", role: "group", ariaLabel: "tokens" }, ...tensor.tokens.map((token, n) => h("button", { ariaPressed: String(app.changed.at === String(n)), title: `token ${n}`, onclick: () => choosePlace(app, tensor.name, [n]) }, token)));
}

// An element that was chosen in a picture: its index goes into the form, and the value is to be given.
export function choosePlace(app, tensor, place) {
  if (!place) return;
  const before = app.changed;
  app.changed = { tensor, at: place.join(", "), how: before?.tensor === tensor ? before.how : "set", value: "" };
  app.refreshLine();
  app.focusesAmount = true;
}

export function changesMade(app) {
  const changes = changesOf(app);
  if (!changes.length) return "";
  const forget = (change) => {
    app.changes = changes.filter((other) => other !== change);
    app.refreshLine();
  };
  const all = h("button", { onclick: () => { app.changes = []; app.refreshLine(); } }, "undo all");
  return h("div", { class: "tools made" }, ...changes.map((change) => h("span", { class: "chip" }, saidOf(change), h("button", { ariaLabel: "undo", onclick: () => forget(change) }, "✕"))), changes.length > 1 ? all : "");
}

function saidOf({ tensor, at, set, scale, token }) {
  const value = token !== undefined ? ` = ${token}` : set !== undefined ? ` = ${set}` : ` × ${scale}`;
  return h("span", { class: "mono" }, tensor, at ? `[${at}]` : "", value);
}

// What the changes do: the outputs before and after them, and the difference at each line, the largest first.
export function effectOf(app, found) {
  if (!found.differences) return "";
  const moved = found.differences.filter((row) => row.changed).sort((a, b) => (b.relative ?? Infinity) - (a.relative ?? Infinity));
  const lines = moved.length ? h("table", { class: "differences" }, h("tr", {}, ...["line", "", "changes by", "", "elements"].map((name, n) => h("th", { class: n === 3 ? "r" : "" }, name))), ...moved.slice(0, LISTED).map((row) => differenceRow(app, row))) : h("p", { class: "quiet" }, "Nothing changes at any line.");
  const same = found.differences.length - moved.length;
  return h("div", { class: "effect" }, ...outputTables(found.outputs), h("div", {}, lines, h("p", { class: "quiet" }, [moved.length > LISTED ? `${moved.length - LISTED} more change. ` : "", same && moved.length ? `${same} ${same === 1 ? "value stays" : "values stay"} the same.` : ""].join(""))));
}

function differenceRow(app, row) {
  const part = row.relative ?? Infinity;
  return h("tr", {}, h("td", { class: "r" }, h("a", { onclick: () => app.go(row.file, row.line) }, String(row.line))), h("td", { class: "mono" }, row.name),
    h("td", {}, h("span", { class: "bar" }, h("i", { class: "forward", style: { width: `${Math.min(100, 100 * part)}%` } }))),
    h("td", { class: "r", title: `the largest change of an element: ${short(row.largest)}` }, part === Infinity ? "from 0" : share(part)), h("td", { class: "quiet" }, `${whole(row.changed)} of ${whole(row.count)}`));
}

// Outputs of one element share a table.
function outputTables(outputs) {
  const single = outputs.filter((output) => output.count === 1);
  const tables = outputs.filter((output) => output.count > 1).map((output) => {
    const most = output.count > output.elements.length ? `, ${output.elements.length} of ${whole(output.count)}` : "";
    return outputTable([h("b", {}, output.output), most], output.elements.map(([index, word, ...pair]) => [word || index.join(", "), pair]));
  });
  if (single.length) tables.push(outputTable([], single.map((output) => [output.output, output.elements[0].slice(2)])));
  return tables;
}

// Rows of a name with a value before and one after; all have the same number of decimals.
function outputTable(title, rows) {
  const digits = decimals(rows.flatMap(([, pair]) => pair));
  const shown = (number) => (typeof number === "number" ? number.toFixed(digits).replace("-", "−") : "not finite");
  const written = rows.map(([name, [before, after]]) => h("tr", { class: before === after ? "quiet" : "" }, h("td", { class: "quiet" }, name), h("td", { class: "r" }, shown(before)), h("td", { class: "r" }, shown(after)),
    h("td", { class: "r" }, before === after ? "" : `${after > before ? "+" : ""}${shown(after - before)}`)));
  return h("table", { class: "outputs" }, h("tr", {}, h("th", {}, ...title), ...["before", "after", "change"].map((name) => h("th", { class: "r" }, name))), ...written);
}

function decimals(numbers) {
  const most = Math.max(...numbers.map((number) => Math.abs(number ?? 0)), 1e-9);
  return Math.max(0, Math.min(12, 3 - Math.floor(Math.log10(most))));
}
