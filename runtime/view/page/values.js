// The values of a line for one row of the data, which a server computes, with changes and gradients where wanted.
import { asked } from "./asking.js";
import { changeForm, changesMade, changesOf, choosePlace, effectOf } from "./change.js";
import { h } from "./dom.js";
import { arrayOf, short } from "./pictures.js";
import { whole } from "./units.js";

const MOST_ANSWERS = 40;
const answers = new Map();

// The answers of a server, each asked once; those of other texts are forgotten first.
function answerOf(app, question) {
  const key = `${app.live.state.version} ${JSON.stringify(question)}`;
  if (!answers.has(key)) {
    answers.set(key, asked("/values", question).then((answer) => answer.json()));
    if (answers.size > MOST_ANSWERS) answers.delete(answers.keys().next().value);
  }
  return answers.get(key);
}

export async function valuesOf(app, file, line, body) {
  const question = { row: app.row ?? 0, file, line, changes: changesOf(app), backward: Boolean(app.isBackward) };
  const wait = setTimeout(() => body.append(h("p", { class: "quiet" }, "computing …")), 150);
  const found = await answerOf(app, question);
  clearTimeout(wait);
  const part = body.querySelector(".part") ?? "";
  if (found.error) {
    body.replaceChildren(part, changesMade(app), h("p", { class: "error" }, found.error), h("p", { class: "quiet" }, found.fix));
    return;
  }
  body.replaceChildren(part, rowChooser(app, found), changeForm(app, found, file, line), changesMade(app), effectOf(app, found), formChooser(app, found), ...shownValues(app, found));
  if (app.focusesAmount) body.querySelector("input.amount").focus();
  app.focusesAmount = false;
}

function rowChooser(app, found) {
  const go = (row) => {
    app.row = Math.max(0, Math.min(found.rows - 1, Math.round(row) || 0));
    app.refreshLine();
  };
  const input = h("input", { type: "number", min: 0, max: found.rows - 1, value: found.row, ariaLabel: "row", onchange: (event) => go(Number(event.target.value)) });
  const back = h("input", { type: "checkbox", checked: Boolean(app.isBackward), onchange: () => { app.isBackward = !app.isBackward; app.refreshLine(); } });
  return h("div", { class: "tools" }, h("button", { ariaLabel: "row before", onclick: () => go(found.row - 1) }, "‹"), h("label", {}, "row ", input), h("button", { ariaLabel: "next row", onclick: () => go(found.row + 1) }, "›"),
    h("span", {}, `of ${whole(found.rows)}, ${found.said}`), app.model.data.trains ? h("label", { title: "the gradient of the loss of this row, by the model as it predicts" }, back, "gradients") : "");
}

// Which of a value is shown, where something was changed.
function formChooser(app, found) {
  if (!found.differences) return "";
  app.shownValues ??= "difference";
  return h("div", { class: "switch forms", role: "tablist", ariaLabel: "values" }, ...["before", "after", "difference"].map((form) => h("button", { role: "tab", ariaSelected: String(form === app.shownValues), onclick: () => { app.shownValues = form; app.refreshLine(); } }, form)));
}

function shownValues(app, found) {
  const shapes = new Map(found.tensors.map((tensor) => [tensor.name, tensor.shape]));
  const choose = (name) => (shapes.has(name) ? (place) => choosePlace(app, name, place) : null);
  const tokens = found.tensors.flatMap((tensor) => (tensor.tokens ? [tensor.tokens] : []));
  const values = found.values.map((value) => valueBox(value.name, value.path, value, formOf(app, value), shapes.get(value.name), choose(value.name), tokens));
  const weights = found.weights.map((weight) => valueBox(weight.name, weight.role === "state" ? "a state" : "", weight, weight, shapes.get(weight.name), choose(weight.name)));
  if (!values.length && !weights.length) return [h("p", { class: "quiet" }, "This line names no value of a prediction, and makes no weights.")];
  return [...values, ...weights];
}

const formOf = (app, value) => ({ after: value.after, difference: value.difference })[app.shownValues] ?? value;

function valueBox(name, path, value, shown, shape, choose, tokens = []) {
  const box = h("div", { class: "value" }, h("h3", { class: "group" }, h("b", {}, name), path && path !== name ? ` ${path}` : "", h("span", { class: "mono" }, ` ${value.type}`)), arrayOf(name, shown, shape, choose, tokens));
  if (value.gradient) box.append(h("h3", { class: "group" }, `gradient of the loss in ${name}, at most ${short(Math.max(Math.abs(value.gradient.low), Math.abs(value.gradient.high)))}`), arrayOf(`gradient of ${name}`, value.gradient));
  return box;
}
