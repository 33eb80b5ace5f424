// The page: which line, tab and view is shown, by pointer and keyboard; the address remembers it.
import { forgetCode } from "./code.js";
import { compareOf } from "./compare.js";
import { TABS, detailOf } from "./detail.js";
import { byId, h, harmless } from "./dom.js";
import { graphViewOf } from "./graph_view.js";
import { ledgerOf } from "./ledger.js";
import { Live } from "./live.js";
import { memoryOf } from "./memory.js";
import { Model } from "./model.js";
import { PackedCode, unpackedJson } from "./packed.js";
import { reportOf } from "./report.js";
import { runOf } from "./run.js";
import { Training } from "./training.js";
import { amount, bytes, duration, joined, operations } from "./units.js";

const VIEWS = ["Report", "Ledger", "Graph", "Memory", "Run", "Compare", "Live"];
const KEYS = [["j  k", "next and previous line"], ["← →", "previous and next tab"], ["1 … 8", "a tab"], ["Enter", "open what became of the line"], ["Esc", "close it"],
  ["g  m  l  r", "graph, memory, ledger, the report or the curves of a run"], ["c", "a run beside another one"], ["v", "the training as it goes (with a server)"], ["Space", "pause it, or let it go on"], ["/", "find"], ["n", "next found line"], ["t", "light or dark"], ["s", "lessons below their lines"], ["e", "edit the text (with a server)"],
  ["p", "measure a step (with a server)"], ["Tab  ← → ↑ ↓  Home  End", "go to a picture, a list or a curve, and through it"], ["?", "this help"]];

class App {
  constructor(data, code) {
    this.openBoxes = new Set();
    this.first = data.report ? "Report" : data.live?.is_training ? "Live" : "Ledger";
    this.view = this.first;
    this.tab = TABS[0];
    this.line = null;
    this.isLive = false;
    this.tabs = TABS;
    this.onlyOwn = true;
    this.found = [];
    this.codeSource = (symbol, stage) => code.code(symbol, stage);
    this.go = (file, line) => {
      this.show("Ledger");
      this.choose(file, line);
    };
    this.take(data, false);
  }

  take(data, isShown = true) {
    forgetCode();
    this.model = new Model(data);
    document.title = `${harmless(data.title)} – dlc`;
    this.name = data.name ?? this.name; // that of before, while a text has mistakes
    byId("title").textContent = harmless(this.name ?? data.title);
    byId("file").textContent = this.name ? harmless(data.title) : "";
    byId("figures").replaceChildren(...this.figures().map(([name, value]) => h("span", {}, `${name} `, h("b", {}, value))));
    byId("lines").replaceChildren(ledgerOf(this.model, (file, line) => this.choose(file, line), byId("ledger").classList.contains("editing")));
    byId("lessons").hidden = !data.lessons?.length;
    if (isShown) this.refresh();
  }

  figures() {
    const { data, profile } = this.model;
    const plan = data.plan;
    const found = plan ? [["parameters", joined(amount(plan.parameters))], ["forward", operations(plan.flops_forward)], ["step", operations(plan.flops_step)],
      ["memory", joined(bytes(plan.memory.peak_bytes))], ["batch", String(data.batch)]] : [];
    const lines = data.lines ?? [];
    const all = (of) => lines.reduce((sum, row) => sum + of(row), 0);
    if (!plan && lines.length) found.push(["parameters", joined(amount(all((row) => row.parameters)))], ["forward", operations(all((row) => row.flops_forward))],
      ["step", operations(all((row) => row.flops[0] + row.flops[1] + row.flops[2]))], ["batch", String(data.batch)]);
    if (profile) found.unshift([profile.mode === "train" ? "a step takes" : "a call takes", joined(duration(profile.step_ms))]);
    if (data.machine) found.push(["on", data.machine.name]);
    return found;
  }

  choose(file, line, opens = true) {
    this.line = { file, line };
    if (opens) this.isOpen = true;
    this.refresh();
    byId(`line-${file}-${line}`)?.scrollIntoView({ block: "nearest" });
  }

  show(view) {
    this.view = view;
    this.refresh();
  }

  refresh() {
    for (const button of byId("views").children) button.setAttribute("aria-selected", button.textContent === this.view);
    for (const view of VIEWS) byId(view.toLowerCase()).classList.toggle("shown", view === this.view);
    if (this.view === "Graph") byId("graph").replaceChildren(this.model.data.graph ? graphViewOf(this, this.model.data.graph) : h("p", { class: "body quiet" }, "A text with mistakes has no graph."));
    if (this.view === "Run" && this.model.data.run) byId("run").replaceChildren(runOf(this));
    if (this.view === "Live" && !this.training.root.isConnected) byId("live").replaceChildren(this.training.root);
    if (this.view === "Report" && !byId("report").firstChild) byId("report").replaceChildren(reportOf(this));
    if (this.view === "Compare") byId("compare").replaceChildren(compareOf(this));
    if (this.view === "Memory") byId("memory").replaceChildren(memoryOf(this));
    this.refreshLine();
    history.replaceState(null, "", `#${this.address()}`);
  }

