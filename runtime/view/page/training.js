// A training while it runs: how far it is, its curves, figures by line, the rows that are most wrong, and a text; pause, stop, go on.
import { h, harmless, svg } from "./dom.js";
import { asked } from "./asking.js";
import { traceOf } from "./traces.js";
import { counted, share, whole } from "./units.js";

const SAID = { training: "Training", paused: "Paused", "stopping": "Training", ended: "Not training" };
const TOO_MUCH = 0.1; // of a weight that one update moves
const HARDLY = 1e-7;
const HEALTHY = [1e-4, 1e-2]; // ratios between which trainings mostly go well
const VANISHING = 1e-5; // of the largest gradient
const DECADES = [-7, 0]; // of ratios that are drawn
const KEPT = 400;

export class Training {
  constructor(app, events) {
    this.app = app;
    this.found = { status: { state: "ended" }, points: [], looks: [], samples: null, refusal: "" };
    this.traces = new Map(); // cards of curves by their titles
    this.root = this.frame();
    events.addEventListener("open", () => this.ask()); // also after a break
    events.addEventListener("training", (event) => this.progressed(JSON.parse(event.data)));
    events.addEventListener("lines", (event) => this.looked(JSON.parse(event.data)));
    events.addEventListener("samples", (event) => { this.found.samples = JSON.parse(event.data); this.paintSamples(); });
    events.addEventListener("refusal", (event) => { this.found.refusal = JSON.parse(event.data).text; this.paintHead(); });
    events.addEventListener("run", () => setTimeout(() => this.paintCurves())); // behind those who take it over
    for (const kind of ["closed", "error"]) events.addEventListener(kind, () => { this.found.status = { ...this.found.status, state: "ended", stops: false }; this.paintHead(); });
  }

  async ask() {
    const answer = await asked("/training");
    if (!answer.ok) return;
    this.found = await answer.json();
    this.app.model.data.run = this.found.run;
    this.paint();
  }

  // What stays as it is while figures change, so that focus and scrolling stay too.
  frame() {
    this.state = h("b", { class: "training-state", role: "status" });
    this.said = h("span", { class: "quiet" });
    this.cost = h("span", { class: "quiet" });
    this.pause = h("button", { class: "act", onclick: () => this.togglePause() });
    this.stop = h("button", { class: "act", onclick: () => this.order(this.found.status.stops ? "do not stop" : "stop after the epoch") });
    this.fill = h("i", {});
    this.bar = h("div", { class: "training-bar", role: "progressbar", ariaLabel: "the training" }, this.fill);
    this.refusal = h("p", { class: "warning" });
    this.curves = h("div", { class: "cards" });
    this.table = h("div", {});
    this.samples = h("div", {});
    return h("div", { class: "training" }, h("div", { class: "training-head" }, this.state, this.said, h("span", { class: "rest" }), this.cost, this.pause, this.stop), this.bar, this.refusal,
      this.curves, this.table, this.samples);
  }

  paint() {
    this.paintHead();
    this.paintCurves();
    this.paintLines();
    this.paintSamples();
  }

  paintHead() {
    const { status } = this.found;
    const runs = status.state !== "ended";
    this.state.textContent = status.stops ? `${SAID[status.state]}, until the epoch ends` : SAID[status.state];
    this.said.textContent = progressOf(status);
    this.cost.textContent = runs && status.cost !== undefined ? `the page takes ${share(status.cost)} of the time` : "";
    this.pause.hidden = !runs;
    this.stop.hidden = !runs;
    this.pause.textContent = status.state === "paused" ? "Go on" : "Pause";
    this.pause.title = status.state === "paused" ? "go on where it was (Space)" : "wait between two steps (Space)";
    this.stop.textContent = status.stops ? "Do not stop" : "Stop after the epoch";
    this.stop.title = "save everything, as Ctrl-C does, when the epoch has ended";
    const part = status.steps ? status.step / status.steps : 0;
    this.fill.style.width = `${(100 * part).toFixed(2)}%`;
    this.bar.hidden = !status.steps;
    this.bar.setAttribute("aria-valuenow", String(Math.round(100 * part)));
    this.bar.classList.toggle("waits", status.state === "paused");
    this.refusal.textContent = harmless(this.found.refusal);
    this.refusal.hidden = !this.found.refusal;
  }

