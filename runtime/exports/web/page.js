
/* The page: what the model predicts of what is drawn or typed, and its training. All of it happens here; nothing is sent. */

const data = JSON.parse(document.getElementById("data").textContent);
const { page, manifest } = data;
const { model_predict: PREDICT, model_step: STEP, model_generate_next: NEXT } = manifest.functions;
const STEP_INPUTS = STEP?.inputs ?? [];
const MOST_BARS = 24;
const SHOWN_LOSSES = 400;
const FRAME = 12; // milliseconds of work between two pictures

/* What was compressed and written as text. */
async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const rounded = (x) => (Number.isInteger(Number(x)) ? String(x) : Number(x).toPrecision(4));
const percent = (x) => `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`;

/* An element with attributes, listeners (functions) and children; text is never read as HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function svg(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const button = (text, click, attributes = {}) => element("button", { type: "button", click, ...attributes }, text);
const field = (label, input) => element("label", {}, label, input);

function section(title, ...children) {
  const heading = element("h2", {}, title);
  const made = element("section", {}, heading, ...children);
  document.getElementById("main").append(made);
  return made;
}

const say = (text) => (document.getElementById("state").textContent = text);
const EXAMPLES = data.row_count;
const HAS_ROWS = EXAMPLES > 0 && STEP_INPUTS.length > 0 && STEP_INPUTS.every((item) => Object.hasOwn(data.rows, item.name));
const examples = {}; // arrays of the page's rows by the names of inputs


async function loaded() {
  const [module, slow, weights] = await Promise.all([data.module, data.slow, data.weights].map(unpacked));
  return load({ manifest, module, slow, weights, rows: 32 });
}

let model;
let refresh = () => {}; // computes the shown prediction again, after the weights have changed

/* The rows of the page's data with these numbers, for some inputs of a function. */
function rowsOf(items, numbers) {
  return Object.fromEntries(items.map((item) => {
    const all = examples[item.name];
    if (!item.rows) return [item.name, all];
    const size = item.bytes_per_row / sizeOf(item.dtype);
    return [item.name, joined(all.constructor, numbers.map((n) => all.subarray(n * size, (n + 1) * size)))];
  }));
}

