// Calls a model that was exported for the web: calls as JSON on standard input, answers on standard output.
// Arrays are [type, base64]; `module` is a file in place of the fast module. An error is an answer with its text.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const given = JSON.parse(await readFile("/dev/stdin", "utf8"));
const types = {
  f32: Float32Array, f64: Float64Array, i64: BigInt64Array, i32: Int32Array, i16: Int16Array, i8: Int8Array,
  u64: BigUint64Array, u32: Uint32Array, u16: Uint16Array, u8: Uint8Array,
};

function read(value) {
  const [type, text] = value;
  return type in types ? new types[type](new Uint8Array(Buffer.from(text, "base64")).buffer) : text;
}

function written(value) {
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  if (value === undefined || value === null || typeof value !== "object") return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, written(item)]));
}

const { load } = await import(pathToFileURL(`${given.folder}/model.js`));
const files = { rows: given.rows };
if (given.module) files.module = await readFile(given.module);
const model = await load(files);
const answers = [{ isFast: model.isFast }];
let last;
for (const [name, ...values] of given.calls) {
  try {
    const operands = values.map((value) => {
      if (value === "last") return last;
      if (Array.isArray(value)) return read(value);
      if (typeof value !== "object") return value;
      return Object.fromEntries(Object.entries(value).map(([key, x]) => [key, Array.isArray(x) ? read(x) : x]));
    });
    last = model[name](...operands);
    answers.push(written(last));
  } catch (error) {
    answers.push({ error: `${error.name}: ${error.message}` });
  }
}
process.stdout.write(JSON.stringify(answers));