  paintCurves() {
    const { status, points } = this.found;
    const run = this.app.model.data.run;
    const each = status.steps_per_epoch ?? (run.seconds.length ? run.step / run.seconds.length : 1);
    const last = Math.max(status.step ?? run.step, run.seconds.length * each); // an epoch may be told before its last step
    const byStep = (line) => (line ?? []).filter(([, value]) => value !== null).map(([epoch, value]) => [epoch * each, value]);
    const cards = Object.keys(run.curves).filter((name) => name !== "rate").map((name) => {
      const { training, validation } = run.curves[name];
      const recent = name === "loss" ? points.map(([step, value]) => [step, value]) : [];
      return this.traced(name.replaceAll("_", " "), each, last, [{ name: "last rows", ink: "var(--forward)", isFaint: true, points: recent }, { name: "training", ink: "var(--forward)", points: byStep(training) },
        { name: "validation", ink: "var(--backward)", points: byStep(validation) }]);
    });
    if (!cards.length && points.length) cards.push(this.traced("loss", each, last, [{ name: "last rows", ink: "var(--forward)", points: points.map(([step, value]) => [step, value]) }]));
    const rates = points.filter((point) => point[2] !== null).map(([step, , rate]) => [step, rate]);
    const epochs = byStep(run.curves.rate?.training).filter(([step]) => !rates.length || step < rates[0][0]);
    if (rates.length || epochs.length) cards.push(this.traced("learning rate", each, last, [{ name: "rate", ink: "var(--update)", points: [...epochs, ...rates] }], true));
    for (const card of [...this.curves.children]) if (!cards.includes(card)) card.remove();
    for (const [n, card] of cards.entries()) if (this.curves.children[n] !== card) this.curves.insertBefore(card, this.curves.children[n] ?? null); // one that moves loses the focus
  }

  // The card of a title, with its curves as they are now.
  traced(title, each, last, series, fromZero = false) {
    if (!this.traces.has(title)) this.traces.set(title, traceOf(title, fromZero));
    const { root, paint } = this.traces.get(title);
    paint(series, each, last);
    return root;
  }