  // A report and curves are of a run, a comparison is with another one, and a training is followed by a server.
  has(view) {
    const { report, run, comparison, live } = this.model.data;
    const needed = { Report: report, Run: run, Compare: comparison || live?.compares, Live: this.training };
    return !(view in needed) || Boolean(needed[view]);
  }

  address() {
    const parts = this.view === this.first ? [] : [`view=${this.view}`];
    if (this.line && this.isOpen) parts.push(`line=${this.line.file}:${this.line.line}`, `tab=${encodeURIComponent(this.tab)}`);
    return parts.join("&");
  }

  refreshLine() {
    for (const row of document.querySelectorAll(".row.chosen")) {
      row.classList.remove("chosen");
      row.setAttribute("aria-selected", "false");
    }
    byId("ledger").classList.toggle("open", Boolean(this.isOpen && this.line));
    if (!this.line) return;
    const { file, line } = this.line;
    const row = byId(`line-${file}-${line}`);
    row?.classList.add("chosen");
    row?.setAttribute("aria-selected", "true");
    if (!this.isOpen) return;
    const tabs = this.tabs.map((tab) => h("button", { role: "tab", ariaSelected: String(tab === this.tab), onclick: () => this.showTab(tab) }, tab));
    byId("tabs").replaceChildren(h("span", { class: "line" }, `Line ${line}`), ...tabs, h("span", { class: "rest" }), h("button", { title: "close (Esc)", ariaLabel: "close", onclick: () => this.close() }, "✕"));
    byId("body").replaceChildren(detailOf(this, file, line, this.tab));
    byId("body").scrollTop = 0;
    byId("body").querySelector(".box.own")?.scrollIntoView({ block: "center" });
  }

  showTab(tab) {
    this.tab = tab;
    this.refresh();
  }

  // Shows a text before its figures are there: what stands before and behind the change stays.
  echo(text) {
    const rows = [...document.querySelectorAll("[id^='line-0-']")];
    const lines = harmless(text).split("\n");
    const shown = rows.map((row) => row.querySelector(".t").textContent);
    let before = 0;
    while (before < Math.min(rows.length, lines.length) && shown[before] === lines[before]) before += 1;
    let behind = 0;
    while (behind < Math.min(rows.length, lines.length) - before && shown.at(-1 - behind) === lines.at(-1 - behind)) behind += 1;
    const fresh = lines.slice(before, lines.length - behind).map((line) => h("div", { class: "row", id: "line-0-" }, h("span", { class: "n" }, ""), h("span", { class: "t" }, line)));
    rows.slice(before, rows.length - behind).forEach((row, n) => (fresh[n] ? row.querySelector(".t").replaceChildren(lines[before + n]) : row.remove()));
    const last = rows[Math.min(rows.length - behind, before + fresh.length) - 1] ?? document.querySelector(".row.head");
    last.after(...fresh.slice(Math.max(0, rows.length - behind - before)));
  }

  toggleOwn() {
    this.onlyOwn = !this.onlyOwn;
    this.refresh();
  }

  close() {
    this.isOpen = false;
    this.refresh();
  }

  step(by) {
    const all = this.model.files.flatMap((file, number) => file.lines.map((_, n) => [number, n + 1]));
    const at = this.line ? all.findIndex(([file, line]) => file === this.line.file && line === this.line.line) : -1;
    const [file, line] = all[Math.max(0, Math.min(all.length - 1, at + by))];
    this.choose(file, line, false);
  }

  // Lessons stand below their lines until they are switched off.
  toggleLessons() {
    byId("rows").classList.toggle("untaught");
    byId("lessons").setAttribute("aria-pressed", String(!byId("rows").classList.contains("untaught")));
  }

  find(text) {
    const wanted = text.toLowerCase();
    this.found = [];
    this.model.files.forEach((file, number) => file.lines.forEach((content, n) => {
      const isHit = wanted && content.toLowerCase().includes(wanted);
      byId(`line-${number}-${n + 1}`).classList.toggle("marked", Boolean(isHit));
      if (isHit) this.found.push([number, n + 1]);
    }));
    byId("hits").textContent = wanted ? `${this.found.length} ${this.found.length === 1 ? "line" : "lines"}` : "";
  }

