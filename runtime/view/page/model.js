// The document of a model, with what a page asks of it: the figures of a line, and what came from it.

export const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

export class Model {
  constructor(data) {
    this.data = data;
    this.files = data.sources.map((source) => ({ name: source.name, lines: source.text.split("\n") }));
    for (const file of this.files) if (file.lines.at(-1) === "") file.lines.pop();
    this.figures = new Map((data.lines ?? []).map((row) => [`${row.file}:${row.line}`, row]));
    this.bindings = grouped(data.bindings ?? [], (binding) => `${binding.file}:${binding.line}`);
    this.called = new Map((data.documents?.called ?? []).map(([file, line, ...names]) => [`${file}:${line}`, names]));
    this.colours = data.sources.map((source) => coloursOf(source.colours));
    this.findings = grouped(data.findings ?? [], (finding) => `${this.fileOf(finding.file)}:${finding.line}`);
    this.lessons = grouped(data.lessons ?? [], (lesson) => `${lesson.file}:${lesson.line}`);
    this.takeProfile(data.profile);
  }

  takeProfile(profile) {
    this.profile = profile ?? null;
    const rows = profile ? profile.lines : [];
    this.times = new Map(rows.map((row) => [`${this.fileOf(row.file)}:${row.line}`, [row.forward_ms, row.backward_ms, row.update_ms]]));
    this.kernelTimes = new Map((profile ? profile.kernels : []).map((row) => [row.symbol, row]));
    this.step = profile ? profile.step_ms : 0;
    const found = profile ? [...this.times.values()] : [...this.figures.values()].map((row) => row.flops);
    this.most = Math.max(0, ...found.map(sum));
    this.total = profile ? profile.step_ms : sum(found.map(sum));
  }

  fileOf(name) {
    return this.files.findIndex((file) => file.name === name);
  }

  // The cost of a line as it is drawn: time where it was measured, else operations; by direction.
  cost(file, line) {
    const key = `${file}:${line}`;
    return (this.profile ? this.times.get(key) : this.figures.get(key)?.flops) ?? [0, 0, 0];
  }

  // The time of a step that no line of the shown files has.
  rest() {
    return this.step - sum([...this.times].filter(([place]) => !place.startsWith("-1:")).map(([, time]) => sum(time)));
  }

  names(file, line) {
    return this.bindings.get(`${file}:${line}`) ?? [];
  }

  // The types that stand beside a line: those of the names it binds, in order, else of what it computes.
  shape(file, line) {
    const all = this.names(file, line);
    const names = all.filter(({ name }) => name);
    return all.length ? (names.length ? names : all).map(shapeOf).join(", ") : (this.figures.get(`${file}:${line}`)?.type ?? "");
  }

  // The share of the step that the layers of a box take, where it was measured.
  shareOf(level) {
    const paths = level.paths.filter(Boolean);
    const own = (this.profile?.layers ?? []).filter((row) => paths.some((path) => row.path === path || row.path.startsWith(`${path}.`)));
    return sum(own.map((row) => row.forward_ms + row.backward_ms + row.update_ms)) / (this.step || 1);
  }

  hasPlace(origin, file, line) {
    return origin.places.some(([f, first, last]) => f === file && first <= line && line <= last);
  }

  // Which sets of origins lead to a line, as `dlc show FILE:LINE` chooses.
  setsOf(file, line) {
    const own = this.data.origins.all.map((origin) => this.hasPlace(origin, file, line));
    return this.data.origins.sets.map((members) => members.some((number) => own[number]));
  }

  // The lines that a set of origins comes from, innermost places: [file, line, direction].
  linesOf(set) {
    const found = new Map();
    for (const number of this.data.origins.sets[set] ?? []) {
      const { at, direction } = this.data.origins.all[number];
      if (at) found.set(`${at[0]}:${at[1]}:${direction}`, [at[0], at[1], direction]);
    }
    return [...found.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  }
}

// From round to round of a loop.
function shapeOf({ rounds }) {
  const [first, last] = [rounds[0].shape, rounds.at(-1).shape];
  if (rounds.some(({ shape }) => shape !== first)) return `${first} … ${last}`;
  const times = sum(rounds.map(({ count }) => count));
  return times > 1 ? `${first} × ${times}` : first;
}

export function coloursOf(numbers) {
  const found = new Map();
  for (let n = 0; n < numbers.length; n += 4) {
    const [line, column, length, kind] = numbers.slice(n, n + 4);
    if (!found.has(line)) found.set(line, []);
    found.get(line).push([column - 1, length, kind]);
  }
  return found;
}

export function grouped(items, keyOf) {
  const found = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(item);
  }
  return found;
}