  paintLines() {
    const { looks } = this.found;
    const last = looks.at(-1);
    if (!last) {
      this.table.replaceChildren(this.found.status.state === "ended" ? "" : h("p", { class: "quiet" }, "Figures of the lines are computed …"));
      return;
    }
    const largest = Math.max(0, ...last.lines.map((row) => row.gradient ?? 0));
    const heads = ["", "", "gradient", "", "update ÷ weight", "", ...(last.lines.some((row) => row.units) ? ["dead units", ""] : [])];
    const head = heads.map((text) => h("th", { scope: "col" }, text));
    const rows = last.lines.map((row) => this.rowOf(row, looks, largest, last.is_over));
    const when = last.is_over ? "with the rows and the rate of the last step" : `at the step after ${whole(last.step)}`;
    this.table.replaceChildren(h("h3", { class: "group" }, `By line, ${when}`), h("table", { class: "training-lines" }, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)));
  }

  rowOf(row, looks, largest, isOver) {
    const text = this.app.model.files[row.file]?.lines[row.line - 1]?.trim() ?? "not in the text";
    const series = (name) => looks.map((look) => look.lines.find((one) => one.file === row.file && one.line === row.line)?.[name]).filter((value) => value !== null && value !== undefined);
    const go = h("button", { class: "goes", title: "show the line", onclick: () => this.app.go(row.file, row.line) }, h("code", {}, text));
    const number = h("td", { class: "r quiet" }, row.line ? String(row.line) : "");
    const [dead, deadSaid] = deadOf(row);
    return h("tr", {}, number, h("td", { class: "text" }, row.line ? go : text), ...figureOf(row.gradient, gradientFault(row.gradient, largest)), h("td", {}, sparkOf(series("gradient"))),
      ...figureOf(row.ratio, ratioFault(row.ratio, isOver)), h("td", {}, row.ratio === undefined ? "" : scaleOf(row.ratio)), h("td", { class: dead > 0.5 ? "r warning" : "r", title: row.saturated ? `${row.saturated} of ${row.units} saturated` : "" }, deadSaid),
      h("td", {}, row.units ? h("span", { class: "bar share" }, h("i", { class: dead > 0.5 ? "wrong" : "forward", style: { width: `${100 * dead}%` } })) : ""));
  }

  paintSamples() {
    const { samples } = this.found;
    if (!samples) {
      this.samples.replaceChildren();
      return;
    }
    const when = samples.epoch ? `after epoch ${samples.epoch}` : "before the first epoch has ended";
    const parts = [h("h3", { class: "group" }, `Most wrong of ${counted(samples.measured, "row")} of the ${samples.part} part, ${when}`)];
    parts.push(samples.rows.length ? h("div", { class: "wrong-rows" }, ...samples.rows.map(wrongRowOf)) : h("p", { class: "quiet" }, "None of them is wrong."));
    for (const text of samples.texts) parts.push(h("h3", { class: "group" }, `${text.place}: each ${text.are_classes ? `class of ${text.target}` : "token"} as strong as its loss, ${precise(text.loss)} on average`),
      h("p", { class: "judged" }, ...text.tokens.flatMap((token) => [tokenOf(token, text.are_classes), ...(text.are_classes ? [" "] : [])])));
    if (samples.text !== null) parts.push(h("h3", { class: "group" }, `A text that it makes, ${when}; the draws are the same each time`), h("pre", { class: "plain generated" }, samples.text));
    this.samples.replaceChildren(...parts);
  }

  progressed({ status, point }) {
    this.found.status = status;
    if (point) this.found.points.push(point);
    if (this.found.points.length > KEPT) this.found.points = this.found.points.filter((_, n) => n % 2 === 0);
    this.paintHead();
    if (point) this.paintCurves();
  }

  looked(look) {
    this.found.looks.push(look);
    if (this.found.looks.length > KEPT) this.found.looks = this.found.looks.filter((_, n) => n % 2 === 0);
    this.paintLines();
  }

  togglePause() {
    if (this.found.status.state !== "ended") this.order(this.found.status.state === "paused" ? "go on" : "pause");
  }

  async order(what) {
    const answer = await asked("/order", { text: what });
    if (answer.ok) return;
    const said = await answer.json();
    this.found.refusal = `${said.error}; ${said.fix}`;
    this.paintHead();
  }
}

function progressOf(status) {
  if (!status.steps) return status.state === "ended" ? "" : "waiting for the next step …";
  const left = status.state === "paused" || status.state === "ended" ? "" : ` · ${timeOf(status.left)} left`;
  const loss = typeof status.means?.loss === "number" ? ` · loss ${precise(status.means.loss)}` : "";
  return `epoch ${Math.min(status.epoch, Math.ceil(status.epochs))} of ${Number(status.epochs.toFixed(2))} · step ${whole(status.step)} of ${whole(status.steps)}${loss}${left}`;
}

function timeOf(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

const precise = (value) => (value === null || value === undefined ? "—" : value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5) ? String(Number(value.toPrecision(3))) : value.toExponential(1));

function figureOf(value, fault) {
  return [h("td", { class: fault ? "r warning" : "r", title: fault }, value === undefined ? "" : precise(value))];
}

function gradientFault(value, largest) {
  if (value === null) return "the gradient is not finite";
  return value !== undefined && largest > 0 && value < VANISHING * largest ? `the gradient vanishes: it is ${precise(largest)} elsewhere` : "";
}

function ratioFault(value, isOver) {
  if (value === null) return "the update is not finite";
  if (value > TOO_MUCH) return `each update moves the weights by ${share(value)} of their size: the rate is too high`;
  return value > 0 && value < HARDLY && !isOver ? // schedules mostly end near 0
     "each update hardly moves the weights: the rate is too low" : "";
}