  nextFound() {
    const here = this.line ? this.found.findIndex(([file, line]) => file > this.line.file || (file === this.line.file && line > this.line.line)) : 0;
    if (this.found.length) this.choose(...this.found[Math.max(0, here)], false);
  }
}

// Light and dark: as the system has it, until it is switched.
function themes() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let own = null;
  const apply = () => (document.documentElement.dataset.theme = own ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", apply);
  apply();
  return () => {
    own = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    apply();
    app.refresh();
  };
}

function keyboard(event) {
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") leaveSearch();
    if (event.key === "Enter" && event.target.id === "search") app.nextFound();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = (by) => (app.view === "Ledger" ? app.step(by) : true); // elsewhere arrows scroll
  const actions = { j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
    ArrowRight: () => app.view !== "Ledger" || turn(1), ArrowLeft: () => app.view !== "Ledger" || turn(-1), Enter: () => event.target.matches("button, summary, .box") || open(), Escape: () => app.close(), g: () => app.show("Graph"), m: () => app.show("Memory"), r: () => (app.has("Report") ? app.show("Report") : app.has("Run") && app.show("Run")), c: () => app.has("Compare") && app.show("Compare"),
    v: () => app.has("Live") && app.show("Live"), " ": () => event.target.matches("button, summary") || app.view !== "Live" || app.training.togglePause(),
    l: () => app.show("Ledger"), t: () => switchTheme(), s: () => byId("lessons").hidden || app.toggleLessons(), n: () => app.nextFound(), e: () => app.live?.toggleEdit(), p: () => app.live?.measure(), "/": () => search(), "?": () => byId("help").showModal() };
  const action = /^[1-9]$/.test(event.key) && app.tabs[event.key - 1] ? () => app.showTab(app.tabs[event.key - 1]) : actions[event.key];
  if (!action || byId("help").open) return;
  if (action() !== true) event.preventDefault();
}

function open() {
  if (!app.line) app.step(1);
  app.isOpen = true;
  app.refresh();
}

function turn(by) {
  const at = app.tabs.indexOf(app.tab) + by;
  app.showTab(app.tabs[(at + app.tabs.length) % app.tabs.length]);
}

function search() {
  if (app.view === "Graph" && byId("graph-search")) return byId("graph-search").focus();
  app.show("Ledger");
  byId("find").classList.add("shown");
  byId("search").focus();
}

function leaveSearch() {
  byId("find").classList.remove("shown");
  byId("search").value = "";
  app.find("");
  byId("search").blur();
}

function grip() {
  byId("grip").addEventListener("pointerdown", (event) => {
    const moved = ({ clientY }) => {
      const { top, height } = byId("ledger").getBoundingClientRect();
      byId("ledger").style.setProperty("--share", `${Math.max(15, Math.min(85, (100 * (clientY - top)) / height))}%`);
    };
    event.target.setPointerCapture(event.pointerId);
    event.target.addEventListener("pointermove", moved);
    event.target.addEventListener("pointerup", () => event.target.removeEventListener("pointermove", moved), { once: true });
  });
}

function fromAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (VIEWS.includes(wanted.get("view")) && app.has(wanted.get("view"))) app.view = wanted.get("view");
  if (app.tabs.includes(wanted.get("tab"))) app.tab = wanted.get("tab");
  const [file, line] = (wanted.get("line") ?? "").split(":").map(Number);
  if (line && app.model.files[file]?.lines[line - 1] !== undefined) app.choose(file, line);
  else app.refresh();
}

const app = new App(await unpackedJson(byId("document").textContent), new PackedCode(JSON.parse(byId("code").textContent)));
const switchTheme = themes();
const live = app.model.data.live;
if (live) app.live = new Live(app, live);
if (live?.trains) app.training = new Training(app, app.live.events);
byId("views").replaceChildren(...VIEWS.filter((view) => app.has(view)).map((view) => h("button", { role: "tab", onclick: () => app.show(view) }, view)));
byId("theme").addEventListener("click", switchTheme);
byId("lessons").addEventListener("click", () => app.toggleLessons());
byId("ask").addEventListener("click", () => byId("help").showModal());
byId("keys").replaceChildren(...KEYS.map(([keys, said]) => h("tr", {}, h("td", {}, ...keys.split(/ +/).flatMap((key) => [h("kbd", {}, key), " "])), h("td", {}, said))));
byId("help").addEventListener("click", (event) => event.target === byId("help") && byId("help").close());
byId("search").addEventListener("input", (event) => app.find(event.target.value));
document.addEventListener("keydown", keyboard);
window.addEventListener("hashchange", fromAddress);
grip();
fromAddress();
