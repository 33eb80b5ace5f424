// The report of a run: result, curves, predictions, samples, weights, settings, and the records of plan, data and machine.
import { curvesOf, roundTicks, tickText, written } from "./chart.js";
import { h, svg } from "./dom.js";
import { arrayOf } from "./pictures.js";
import { counted, measure, share, whole } from "./units.js";

const KINDS = { wrong: "Wrong, the highest losses first", worst: "The highest losses", right: "Right", any: "Some rows" };
const STRONGEST_LOSS = 6; // the loss of a token, in nats, from which on its colour is the same

export function reportOf(app) {
  const { report } = app.model.data;
  const found = report.evaluation;
  const sections = {
    Result: resultOf(report), Curves: [curvesOf(report.runs)], Settings: settingsOf(report),
    Predictions: found ? predictionsOf(report, found) : absenceOf(report), Samples: found ? samplesOf(found) : absenceOf(report),
    Weights: report.weights.length ? weightsOf(report) : absenceOf(report), Records: [h("div", { class: "records" }, ...report.tables.map(recordOf))],
  };
  const order = ["Result", "Curves", "Predictions", "Samples", "Weights", "Settings", "Records"];
  const parts = order.map((name) => h("section", { id: `report-${name}` }, h("h2", {}, name), ...sections[name]));
  const jump = (name) => document.getElementById(`report-${name}`).scrollIntoView({ block: "start" });
  const contents = h("nav", { ariaLabel: "sections" }, ...order.map((name) => h("button", { onclick: () => jump(name) }, name)));
  const reached = new IntersectionObserver((all) => {
    const last = all.filter((one) => one.isIntersecting).at(-1);
    if (last) [...contents.children].forEach((button) => button.setAttribute("aria-current", String(last.target.id === `report-${button.textContent}`)));
  }, { rootMargin: "-10% 0px -80% 0px" });
  parts.forEach((part) => reached.observe(part));
  return h("div", { class: "report" }, contents, h("div", { class: "parts" }, ...parts));
}

const absenceOf = (report) => [h("p", { class: "quiet" }, report.missing)];

function resultOf(report) {
  const figures = report.result.filter(([, , kind]) => kind === "figure");
  const facts = report.result.filter(([, , kind]) => kind === "fact");
  return [h("dl", { class: "big" }, ...figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, measure(value))))),
    h("p", { class: "inline" }, ...facts.map(([name, text]) => h("span", {}, `${name} `, h("b", {}, text)))), ...comparedWith(report)];
}

function comparedWith(report) {
  if (report.runs.length < 2) return [];
  const scalars = [...new Set(report.runs.flatMap((run) => Object.keys(run.curves).flatMap((name) => Object.keys(run.curves[name]).map((part) => `${name}|${part}`))))].filter((key) => !key.startsWith("rate|"));
  const last = (run, key) => (run.curves[key.split("|")[0]]?.[key.split("|")[1]] ?? []).find(([epoch]) => epoch === (run.best ?? run.seconds.length))?.[1];
  const rows = scalars.map((key) => [key.replaceAll("_", " ").replace("|", ", "), ...report.runs.map((run) => measure(last(run, key)))]);
  return [h("h3", {}, report.runs.every((run) => run.best) ? "Runs at their best epochs" : "Runs at their best epochs, or at the last where none is the best"), tableOf(["", ...report.runs.map((run) => run.name)], rows, (n) => n > 0),
    h("h3", {}, "Settings that differ"), report.different.length ? tableOf(["setting", ...report.runs.map((run) => run.name)], report.different, () => false) : h("p", { class: "quiet" }, "None.")];
}

// Rows of texts and elements below their headings; columns for which `isNumber` holds are set to the right.
function tableOf(heads, rows, isNumber) {
  const of = (n) => (isNumber(n) ? "r" : "");
  const head = heads.length ? [h("tr", {}, ...heads.map((text, n) => h("th", { class: of(n) }, text)))] : [];
  return h("div", { class: "wide" }, h("table", {}, ...head, ...rows.map((row) => h("tr", {}, ...row.map((cell, n) => h("td", { class: of(n), title: typeof cell === "string" && cell.length > 40 ? cell : null }, cell))))));
}