function deadOf(row) {
  if (!row.units) return [0, ""];
  return [row.dead / row.units, `${row.dead} of ${row.units}`];
}

// The last values of a figure as a line, by their logarithms.
function sparkOf(values) {
  const logs = values.filter((value) => value > 0).map(Math.log10).slice(-60);
  const [width, height] = [96, 18];
  const picture = svg("svg", { width, height, class: "spark", "aria-hidden": "true" });
  if (logs.length < 2) return picture;
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const middle = (low + high) / 2;
  const reach = Math.max(high - low, 0.3) / 2; // a factor of 2 fills the height at least
  const path = logs.map((value, n) => `${n ? "L" : "M"}${((n / (logs.length - 1)) * (width - 4) + 2).toFixed(1)} ${(height / 2 - ((value - middle) / reach) * (height / 2 - 3)).toFixed(1)}`);
  picture.append(svg("path", { d: path.join("") }));
  return picture;
}

// Where a ratio stands between 1e-7 and 1, with the stretch in which trainings mostly go well.
function scaleOf(ratio) {
  const [width, height] = [112, 18];
  const across = (value) => Math.max(0, Math.min(1, (Math.log10(value) - DECADES[0]) / (DECADES[1] - DECADES[0]))) * (width - 8) + 4;
  const picture = svg("svg", { width, height, class: "ratio", role: "img", "aria-label": "on a logarithmic scale from 1e-7 to 1" });
  picture.append(svg("rect", { class: "healthy", x: across(HEALTHY[0]), y: 5, width: across(HEALTHY[1]) - across(HEALTHY[0]), height: 8, rx: 4 }), svg("line", { x1: 4, x2: width - 4, y1: 9, y2: 9 }));
  if (ratio > 0) picture.append(svg("circle", { cx: across(ratio), cy: 9, r: 4 }));
  return picture;
}

function wrongRowOf(row) {
  const drawn = row.inputs.filter((value) => value.picture);
  const lines = [...row.targets.map((value) => [value.name, value.text]), ...row.predictions.map((value) => [row.predictions.length > 1 ? `predicted ${value.name}` : "predicted", value.text]), ["loss", precise(row.loss)]];
  const others = row.inputs.filter((value) => !value.picture).flatMap((value) => (Object.keys(value.columns).length ? Object.entries(value.columns) : [[value.name, value.text]]));
  return h("figure", { class: "wrong-row" }, ...drawn.map((value) => rowPictureOf(value)), h("figcaption", {}, h("span", { class: "quiet" }, row.place), h("table", {}, ...[...lines, ...others].map(([name, text]) => h("tr", {}, h("td", { class: "quiet" }, name), h("td", { class: "said" }, text))))));
}

function rowPictureOf({ name, picture }) {
  const { width, height, channels } = picture;
  const levels = Uint8Array.from(atob(picture.levels), (mark) => mark.charCodeAt(0));
  const canvas = h("canvas", { width, height, title: name });
  const scale = Math.max(1, Math.floor(112 / Math.max(width, height)));
  Object.assign(canvas.style, { width: `${width * scale}px`, height: `${height * scale}px` });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let n = 0; n < width * height; n++) for (let c = 0; c < 4; c++) image.data[4 * n + c] = c === 3 ? 255 : levels[(channels === 3 ? c : 0) * width * height + n];
  context.putImageData(image, 0, 0);
  return canvas;
}

const STRONGEST = 6; // of the loss of a token

function tokenOf([text, loss, likeliest, place], isClass) {
  const strength = loss === null ? 1 : Math.max(0, Math.min(1, loss / STRONGEST));
  return h("span", { title: `${isClass ? `place ${place}: ` : ""}loss ${precise(loss)}${likeliest ? `; likelier: ${likeliest}` : ""}`, style: { "background-color": `color-mix(in srgb, var(--backward) ${Math.round(70 * strength)}%, transparent)` } }, text);
}
