// The code of kernels: taken from the page or from its server, and shown with the lines it came from.
import { h } from "./dom.js";

const known = new Map();

// A stage of a kernel by its symbol.
export function codeOf(symbol, stage, source) {
  const key = `${stage} ${symbol}`;
  if (!known.has(key)) known.set(key, source(symbol, stage).catch((error) => { known.delete(key); throw error; }));
  return known.get(key);
}

export function forgetCode() {
  known.clear();
}

const WORDS = {
  loops: /(#.*$)|\b(for|if|else|in|parallel|fn|pack|store|load|fma|guard|where)\b|(\b\d[\w.]*\b)/g,
  llvm: /(;.*$|, ![\w ]+![0-9]+$)|\b(define|ret|br|label|load|store|getelementptr|phi|fmul|fadd|call|icmp|add|mul|sub|select|void|ptr|i64|i32|i8|i1|float|double)\b|(\b\d[\w.]*\b)|([%@][\w.]+)/g,
  asm: /(#.*$)|^(\w+)|(\$?-?\b0?x?\d[\w]*\b)|(%\w+|\b[xyz]mm\d+\b|\bk\d\b)/g,
};

export function inked(text, stage) {
  const found = [];
  let place = 0;
  for (const match of text.matchAll(WORDS[stage] ?? WORDS.loops)) {
    const kind = match.slice(1).findIndex((part) => part !== undefined) + 1;
    if (!kind) continue;
    if (match.index > place) found.push(text.slice(place, match.index));
    found.push(h("span", { class: `k${kind}` }, match[0]));
    place = match.index + match[0].length;
  }
  found.push(text.slice(place));
  return found;
}

// The lines of a stage: own ones marked, and others left out where `onlyOwn`.
export function listingOf(model, kernel, code, stage, isOwn, onlyOwn, go) {
  const lines = code.text.split("\n");
  const own = code.origins.map((set) => isOwn[set]);
  const shown = onlyOwn ? withLoops(lines, own, stage) : lines.map(() => true);
  const listing = h("div", { class: "listing" });
  let before = "";
  let cut = 0;
  lines.forEach((text, n) => {
    if (!shown[n]) {
      cut += 1;
      return;
    }
    if (cut) listing.append(h("div", { class: "cut" }, `… ${cut} ${cut === 1 ? "line" : "lines"}`));
    cut = 0;
    const statement = code.origins[n] && code.statements[n] > 1 ? (kernel.statements[code.statements[n] - 1] ?? "").trim() : "";
    for (const label of code.labels?.[n] ?? []) listing.append(plainRow("", `${label}:`, "k2"));
    if (statement && statement !== before) listing.append(plainRow("", `${indentOf(text)}${stage === "llvm" ? ";" : "#"} ${statement}`, "s"));
    before = statement || before;
    listing.append(codeRow(model, text, code, n, stage, own[n], go));
  });
  if (cut) listing.append(h("div", { class: "cut" }, `… ${cut} lines`));
  return listing;
}

function codeRow(model, text, code, n, stage, isOwn, go) {
  const lines = model.linesOf(code.origins[n]);
  const margin = lines.map(([, line, direction]) => `${line}${direction[0]}`);
  const said = margin.length > 3 ? `${margin.slice(0, 2).join(" ")} +${margin.length - 2}` : margin.join(" ");
  const offset = code.offsets?.[n];
  const shown = stage === "asm" ? text.replace("\t", " ".repeat(Math.max(1, 13 - text.indexOf("\t")))) : text;
  const front = stage === "asm" ? [h("span", { class: "m" }, `${offset === null || offset === undefined ? "" : offset.toString(16)}  `.padStart(7))] : [];
  const title = lines.map(([file, line, direction]) => `${model.files[file].name}:${line} ${direction}`).join("\n");
  return h("div", { class: `l${isOwn ? " own" : ""}${lines.length ? " goes" : ""}`, title, onclick: lines.length ? () => go(...nextPlace(lines)) : null },
    h("span", { class: "m" }, said), h("span", {}, ...front, ...inked(shown, stage)));
}

// An instruction of several lines goes to the next of them, each time it is chosen.
let placeNumber = 0;
function nextPlace(lines) {
  const [file, line] = lines[placeNumber++ % lines.length];
  return [file, line];
}

const plainRow = (margin, text, kind) => h("div", { class: "l" }, h("span", { class: "m" }, margin), h("span", { class: kind }, text));
const indentOf = (text) => text.slice(0, text.length - text.trimStart().length).replaceAll("\t", " ");

// What is chosen, and in nests what begins a block around it.
function withLoops(lines, own, stage) {
  if (stage !== "loops") return own;
  const shown = new Array(lines.length).fill(false);
  let depth = 0;
  for (let n = lines.length - 1; n >= 0; n--) {
    const here = lines[n].length - lines[n].trimStart().length;
    shown[n] = own[n] || (lines[n].endsWith(":") && here < depth);
    if (shown[n]) depth = here;
  }
  return shown;
}
