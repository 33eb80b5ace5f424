// Data as `packing` writes it: deflated JSON, and the code of kernels as forms of lines and columns of integers.

const HOLE = "\0"; // a number in the form of a line

async function inflated(text) {
  const packed = Uint8Array.from(atob(text), (mark) => mark.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export async function unpackedJson(text) {
  return JSON.parse(new TextDecoder().decode(await inflated(text)));
}

async function integers(text) {
  const found = [];
  let value = 0;
  let place = 1;
  for (const byte of await inflated(text)) {
    value += (byte & 127) * place;
    place *= 128;
    if (byte < 128) {
      found.push(value % 2 ? -(value + 1) / 2 : value / 2);
      value = 0;
      place = 1;
    }
  }
  return found;
}

// The code of kernels; a stage is unpacked when it is first asked for.
export class PackedCode {
  constructor(packed) {
    this.packed = packed;
    this.stages = new Map();
  }

  // A kernel's lines in a stage, with what each comes from.
  async code(symbol, stage) {
    if (!this.stages.has(stage)) this.stages.set(stage, columnsOf(this.packed[stage]));
    return kernelAt(await this.stages.get(stage), this.packed.symbols.indexOf(symbol));
  }
}

async function columnsOf(packed) {
  const names = ["sizes", "chosen", "numbers", "statements", "origins", "offsets"];
  const found = { offset: packed.offset };
  for (const name of names) found[name] = await integers(packed[name]);
  found.forms = (await unpackedJson(packed.forms)).map((form) => form.split(HOLE));
  found.labels = await unpackedJson(packed.labels);
  return found;
}

function kernelAt(columns, kernel) {
  let [line, number] = [0, 0];
  for (let k = 0; k < kernel; k++) {
    line += columns.sizes[2 * k];
    number += columns.sizes[2 * k + 1];
  }
  const end = line + columns.sizes[2 * kernel];
  const code = { text: linesOf(columns, line, end, number).join("\n"), statements: summed(columns.statements, line, end), origins: summed(columns.origins, line, end) };
  if (columns.offset) code.offsets = summed(columns.offsets, line, end).map((offset) => (offset < 0 ? null : offset));
  if (columns.labels[kernel]) code.labels = columns.labels[kernel];
  return code;
}

function linesOf(columns, begin, end, number) {
  const before = new Map();
  const lines = [];
  for (let n = begin; n < end; n++) {
    const form = columns.forms[columns.chosen[n]];
    const last = before.get(form);
    const own = form.slice(1).map((_, k) => columns.numbers[number + k] + (last ? last[k] : 0));
    before.set(form, own);
    number += own.length;
    lines.push(form.map((text, k) => (k ? own[k - 1] + text : text)).join(""));
  }
  return lines;
}

function summed(differences, begin, end) {
  let value = 0;
  return differences.slice(begin, end).map((difference) => (value += difference));
}
