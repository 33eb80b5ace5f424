// Opens a page in Chromium and evaluates expressions in it, one after the other; their values are printed as JSON.
// Standard input: {browser, page, profile, expressions}. The first value is what the console said of errors.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";

const given = JSON.parse(await readFile("/dev/stdin", "utf8"));
const options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${given.profile}`];
const browser = spawn(given.browser, [...options, "about:blank"], { stdio: "ignore" });
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

try {
  const file = `${given.profile}/DevToolsActivePort`;
  for (let n = 0; n < 300 && !existsSync(file); n++) await pause(100);
  await pause(100);
  const port = (await readFile(file, "utf8")).split("\n")[0];
  const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  const socket = new WebSocket(pages.find((page) => page.type === "page").webSocketDebuggerUrl);
  await new Promise((done) => socket.addEventListener("open", done));
  const waiting = new Map();
  const errors = [];
  let loaded;
  const ready = new Promise((done) => (loaded = done));
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message.id) waiting.get(message.id)(message.result ?? { error: message.error.message });
    if (message.method === "Page.loadEventFired") loaded();
    if (message.method === "Runtime.exceptionThrown") errors.push(message.params.exceptionDetails.exception?.description ?? "");
    if (message.method === "Log.entryAdded" && message.params.entry.level === "error") errors.push(message.params.entry.text);
  });
  let number = 0;
  const send = (method, params = {}) => new Promise((done) => {
    waiting.set(++number, done);
    socket.send(JSON.stringify({ id: number, method, params }));
  });
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  await send("Page.navigate", { url: given.page });
  await ready;
  const values = [];
  for (const expression of given.expressions) {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    values.push(exceptionDetails ? { error: exceptionDetails.exception?.description } : result.value ?? null);
  }
  process.stdout.write(JSON.stringify([errors, ...values]));
} finally {
  browser.kill();
}
process.exit(0);
