/* Runs a model that dlc compiled to WebAssembly: predictions, and training steps where it was exported with them.
 *
 *     import { load } from "./model.js";
 *     const model = await load();
 *     const outputs = model.predict({ pixels: new Float32Array(64) });
 *
 * Its numbers are those of `dlc predict` and `dlc train`, to the bit, in every engine.
 */

const ALIGNMENT = 64;
const ARRAYS = {
  f32: Float32Array, f64: Float64Array, i64: BigInt64Array, i32: Int32Array, i16: Int16Array, i8: Int8Array,
  u64: BigUint64Array, u32: Uint32Array, u16: Uint16Array, u8: Uint8Array, bool: Uint8Array,
  f16: Float32Array, // not every engine has an array of f16, so its numbers are given and taken as others
};
const sizeOf = (dtype) => (dtype === "f16" ? 2 : ARRAYS[dtype].BYTES_PER_ELEMENT);

/* The bits of a number as f16, rounded once to the nearest, the even one of two that are equally near. */
function halfOf(number) {
  const size = Math.abs(number);
  const sign = number < 0 || Object.is(number, -0) ? 0x8000 : 0;
  if (Number.isNaN(number)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  let power = -14;
  while (size >= 2 ** (power + 1)) power++;
  const steps = size * 2 ** (10 - power); // exact, below 2048
  const whole = Math.floor(steps);
  const isUp = steps - whole > 0.5 || (steps - whole === 0.5 && whole % 2 === 1);
  return sign | ((power + 14) * 1024 + whole + isUp);
}

function numberOf(half) {
  const [field, rest] = [(half >> 10) & 31, half & 1023];
  const size = field === 31 ? (rest ? NaN : Infinity) : field ? (1024 + rest) * 2 ** (field - 25) : rest * 2 ** -24;
  return half & 0x8000 ? -size : size;
}

/* An array as it lies in the memory of the model, and back. */
const stored = (dtype, array) => (dtype === "f16" ? Uint16Array.from(array, halfOf) : array);
function taken(dtype, buffer, place, size) {
  if (dtype === "f16") return Float32Array.from(new Uint16Array(buffer, place, size), numberOf);
  return new ARRAYS[dtype](buffer, place, size).slice();
}

/* The files beside this one, unless they are given: `manifest` parsed, `module`, `slow` and `weights` as bytes. */
export async function load({ manifest, module, slow, weights, rows = 32 } = {}) {
  const description = manifest ?? JSON.parse(new TextDecoder().decode(await beside("manifest.json")));
  const [instance, isFast] = await fused(module ?? (await beside("model.wasm")), slow);
  return new Model(description, instance, weights ?? (await beside("weights.safetensors")), rows, isFast);
}

async function beside(name) {
  const place = new URL(name, import.meta.url);
  if (place.protocol === "file:" && globalThis.process?.versions?.node) {
    return (await import("node:fs/promises")).readFile(place);
  }
  const answer = await fetch(place);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/* An instance whose multiply-adds are rounded once, and whether it is the fast one, which needs relaxed SIMD. */
async function fused(fast, slow) {
  if (WebAssembly.validate(fast)) {
    const { instance } = await WebAssembly.instantiate(fast);
    if (roundsOnce(instance.exports)) return [instance, true];
  }
  const { instance } = await WebAssembly.instantiate(slow ?? (await beside("model-simd128.wasm")));
  if (!roundsOnce(instance.exports)) throw new Error("this engine computes multiply-adds with other bits");
  return [instance, false];
}

/* (1 + e)² - (1 + 2e) is e² where the product is not rounded before the difference. */
function roundsOnce(exports) {
  const isOnce = (multiplyAdd, e) => multiplyAdd(1 + e, 1 + e, -(1 + 2 * e)) === e * e;
  return isOnce(exports.model_multiply_add_f32, 2 ** -12) && isOnce(exports.model_multiply_add_f64, 2 ** -27);
}

/* A model in memory of its own, for calls of up to `rows` rows. Names are those of the model's text. */
export class Model {
  #exports;
  #end; // where the memory that is not yet given away begins
  #memory;
  #arrays = new Map();

  constructor(manifest, instance, weights, rows, isFast) {
    this.manifest = manifest;
    this.rows = rows;
    this.isFast = isFast;
    this.#exports = instance.exports;
    this.#end = this.#exports.__heap_base.value;
    this.#place(weights);
    const size = this.#exports.model_memory(BigInt(rows));
    if (size === 0n) throw new RangeError(`a call cannot have ${rows} rows`);
    this.#memory = this.#room(Number(size));
    this.#check(this.#exports.model_init_abi(BigInt(manifest.abi), this.#memory, size, BigInt(rows)));
  }

  /* Every output by its name, for any number of rows. */
  predict(inputs) {
    const described = this.manifest.functions.model_predict;
    const [given, rows] = checked(described.inputs, inputs);
    const parts = [];
    for (let first = 0; first < rows; first += this.rows) {
      const count = Math.min(this.rows, rows - first);
      parts.push(this.#call("predict", given, first, count));
    }
    return Object.fromEntries(described.outputs.map((item) => [
      item.name, item.rows ? joined(ARRAYS[item.dtype], parts.map((part) => part[item.name])) : parts.at(-1)[item.name],
    ]));
  }

  /* One update of the weights from at most `this.rows` rows; `settings` in place of those of the text, such as the rate. */
  step(inputs, settings = {}) {
    return this.#batch("step", inputs, settings);
  }

  /* The loss and the metrics of at most `this.rows` rows, as at the end of an epoch. */
  evaluate(inputs, settings = {}) {
    return this.#batch("evaluate", inputs, settings);
  }

  /* A copy of a tensor; undefined where there is none of this name. */
  tensor(name) {
    const found = this.manifest.tensors.find((tensor) => tensor.name === name);
    if (!found) return undefined;
    const text = new TextEncoder().encode(`${name}\0`);
    const place = this.#exports.model_tensor(this.#memory, this.#given("name", text), 0);
    const size = found.shape.reduce((product, extent) => product * extent, 1);
    return taken(found.dtype, this.#buffer, place, size);
  }

  /* All tensors as a safetensors file, with the states of the optimizer. */
  save() {
    const size = this.manifest.file_bytes;
    const file = this.#reserved("file", size);
    this.#check(this.#training("model_save")(this.#memory, file, BigInt(size)));
    return new Uint8Array(this.#buffer, file, size).slice();
  }

  /* The tensors of a file that `save` or the library of C wrote. */
  load(bytes) {
    const loads = this.#training("model_load");
    this.#check(loads(this.#memory, this.#given("file", bytes), BigInt(bytes.length)));
  }

  /* Go on as after so many updates, with the random numbers of a seed. */
  continue(seed, updates) {
    this.#check(this.#training("model_continue")(this.#memory, BigInt(seed), BigInt(updates)));
  }

  /* The token that follows a sequence, as `dlc generate` chooses it with this seed.
   * It is quick where the sequence is that of the call before and one token more. */
  next(tokens, seed = 0, settings = {}) {
    const described = this.manifest.functions.model_generate_next;
    if (!described) throw new Error("this model extends no sequence");
    expectKnown(described, settings);
    const array = typed(described.inputs[0], tokens); // of integers
    const given = described.settings.length ? [this.#given("sampling", packed(described.settings, settings))] : [];
    this.#reserved("sequence", 2 ** Math.ceil(Math.log2(array.byteLength + 1))); // grows seldom
    const place = this.#given("sequence", array);
    const [{ dtype, bytes }] = described.outputs;
    const token = this.#reserved("token", bytes);
    const choose = this.#exports.model_generate_next;
    this.#check(choose(this.#memory, ...given, BigInt(seed), place, BigInt(array.length), token));
    return Number(new ARRAYS[dtype](this.#buffer, token, 1)[0]);
  }

  #batch(name, inputs, settings) {
    const described = this.manifest.functions[`model_${name}`];
    if (!described) throw new Error("this model was exported without --training");
    expectKnown(described, settings);
    const [given, rows] = checked(described.inputs, inputs);
    if (rows > this.rows) throw new RangeError(`a call has at most ${this.rows} rows, not ${rows}`);
    return this.#call(name, given, 0, rows, settings);
  }

  get #buffer() {
    return this.#exports.memory.buffer; // which is another one after the memory has grown
  }

  #training(name) {
    if (!this.#exports[name]) throw new Error("this model was exported without --training");
    return this.#exports[name];
  }

  #check(code) {
    if (code) throw new Error(this.manifest.errors[code]?.text ?? `error ${code}`);
  }

  /* Each tensor of a safetensors file at its place among the constant weights. */
  #place(file) {
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const length = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
    const memory = new Uint8Array(this.#buffer, this.#exports.model_weights.value);
    for (const { name, dtype, shape, place } of this.manifest.tensors) {
      const found = header[name];
      if (found?.dtype.toLowerCase() !== dtype || String(found.shape) !== String(shape)) {
        throw new Error(`the weights have no tensor ${name} of ${dtype}[${shape}]`);
      }
      memory.set(file.subarray(8 + length + found.data_offsets[0], 8 + length + found.data_offsets[1]), place);
    }
  }

  #room(size) {
    const place = Math.ceil(this.#end / ALIGNMENT) * ALIGNMENT;
    this.#end = place + size;
    const missing = this.#end - this.#buffer.byteLength;
    if (missing > 0) this.#exports.memory.grow(Math.ceil(missing / 65536));
    return place;
  }

  /* Memory that is kept for the next call of the same kind. */
  #reserved(kind, size) {
    const known = this.#arrays.get(kind);
    if (known && known.size >= size) return known.place;
    const place = this.#room(size);
    this.#arrays.set(kind, { place, size });
    return place;
  }

  #given(kind, array) {
    const place = this.#reserved(kind, array.byteLength);
    new Uint8Array(this.#buffer).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), place);
    return place;
  }

  #call(name, given, first, rows, settings) {
    const described = this.manifest.functions[`model_${name}`];
    const places = [];
    if (described.settings.length) places.push(this.#given(`${name} settings`, packed(described.settings, settings)));
    for (const [item, array] of given) {
      const size = item.rows ? item.bytes_per_row / sizeOf(item.dtype) : 0;
      const part = item.rows ? array.subarray(first * size, (first + rows) * size) : array;
      places.push(this.#given(`${name} ${item.identifier}`, stored(item.dtype, part)));
    }
    const sizes = described.outputs.map((item) => (item.rows ? item.bytes_per_row * rows : item.bytes));
    const made = described.outputs.map((item, n) => this.#reserved(`${name} ${item.identifier}`, sizes[n]));
    this.#check(this.#exports[`model_${name}`](this.#memory, BigInt(rows), ...places, ...made));
    return Object.fromEntries(described.outputs.map((item, n) => (
      [item.name, taken(item.dtype, this.#buffer, made[n], sizes[n] / sizeOf(item.dtype))]
    )));
  }
}

function expectKnown(described, settings) {
  const unknown = Object.keys(settings).find((given) => !described.settings.some((known) => known.name === given));
  if (unknown !== undefined) throw new TypeError(`there is no setting ${unknown}`);
}

/* The inputs as typed arrays in the order of a function, and their number of rows. */
function checked(items, inputs = {}) {
  const names = items.map((item) => item.name);
  const given = Object.keys(inputs);
  if (given.length !== names.length || !names.every((name) => Object.hasOwn(inputs, name))) {
    throw new TypeError(`the inputs are ${names.join(", ")}, not ${given.join(", ") || "none"}`);
  }
  let rows;
  const arrays = items.map((item) => {
    const array = typed(item, inputs[item.name]);
    const size = (item.rows ? item.bytes_per_row : item.bytes) / sizeOf(item.dtype);
    const own = array.length / size;
    if (item.rows ? !Number.isInteger(own) || own < 1 : own !== 1) {
      throw new RangeError(`${item.name} has ${size} numbers${item.rows ? " a row" : ""}, not ${array.length}`);
    }
    if (item.rows) {
      rows ??= own;
      if (own !== rows) throw new RangeError(`${item.name} has ${own} rows, not ${rows}`);
    }
    return [item, array];
  });
  return [arrays, rows ?? 1];
}

/* An array, or nested ones, as the type of an input, in its range. */
function typed(item, value) {
  const type = item.dtype === "f16" && !(value instanceof Float32Array) ? Float64Array : ARRAYS[item.dtype];
  let array = value;
  if (!(value instanceof type)) {
    const flat = Array.isArray(value) ? value.flat(Infinity) : Array.from(value ?? [null]);
    if (!flat.every((x) => ["number", "bigint", "boolean"].includes(typeof x))) {
      throw new TypeError(`${item.name} holds numbers`);
    }
    if (!item.dtype.startsWith("f") && !flat.every((x) => typeof x === "bigint" || Number.isInteger(Number(x)))) {
      throw new TypeError(`${item.name} holds integers`);
    }
    array = type === BigInt64Array || type === BigUint64Array ? type.from(flat, BigInt) : type.from(flat, Number);
    if (!item.dtype.startsWith("f") && flat.some((x, n) => BigInt(x) !== BigInt(array[n]))) {
      throw new RangeError(`${item.name} is of ${item.dtype}, which does not hold all of these numbers`);
    }
  }
  if (item.dtype === "f16" && array.some((x) => Number.isFinite(x) && Math.abs(x) >= 65520)) {
    throw new RangeError(`${item.name} is of f16, which does not hold all of these numbers`);
  }
  if (item.dtype === "bool" && array.some((x) => x > 1)) throw new RangeError(`${item.name} is 0 or 1`);
  if (item.low !== null && array.some((x) => x < item.low || x >= item.high)) {
    throw new RangeError(`${item.name} is in ${item.low}..${item.high}`);
  }
  return array;
}

/* Settings as the struct of a function, each at a multiple of its size. */
function packed(described, settings = {}) {
  const view = new DataView(new ArrayBuffer(8 * described.length));
  let place = 0;
  for (const { name, dtype, usual } of described) {
    const size = ARRAYS[dtype].BYTES_PER_ELEMENT;
    place = Math.ceil(place / size) * size;
    view[size === 8 ? "setFloat64" : "setFloat32"](place, Number(settings[name] ?? usual), true);
    place += size;
  }
  return new Uint8Array(view.buffer);
}

function joined(type, parts) {
  if (parts.length === 1) return parts[0];
  const whole = new type(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
