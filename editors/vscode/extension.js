// Starts `dlc lsp` for models, and runs the commands of lenses in a terminal.

"use strict";

const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");
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

async function start() {
  const [program, ...words] = command();
  const server = { command: program, args: words, transport: TransportKind.stdio };
  client = new LanguageClient("dlc", "dlc", server, {
    documentSelector: [{ language: "dl" }],
    middleware: {
      executeCommand(id, given, next) {
        return IN_A_TERMINAL.includes(id) ? run(id, ...given) : next(id, given);
      },
    },
  });
  try {
    await client.start();
  } catch (error) {
    const help = `\`${program}\` did not start: install it with \`pip install 'dlc[lsp]'\`, or set dlc.command`;
    vscode.window.showErrorMessage(`${help} (${error.message})`);
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
  await start();
}

async function deactivate() {
  if (client) await client.stop();
}

module.exports = { activate, deactivate };