/* Scores of classes as shares, with a bar for each. */
function shownScores(list, values, names) {
  const top = Math.max(...values);
  const powers = Array.from(values, (x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  const ranked = powers.map((x, n) => [x / sum, n]);
  if (ranked.length > MOST_BARS) ranked.sort((a, b) => b[0] - a[0]).splice(MOST_BARS);
  list.replaceChildren(...ranked.map(([share, n]) => {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${100 * share}%`;
    return element("li", {}, element("span", { title: names[n] }, names[n]), element("span", {}, bar), element("span", {}, percent(share)));
  }));
  const best = powers.indexOf(Math.max(...powers));
  return `${names[best]} (${percent(powers[best] / sum)})`;
}

/* Every output of one row as a table. */
function shownOutputs(body, outputs) {
  body.replaceChildren(...PREDICT.outputs.map((item) => {
    const values = Array.from(outputs[item.name]);
    const text = values.slice(0, 64).map(rounded).join("  ") + (values.length > 64 ? "  …" : "");
    const best = page.classes?.[item.name]?.[values.indexOf(Math.max(...values))];
    return element("tr", {}, element("th", { scope: "row" }, item.name), element("td", {}, best === undefined ? text : `${best}: ${text}`));
  }));
}

/* A picture that is drawn: with a pointer, or with arrow keys and the space bar. */
class Drawing {
  constructor() {
    const { height, width } = page;
    this.ink = new Float32Array(height * width);
    this.cursor = [height >> 1, width >> 1];
    this.example = -1;
    this.last = null; // where the pointer was, while it draws
    this.list = element("ol", { "aria-label": "Shares of the classes" });
    this.best = element("p", { role: "status" });
    this.brightest = element("input", { type: "number", value: String(page.brightest), step: "any", change: () => this.show() });
    this.canvas = element("canvas", {
      width: width * 20, height: height * 20, tabindex: "0", role: "application", "aria-describedby": "how",
      "aria-label": `Drawing of ${height} by ${width} pixels`,
      pointerdown: (event) => this.begin(event), pointermove: (event) => this.move(event),
      pointerup: () => (this.last = null), pointercancel: () => (this.last = null),
      focus: () => this.show(), blur: () => this.show(), keydown: (event) => this.key(event),
    });
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    const next = EXAMPLES ? [button("Next example", () => this.next())] : [];
    section("Draw",
      element("p", { id: "how", class: "soft" }, "With a pointer, or with arrow keys and the space bar; Delete clears."),
      this.canvas, element("div", { class: "row" }, button("Clear", () => this.clear()), ...next), this.best, this.list,
      element("details", {}, element("summary", {}, "Numbers"), field("The brightest pixel", this.brightest)));
    refresh = () => this.show();
    if (EXAMPLES) this.next();
    else this.show();
  }

  /* The numbers that the model reads. */
  values() {
    const most = Number(this.brightest.value) || 0;
    const isFloat = PREDICT.inputs[0].dtype.startsWith("f");
    return Array.from(this.ink, (x) => (isFloat ? x * most : Math.round(x * most)));
  }

  show() {
    const { canvas, ink } = this;
    const paper = canvas.getContext("2d");
    const [cell, down] = [canvas.width / page.width, canvas.height / page.height];
    for (let n = 0; n < ink.length; n++) {
      const grey = Math.round(255 * ink[n]);
      paper.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      paper.fillRect((n % page.width) * cell, Math.floor(n / page.width) * down, cell, down);
    }
    if (document.activeElement === canvas) {
      paper.strokeStyle = getComputedStyle(document.body).getPropertyValue("--accent");
      paper.lineWidth = 2;
      paper.strokeRect(this.cursor[1] * cell + 1, this.cursor[0] * down + 1, cell - 2, down - 2);
    }
    const scores = model.predict({ [page.input]: this.values() })[page.output];
    this.best.textContent = `It looks like ${shownScores(this.list, scores, page.names)}.`;
  }

  dab(row, column) {
    const { ink } = this;
    const radius = Math.max(0.75, page.width / 20);
    for (let n = 0; n < ink.length; n++) {
      const far = Math.hypot(Math.floor(n / page.width) + 0.5 - row, (n % page.width) + 0.5 - column);
      ink[n] = Math.min(1, Math.max(ink[n], 1.25 - far / radius / 1.25, 0));
    }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientY - box.top) / box.height) * page.height, ((event.clientX - box.left) / box.width) * page.width];
  }

  begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.at(event);
    this.dab(...this.last);
    this.show();
  }

  move(event) {
    if (!this.last) return;
    const [row, column] = this.last;
    const next = this.at(event);
    const steps = Math.ceil(2 * Math.hypot(next[0] - row, next[1] - column)) || 1;
    for (let n = 1; n <= steps; n++) this.dab(row + ((next[0] - row) * n) / steps, column + ((next[1] - column) * n) / steps);
    this.last = next;
    this.show();
  }

  key(event) {
    const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [row, column] = this.cursor;
    const place = row * page.width + column;
    if (event.key in ways) {
      const [down, right] = ways[event.key];
      this.cursor = [(row + down + page.height) % page.height, (column + right + page.width) % page.width];
    } else if (event.key === " ") this.ink[place] = this.ink[place] < 0.5 ? 1 : 0;
    else if (event.key === "Delete" || event.key === "Backspace") this.ink.fill(0);
    else return;
    event.preventDefault();
    this.show();
  }

  next() {
    this.example = (this.example + 1) % EXAMPLES;
    const most = Number(this.brightest.value) || 1;
    const row = rowsOf([PREDICT.inputs[0]], [this.example])[page.input];
    this.ink.set(Array.from(row, (x) => Math.max(0, Math.min(1, Number(x) / most))));
    this.show();
  }

  clear() {
    this.ink.fill(0);
    this.show();
  }
}

/* Fields for the numbers of a row, in the units of the training's table. */
function form() {
  const items = PREDICT.inputs;
  const body = element("tbody");
  const readers = items.map((item) => fieldsOf(item));
  const problem = element("p", { role: "alert" });
  const shown = () => {
    problem.textContent = "";
    try {
      shownOutputs(body, model.predict(Object.fromEntries(items.map((item, n) => [item.name, readers[n].values()]))));
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  let example = -1;
  const next = () => {
    example = (example + 1) % EXAMPLES;
    items.forEach((item, n) => readers[n].fill(Array.from(rowsOf([item], [example])[item.name])));
    shown();
  };
  section("Predict", ...readers.map((reader) => reader.node),
    element("div", { class: "row" }, button("Predict", shown), ...(EXAMPLES ? [button("Next example", next)] : [])),
    problem, element("table", {}, element("caption", { class: "soft" }, "Outputs"), body));
  refresh = shown;
  if (EXAMPLES) next();
  else shown();
}

function fieldsOf(item) {
  const size = (item.rows ? item.bytes_per_row : item.bytes) / sizeOf(item.dtype);
  const columns = manifest.preparation?.columns?.[item.name] ?? [];
  if (size > 64) {
    const area = element("textarea", { "aria-label": item.name });
    area.value = Array(size).fill(0).join(" ");
    const values = () => area.value.split(/[\s,;]+/).filter(Boolean).map(Number);
    return { node: field(item.name, area), values, fill: (row) => (area.value = row.join(" ")) };
  }
  const inputs = Array.from({ length: size }, (_, n) => {
    const name = columns.length === size ? columns[n] : size === 1 ? item.name : `${item.name} ${n}`;
    const scale = manifest.preparation?.scales?.[name];
    const words = manifest.preparation?.vocabularies?.[name];
    const input = words
      ? element("select", {}, ...words.map((word, number) => element("option", { value: String(number) }, word)))
      : element("input", { type: "number", step: "any", value: rounded(scale ? Number(scale.centre) : 0) });
    const read = () => (scale ? (Number(input.value) - scale.centre) / scale.spread : Number(input.value));
    const fill = (x) => (input.value = words ? String(x) : rounded(scale ? Number(x) * scale.spread + scale.centre : x));
    return { node: field(name, input), read, fill };
  });
  return {
    node: element("div", { class: "fields" }, ...inputs.map((input) => input.node)),
    values: () => inputs.map((input) => input.read()),
    fill: (row) => inputs.forEach((input, n) => input.fill(row[n])),
  };
}

/* Text as numbers of tokens and back, as in the training. */
function tokenizer() {
  const { tokens, unit, lower } = page;
  const numbers = new Map(tokens.map((token, number) => [token, number]));
  const plain = (text) => (lower ? text.toLowerCase() : text);
  if (page.merges) {
    const { encode, writer } = bytePairs(tokens, numbers, page.merges);
    return { encode: (text) => encode(plain(text)), writer };
  }
  const word = /[\p{L}\p{N}_]+(?:[-'’][\p{L}\p{N}_]+)*|[^\p{L}\p{N}_\s]/gu;
  const pieces = (text) => (unit === "char" ? Array.from(text) : unit === "word" ? text.match(word) ?? [] : text.split(/\s+/).filter(Boolean));
  const isFree = (token, before) => before === undefined || /^[.,;:!?)\]}%…]$/.test(token) || /^[([{]$/.test(before);
  return {
    encode: (text) => pieces(plain(text)).map((piece) => numbers.get(piece) ?? 1),
    /* Token by token to text, behind the token `before`. */
    writer: (before) => ({
      add: (number) => {
        const token = tokens[number] ?? "";
        const isAlone = unit === "char" || (unit === "space" ? before === undefined : isFree(token, tokens[before]));
        before = number;
        return isAlone ? token : ` ${token}`;
      },
      end: () => "",
    }),
  };
}

/* The text so far, which the model goes on with: the tokens that `dlc generate` chooses with the same seed. */
function writing() {
  const { input, window: most, start, stop } = page;
  const { encode, writer } = tokenizer();
  const prompt = element("textarea", { "aria-label": "The text so far" });
  const shown = element("pre", { tabindex: "0", "aria-label": "The text with what the model adds" });
  const length = element("input", { type: "number", min: "1", max: "5000", value: String(page.length) });
  const seed = element("input", { type: "number", min: "0", step: "1", placeholder: "another each time" });
  const sampling = NEXT.settings.map(({ name, usual }) => [name, element("input", { type: "number", step: "any", value: String(usual) })]);
  const speed = element("p", { class: "soft", role: "status" });
  const problem = element("p", { role: "alert" });
  let isRunning = false;
  const extend = async (sequence) => {
    const drawn = seed.value === "" ? Math.floor(Math.random() * 2 ** 31) : Math.max(0, Math.trunc(Number(seed.value)));
    const filled = sampling.filter(([, field]) => field.value !== "");
    const chosen = Object.fromEntries(filled.map(([name, field]) => [name, Number(field.value)]));
    const begin = performance.now();
    const written = writer(shown.textContent ? sequence.at(-1) : undefined);
    let count = 0;
    for (const end = Number(length.value); isRunning && count < end; ) {
      let text = "";
      let hasEnded = false;
      for (const frame = performance.now(); !hasEnded && count < end && performance.now() - frame < FRAME; ) {
        const token = model.next(sequence, drawn, chosen);
        hasEnded = stop.includes(token);
        if (hasEnded) break;
        text += written.add(token);
        sequence.push(token);
        count += 1;
      }
      shown.append(text);
      if (hasEnded) break;
      await new Promise((done) => setTimeout(done));
    }
    shown.append(written.end());
    speed.textContent = `${count} tokens, ${rounded((count * 1000) / (performance.now() - begin))} a second`;
  };
  const run = async () => {
    if (isRunning) return void (isRunning = false);
    isRunning = true;
    go.textContent = "Stop";
    problem.textContent = "";
    shown.textContent = prompt.value;
    try {
      await extend(prompt.value ? [...page.mark, ...encode(prompt.value)] : [...start]);
    } catch (error) {
      problem.textContent = error.message;
    }
    isRunning = false;
    go.textContent = "Generate";
  };
  const go = button("Generate", run);
  section("Generate", field("The text so far", prompt), element("div", { class: "fields" },
    field("Tokens", length), field("Seed", seed), ...sampling.map(([name, input]) => field(name.replace("generate.", ""), input))),
    element("div", { class: "row" }, go), problem, shown, speed);
  const target = STEP_INPUTS.find((item) => item.name !== input);
  if (STEP_INPUTS.length === 2 && target.bytes_per_row === 4 * most) trainingOnText(encode, target);
}

/* Training on windows of a text, each token of which is to be told from those before. */
function trainingOnText(encode, target) {
  const { input, window: most } = page;
  const text = element("textarea", { "aria-label": "A text to train on", placeholder: `At least ${most + 1} tokens` });
  new Training("Train on a text", () => {
    const sequence = encode(text.value);
    if (sequence.length <= most) throw new Error(`a text of at least ${most + 1} tokens, not ${sequence.length}`);
    const rows = Array.from({ length: 8 }, () => Math.floor(Math.random() * (sequence.length - most)));
    return {
      [input]: rows.flatMap((row) => sequence.slice(row, row + most)),
      [target.name]: rows.flatMap((row) => sequence.slice(row + 1, row + most + 1)),
    };
  }, text);
}

/* Updates with batches that `batch` gives, until they are stopped: the loss as a curve, settings, and a way back. */
class Training {
  constructor(title, batch, ...above) {
    this.batch = batch;
    this.losses = [];
    this.updates = 0;
    this.isRunning = false;
    this.line = svg("polyline");
    this.said = element("p", { role: "status", class: "soft" }, "No update was made.");
    this.problem = element("p", { role: "alert" });
    this.go = button("Train", () => this.turn());
    this.settings = STEP.settings.map(({ name, usual }) => [name, element("input", { type: "number", step: "any", value: String(usual) })]);
    const curve = svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" });
    curve.append(this.line);
    const buttons = [...(batch ? [this.go] : []), button("Start anew", () => this.reset()), button("Save the weights", keep)];
    const fields = element("div", { class: "fields" }, ...this.settings.map(([name, input]) => field(name, input)));
    section(title, ...above, element("div", { class: "row" }, ...buttons), this.problem, curve, this.said,
      ...(this.settings.length ? [element("details", {}, element("summary", {}, "Settings"), fields)] : []));
  }

  /* So many updates from the same rows. */
  several(given, times) {
    this.guarded(() => {
      let found;
      for (let n = 0; n < times; n++) found = this.step(given);
      this.show(found);
    });
  }

  step(given) {
    const filled = this.settings.filter(([, input]) => input.value !== "");
    const chosen = Object.fromEntries(filled.map(([name, input]) => [name, Number(input.value)]));
    // a schedule that has come to its end begins again
    if (this.updates && chosen.total_steps > 0 && this.updates % Math.ceil(chosen.total_steps) === 0) model.continue(0, 0);
    const found = model.step(given, chosen);
    this.losses = [...this.losses.slice(1 - SHOWN_LOSSES), Number(found[STEP.outputs[0].name][0])];
    this.updates += 1;
    return found;
  }

  show(found) {
    const { losses } = this;
    const top = Math.max(...losses.filter(Number.isFinite), 1e-9);
    const points = losses.map((y, x) => `${(100 * x) / Math.max(1, losses.length - 1)},${40 - (38 * y) / top}`);
    this.line.setAttribute("points", points.join(" "));
    const values = STEP.outputs.map((item) => `${item.name} ${rounded(found[item.name][0])}`);
    this.said.textContent = `${this.updates} updates: ${values.join(", ")}`;
    refresh();
  }

  guarded(act) {
    this.problem.textContent = "";
    try {
      act();
    } catch (error) {
      this.problem.textContent = error.message;
      this.isRunning = false;
    }
  }

  frame() {
    if (!this.isRunning) return void (this.go.textContent = "Train");
    const begin = performance.now();
    this.guarded(() => {
      let found;
      do found = this.step(this.batch());
      while (performance.now() - begin < FRAME);
      this.show(found);
    });
    setTimeout(() => this.frame());
  }

  turn() {
    this.isRunning = !this.isRunning;
    this.go.textContent = this.isRunning ? "Stop" : "Train";
    if (this.isRunning) this.frame();
  }

  async reset() {
    this.isRunning = false;
    model = await loaded();
    this.updates = 0;
    this.losses = [];
    this.line.setAttribute("points", "");
    this.said.textContent = "The weights are those of the file.";
    refresh();
  }
}

/* The weights as a file of the user's. */
function keep() {
  const place = URL.createObjectURL(new Blob([model.save()]));
  element("a", { href: place, download: "weights.safetensors" }).click();
  setTimeout(() => URL.revokeObjectURL(place), 1000);
}

/* Random rows of the page's data. */
const someRows = () => {
  const count = Math.min(model.rows, EXAMPLES);
  const numbers = Array.from({ length: count }, () => Math.floor(Math.random() * EXAMPLES));
  return rowsOf(STEP_INPUTS, numbers);
};

/* Drawings with their classes, on which the model is trained at once. */
function teaching(drawing) {
  const pictures = [];
  const classes = [];
  const label = element("select", { "aria-label": "What it is" },
    ...page.names.map((name, n) => element("option", { value: String(n) }, name)));
  const taught = element("span", { class: "soft" }, "No drawing was taught.");
  const teach = button("Teach this drawing", () => {
    pictures.unshift(drawing.values());
    classes.unshift(Number(label.value));
    pictures.splice(model.rows);
    classes.splice(model.rows);
    trainer.several({ [page.input]: pictures.flat(), [page.target]: classes }, 5);
    taught.textContent = `${pictures.length} drawing${pictures.length > 1 ? "s" : ""}, five updates at a time.`;
  });
  const trainer = new Training("Train", HAS_ROWS ? someRows : null,
    element("p", {}, HAS_ROWS ? `On ${EXAMPLES} rows of the data, or on what you draw.` : "On what you draw."),
    element("div", { class: "row" }, "It is", label, teach), taught);
}

async function begin() {
  try {
    model = await loaded();
    for (const [name, [dtype, text]] of Object.entries(data.rows)) {
      examples[name] = new ARRAYS[dtype]((await unpacked(text)).buffer);
    }
  } catch (error) {
    return say(`This browser cannot run the model: ${error.message}`);
  }
  say(`${page.about} ${model.isFast ? "" : "This browser has no fused multiply-adds in WebAssembly, so a slower module computes them: the same bits. "}Everything happens in this page; nothing is sent.`);
  if (page.kind === "image") {
    const drawing = new Drawing();
    if (page.target && STEP_INPUTS.length === 2) return teaching(drawing);
  } else if (page.kind === "text") return writing();
  else form();
  if (HAS_ROWS) new Training("Train", someRows, element("p", {}, `On ${EXAMPLES} rows of the data.`));
}

begin();