function predictionsOf(report, found) {
  const measured = found.measured === found.rows ? counted(found.measured, "row") : `${whole(found.measured)} of ${counted(found.rows, "row")}, spread evenly over them`;
  const parts = [h("p", { class: "quiet" }, `Measured on ${found.data}, ${measured}, with the weights of ${report.checkpoint}.`), ...found.notes.map((note) => h("p", { class: "warning" }, note))];
  if (found.rows_not_finite) parts.push(h("p", { class: "error" }, `${counted(found.rows_not_finite, "row")} with an output that is not finite.`));
  parts.push(inlineOf(found.scalars, "not finite"));
  found.classes.forEach((confusion, n) => parts.push(...classesOf(confusion, found.averages[n])));
  found.numbers.forEach((fit, n) => parts.push(...fitOf(fit, found.errors[n])));
  return parts;
}

const inlineOf = (named, missing = "—") => h("p", { class: "inline" }, ...Object.entries(named).map(([name, value]) => h("span", {}, `${name.replaceAll("_", " ")} `, h("b", {}, value === null ? missing : measure(value)))));

function classesOf(found, averages) {
  const parts = [h("h3", {}, `Classes of ${found.target} by ${found.output}`)];
  if (found.threshold !== null) parts.push(h("p", { class: "quiet" }, `${found.output} above ${found.threshold} counts as ${found.classes[1]?.class ?? "yes"}.`));
  parts.push(inlineOf(averages));
  const rows = found.matrix ? found.classes : [...found.classes].sort((one, other) => one.f1 - other.f1 || other.count - one.count).slice(0, 20);
  const scores = tableOf(["class", "count", "predicted", "right", "precision", "recall", "F1"], rows.map((row) => [row.class, whole(row.count), whole(row.predicted), whole(row.right), measure(row.precision), measure(row.recall), measure(row.f1)]), (n) => n > 0);
  const said = found.matrix ? "" : `The lowest F1 of the ${whole(found.classes.length)} classes that occur.`;
  parts.push(h("div", { class: "beside" }, ...(found.matrix ? [matrixOf(found)] : []), h("div", {}, said ? h("p", { class: "quiet" }, said) : "", scores)));
  if (found.most_confused.length && found.classes.length > 2) {
    const confused = found.most_confused.map((row) => [row.class, row.taken_for, whole(row.count), share(row.share)]);
    parts.push(h("h3", {}, "Confused most often"), tableOf(["class", "taken for", "count", "share"], confused, (n) => n > 1));
  }
  return parts;
}

function matrixOf(found) {
  const names = found.classes.map((row) => row.class);
  const cell = (count, sum, isRight, said) => h("td", { title: said, style: count ? { background: `color-mix(in srgb, var(${isRight ? "--forward" : "--backward"}) ${Math.max(16, (55 * count) / sum).toFixed(1)}%, transparent)` } : {} }, count ? whole(count) : "");
  const rows = found.matrix.map((counts, n) => {
    const sum = Math.max(1, counts.reduce((all, one) => all + one, 0));
    return h("tr", {}, h("th", { scope: "row" }, names[n]), ...counts.map((count, k) => cell(count, sum, n === k, `${names[n]}, taken for ${names[k]}: ${whole(count)}, ${share(count / sum)} of the row`)));
  });
  return h("div", { class: "wide" }, h("table", { class: "matrix" }, h("caption", {}, "rows: true classes · columns: predicted"), h("tr", {}, h("th"), ...names.map((name) => h("th", { scope: "col" }, name))), ...rows));
}

function fitOf(fit, errors) {
  const parts = [h("h3", {}, `${fit.target} by ${fit.output}`), inlineOf(errors)];
  if (fit.nonfinite) parts.push(h("p", { class: "warning" }, `${whole(fit.nonfinite)} values are left out, since their error is not finite.`));
  if (fit.points.length) parts.push(h("div", { class: "beside" }, scatterOf(fit), errorsOf(fit)));
  if (fit.points.length && fit.points.length < fit.count) parts.push(h("p", { class: "quiet" }, `Drawn are ${whole(fit.points.length)} of the ${whole(fit.count)} values, spread evenly over them.`));
  return parts;
}

const SQUARE = { side: 320, left: 62, right: 12, top: 10, bottom: 38 };

