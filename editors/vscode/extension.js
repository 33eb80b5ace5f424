// Starts `dlc lsp` for models, and runs the commands of lenses in a terminal.

"use strict";

const vscode = require("vscode");
const { CloseAction, ErrorAction, LanguageClient, TransportKind } = require("vscode-languageclient/node");
const { isModel } = require("./claim");

const IN_A_TERMINAL = ["dlc.train", "dlc.plan", "dlc.view", "dlc.test"];
let client;

function command() {
  return vscode.workspace.getConfiguration("dlc").get("command", ["dlc", "lsp"]);
}

// A file whose name ends in `.dl` is taken only if its content is a model's.
async function claim(document) {
  if (document.languageId !== "dl" && document.uri.path.endsWith(".dl") && isModel(document.getText())) {
    await vscode.languages.setTextDocumentLanguage(document, "dl");
  }
}

function run(id, uri, experiment) {
  const [program] = command();
  const option = id === "dlc.test" ? "--only" : "--experiment";
  const words = [program, id.slice("dlc.".length), vscode.Uri.parse(uri).fsPath];
  if (experiment) words.push(option, experiment);
  const terminal = vscode.window.terminals.find((t) => t.name === "dlc") || vscode.window.createTerminal("dlc");
  terminal.show(true);
  terminal.sendText(words.map(quoted).join(" "));
}

function quoted(word) {
  if (/^[\w./:\\-]+$/.test(word)) return word;
  return process.platform === "win32" ? `"${word.replace(/"/g, '""')}"` : `'${word.replace(/'/g, "'\\''")}'`;
}

// A server that never ran is told of once, by `start`, and not started again; one that ran is the library's affair.
function handlers(state) {
  const usual = () => (state.usual ??= client.createDefaultErrorHandler());
  return {
    error: (...given) => (state.hasRun ? usual().error(...given) : { action: ErrorAction.Continue, handled: true }),
    closed: () => (state.hasRun ? usual().closed() : { action: CloseAction.DoNotRestart, handled: true }),
  };
}

async function start() {
  const [program, ...words] = command();
  const state = { hasRun: false };
  const server = { command: program, args: words, transport: TransportKind.stdio };
  client = new LanguageClient("dlc", "dlc", server, {
    documentSelector: [{ language: "dl" }],
    errorHandler: handlers(state),
    initializationFailedHandler: () => false,
    middleware: {
      executeCommand(id, given, next) {
        return IN_A_TERMINAL.includes(id) ? run(id, ...given) : next(id, given);
      },
    },
  });
  try {
    await client.start();
    state.hasRun = true;
  } catch {
    const said = client.outputChannel;
    client = undefined; // there is nothing to stop
    const help = `\`${program}\` did not start: \`pip install 'dlc[lsp]'\` brings it, and the setting dlc.command names another`;
    if (await vscode.window.showErrorMessage(help, "What it said")) said.show();
  }
}

async function activate(context) {
  vscode.workspace.textDocuments.forEach(claim);
  context.subscriptions.push(
    vscode.workspace.onDidOpenTextDocument(claim),
    vscode.commands.registerCommand("dlc.restart", async () => {
      if (client) await client.stop();
      await start();
    }),
  );
  start(); // it may end with a question, for which nothing waits
}

async function deactivate() {
  if (client) await client.stop();
}

module.exports = { activate, deactivate };
