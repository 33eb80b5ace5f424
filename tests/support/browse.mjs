// Opens a page in Chromium or in Firefox and evaluates expressions in it, one after the other; their values are printed
// as JSON. Standard input: {browser, isFirefox, page, profile, expressions}. The first value is what the console said of
// errors. Chromium speaks the DevTools protocol, Firefox WebDriver BiDi (https://w3c.github.io/webdriver-bidi/).
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";

const given = JSON.parse(await readFile("/dev/stdin", "utf8"));
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const errors = [];

/* The content of a file that the browser writes when it listens. */
async function written(name) {
  const file = `${given.profile}/${name}`;
  for (let n = 0; n < 600 && !existsSync(file); n++) await pause(100);
  await pause(100);
  return readFile(file, "utf8");
}

/* A function that sends a command and gives its result; events are given to `heard`. */
async function connected(address, heard) {
  const socket = new WebSocket(address);
  await new Promise((done) => socket.addEventListener("open", done));
  const waiting = new Map();
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (waiting.has(message.id)) waiting.get(message.id)(message);
    else heard(message.method, message.params);
  });
  let number = 0;
  return (method, params = {}) => new Promise((done) => {
    waiting.set(++number, (message) => done(message.result ?? { error: message.error.message ?? message.message }));
    socket.send(JSON.stringify({ id: number, method, params }));
  });
}

async function inChromium() {
  const port = (await written("DevToolsActivePort")).split("\n")[0];
  const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  let loaded;
  const ready = new Promise((done) => (loaded = done));
  const send = await connected(pages.find((page) => page.type === "page").webSocketDebuggerUrl, (method, params) => {
    if (method === "Page.loadEventFired") loaded();
    if (method === "Runtime.exceptionThrown") errors.push(params.exceptionDetails.exception?.description ?? "");
    if (method === "Log.entryAdded" && params.entry.level === "error") errors.push(params.entry.text);
  });
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  await send("Page.navigate", { url: given.page });
  await ready;
  return async (expression) => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    return exceptionDetails ? { error: exceptionDetails.exception?.description } : result.value ?? null;
  };
}

async function inFirefox() {
  const { ws_host: host, ws_port: port } = JSON.parse(await written("WebDriverBiDiServer.json"));
  const send = await connected(`ws://${host}:${port}/session`, (method, params) => {
    if (method === "log.entryAdded" && params.level === "error") errors.push(params.text);
  });
  await send("session.new", { capabilities: {} });
  await send("session.subscribe", { events: ["log.entryAdded"] });
  const { contexts: [{ context }] } = await send("browsingContext.getTree");
  await send("browsingContext.navigate", { context, url: given.page, wait: "complete" });
  return async (expression) => {
    const answer = await send("script.evaluate", { expression, awaitPromise: true, target: { context } });
    return answer.type === "success" ? plain(answer.result) : { error: answer.exceptionDetails?.text ?? answer.error };
  };
}

/* The value that BiDi describes. */
function plain({ type, value }) {
  if (type === "array") return value.map(plain);
  if (type === "object") return Object.fromEntries(value.map(([key, item]) => [key, plain(item)]));
  return value ?? null;
}

await mkdir(given.profile, { recursive: true });
const options = given.isFirefox
  ? ["--headless", "--no-remote", "--profile", given.profile, "--remote-debugging-port", "0"]
  : ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${given.profile}`];
const browser = spawn(given.browser, [...options, "about:blank"], { stdio: "ignore" });
try {
  const evaluate = await (given.isFirefox ? inFirefox() : inChromium());
  const values = [];
  for (const expression of given.expressions) values.push(await evaluate(expression));
  process.stdout.write(JSON.stringify([errors, ...values]));
} finally {
  browser.kill();
}
process.exit(0);