// Axes of a square picture with ticks of both; `across` is the name of the horizontal one.
function squareOf(title, across, low, high, ticks, up, upTicks) {
  const [right, bottom] = [SQUARE.side - SQUARE.right, SQUARE.side - SQUARE.bottom];
  const x = (value) => SQUARE.left + (high > low ? (value - low) / (high - low) : 0.5) * (right - SQUARE.left);
  const picture = svg("svg", { viewBox: `0 0 ${SQUARE.side} ${SQUARE.side}`, role: "img", "aria-label": title });
  for (const tick of upTicks) picture.append(svg("line", { class: "grid", x1: SQUARE.left, x2: right, y1: up(tick), y2: up(tick) }), written(tickText(tick), SQUARE.left - 8, up(tick) + 4, "end"));
  for (const tick of ticks) if (tick >= low && tick <= high) picture.append(written(tickText(tick), x(tick), bottom + 16, "middle"));
  picture.append(written(across, right, bottom + 34, "end"));
  return { picture, x, card: h("figure", { class: "chart square" }, h("figcaption", {}, h("b", {}, title)), picture) };
}

function scatterOf(fit) {
  const every = fit.points.flat();
  const ticks = roundTicks(Math.min(...every), Math.max(...every), 3);
  const [low, high] = [Math.min(...every, ticks[0]), Math.max(...every, ticks.at(-1))];
  const up = (value) => SQUARE.side - SQUARE.bottom - (high > low ? (value - low) / (high - low) : 0.5) * (SQUARE.side - SQUARE.top - SQUARE.bottom);
  const { picture, x, card } = squareOf("predicted over true", `${fit.target}, true`, low, high, ticks, up, ticks);
  picture.append(svg("line", { class: "best", x1: x(low), y1: up(low), x2: x(high), y2: up(high) }), ...fit.points.map(([truth, guess]) => svg("circle", { class: "point", cx: x(truth).toFixed(1), cy: up(guess).toFixed(1), r: 1.8 })));
  return card;
}

function errorsOf(fit) {
  const errors = fit.points.map(([truth, guess]) => guess - truth);
  const [low, high] = [Math.min(...errors), Math.max(...errors)];
  const counts = new Array(40).fill(0);
  for (const error of errors) counts[Math.min(39, high > low ? Math.floor((40 * (error - low)) / (high - low)) : 20)] += 1;
  const most = Math.max(...counts);
  const up = (count) => SQUARE.side - SQUARE.bottom - (count / most) * (SQUARE.side - SQUARE.top - SQUARE.bottom);
  const { picture, card } = squareOf("errors", "predicted − true", low, high, roundTicks(low, high, 3), up, roundTicks(0, most, 3).filter((tick) => tick <= most && Number.isInteger(tick)));
  const width = (SQUARE.side - SQUARE.left - SQUARE.right) / 40;
  counts.forEach((count, n) => count && picture.append(svg("rect", { class: "bin", x: SQUARE.left + n * width, y: up(count), width: width - 1, height: SQUARE.side - SQUARE.bottom - up(count) })));
  return card;
}

function samplesOf(found) {
  const parts = [];
  for (const [kind, title] of Object.entries(KINDS)) {
    const rows = found.samples.filter((row) => row.kind === kind);
    if (rows.length) parts.push(h("h3", {}, title), h("div", { class: "samples" }, ...rows.map(sampleOf)));
    else if (kind === "wrong" && found.samples.some((row) => row.kind === "right")) parts.push(h("p", { class: "quiet" }, "No row is wrong."));
  }
  for (const [are, title, one] of [[false, "Tokens", "a token"], [true, "Classes by place", "the class of a place"]]) {
    const texts = found.texts.filter((text) => text.are_classes === are);
    if (texts.length) parts.push(h("h3", {}, title), h("p", { class: "quiet" }, `The stronger its colour, the less likely ${one} was; from a loss of ${STRONGEST_LOSS} on it is the same. Point at one for its probability.`), ...texts.flatMap(judgedTextOf));
  }
  return parts.length ? parts : [h("p", { class: "quiet" }, "No row is shown.")];
}

function sampleOf(row) {
  const pictures = row.pictures.map(([name, data]) => h("img", { src: data, alt: `${name} of ${row.place}`, title: name }));
  const lines = [...row.lines, ["loss", measure(row.loss)]];
  return h("div", { class: "sample" }, h("div", { class: "images" }, ...pictures), h("div", { class: "quiet" }, row.place), h("table", {}, ...lines.map(([name, text]) => h("tr", {}, h("td", { class: "quiet" }, name), h("td", {}, text)))));
}

function judgedTextOf(text) {
  const first = text.tokens.length === text.count ? "" : `the first ${whole(text.tokens.length)} of `;
  const said = `${text.row}: ${text.target}, ${first}${counted(text.count, text.are_classes ? "place" : "token")}, mean loss ${measure(text.mean_loss)}${text.are_classes ? "" : `, perplexity ${measure(text.perplexity)}`}`;
  return [h("p", { class: "quiet" }, said), h("p", { class: "tokens" }, ...text.tokens.flatMap((token) => [judgedTokenOf(token, text.are_classes), ...(text.are_classes ? [" "] : [])]))];
}

function judgedTokenOf(token, isClass) {
  const strength = token.loss === null ? 70 : Math.max(0, (70 * Math.min(token.loss, STRONGEST_LOSS)) / STRONGEST_LOSS);
  const other = token.likeliest === token.text ? "" : `; likeliest ${token.likeliest}: ${share(token.likeliest_probability)}`;
  return h("span", { title: `${isClass ? `place ${token.place}: ` : ""}${token.text}: ${share(token.probability)}, loss ${measure(token.loss)}${other}`, style: { background: `color-mix(in srgb, var(--backward) ${strength.toFixed(0)}%, transparent)` } }, token.text);
}

function weightsOf(report) {
  const shown = report.weights.length < report.tensors ? ` The first ${whole(report.weights.length)} tensors are shown.` : "";
  const heads = ["tensor", "shape", "count", "mean", "deviation", "least", "most", "norm", "zeros", "distribution"];
  const rows = report.weights.map((one) => [one.role === "parameter" ? one.path : `${one.path} (${one.role})`, one.shape.join(" × ") || "one number", whole(one.count), ...[one.mean, one.std, one.min, one.max, one.norm].map(measure),
    share(one.zeros / Math.max(1, one.count)), barsOf(one.histogram, one.nonfinite)]);
  return [h("p", { class: "quiet" }, `The weights of ${report.checkpoint}: ${whole(report.parameters)} parameters in ${whole(report.tensors)} tensors.${shown}`), tableOf(heads, rows, (n) => n > 1 && n < 9), ...(report.filters ? filtersOf(report.filters) : [])];
}

function barsOf(counts, broken) {
  const most = Math.max(...counts, 1);
  const width = 120 / counts.length;
  const picture = svg("svg", { viewBox: "0 0 120 22", class: "small", role: "img", "aria-label": "how often, from the least to the most" });
  counts.forEach((count, n) => count && picture.append(svg("rect", { class: "bin", x: n * width, y: 22 - Math.max(0.7, (21 * count) / most), width: width * 0.92, height: Math.max(0.7, (21 * count) / most) })));
  return h("span", {}, picture, broken ? h("span", { class: "error" }, ` ${whole(broken)} not finite`) : "");
}

function filtersOf(found) {
  const count = found.shown === found.count ? whole(found.count) : `the first ${whole(found.shown)} of ${whole(found.count)}`;
  const colours = found.pictures ? "In their colours; grey is 0." : `Blue is above 0, orange below${found.channels > 1 ? `, of the mean over ${found.channels} channels` : ""}.`;
  const shown = found.pictures ? h("div", { class: "images" }, ...found.pictures.map((data, n) => h("img", { src: data, alt: `filter ${n}` }))) : arrayOf(found.path, found.maps);
  return [h("h3", {}, `Filters of ${found.path}`), h("p", { class: "quiet" }, `${count} filters. ${colours} The strongest weight is ${measure(found.bound)}.`), shown];
}

function settingsOf(report) {
  return [report.settings.length ? h("div", { class: "settings" }, tableOf(["setting", "value", "from"], report.settings, () => false)) : h("p", { class: "quiet" }, "The run has no record of settings.")];
}

const recordOf = ({ title, rows }) => h("div", {}, title ? h("h3", {}, title) : "", tableOf([], rows, () => false));
