"""The extension for VS Code with stand-ins for the editor and for the client: what it says and what it runs."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

NODE = shutil.which("node")
SCRIPTS = ROOT / "editors" / "vscode"
VSCODE = """
const told = { errors: [], typed: [] };
const terminal = { name: "dlc", show() {}, sendText: (text) => told.typed.push(text) };
module.exports = {
  told,
  window: {
    showErrorMessage: async (text) => void told.errors.push(text), terminals: [], createTerminal: () => terminal,
  },
  workspace: {
    textDocuments: [], onDidOpenTextDocument: () => ({}),
    getConfiguration: () => ({ get: () => ["/opt/my dlc", "lsp"] }),
  },
  commands: { registerCommand: () => ({}) },
  Uri: { parse: (uri) => ({ fsPath: decodeURIComponent(uri.slice("file://".length)) }) },
};
"""
CLIENT = """
let made;
class LanguageClient {
  constructor(id, name, server, options) { made = { server, options }; }
  start() { return process.argv[1] === "fails" ? Promise.reject() : Promise.resolve(); }
  createDefaultErrorHandler() { return { closed: () => "usual", error: () => "usual" }; }
}
module.exports = {
  LanguageClient, TransportKind: { stdio: 0 }, CloseAction: { DoNotRestart: 1 }, ErrorAction: { Continue: 1 },
  made: () => made,
};
"""
DRIVER = """
const extension = require("./extension.js");
const vscode = require("vscode");
(async () => {
  await extension.activate({ subscriptions: [] });
  await new Promise((done) => setTimeout(done, 20));
  const { server, options } = require("vscode-languageclient/node").made();
  const asked = JSON.parse(process.argv[2] ?? "[]");
  const next = () => vscode.told.typed.push("server");
  for (const [id, ...given] of asked) options.middleware.executeCommand(id, given, next);
  console.log(JSON.stringify({ ...vscode.told, server, closed: options.errorHandler.closed() }));
})();
"""


def told(folder: Path, how: str, asked: list[list[str]] | None = None) -> dict[str, Any]:
    """What the extension did: its messages, what it typed into a terminal, and what it answers to an ended server."""
    if NODE is None:
        pytest.skip("node is not installed")
    modules = folder / "node_modules"
    for name, text in (("vscode/index.js", VSCODE), ("vscode-languageclient/node.js", CLIENT)):
        (modules / name).parent.mkdir(parents=True)
        (modules / name).write_text(text)
    for name in ("extension.js", "claim.js"):
        shutil.copy(SCRIPTS / name, folder / name)
    command = [NODE, "-e", DRIVER, how, json.dumps(asked or [])]
    return json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)


def test_a_server_that_does_not_start_is_told_with_what_helps(tmp_path: Path) -> None:
    found = told(tmp_path, "fails")
    (message,) = found["errors"]
    assert message.startswith("`/opt/my dlc` did not start: `pip install 'dlc[lsp]'` brings it")
    assert "undefined" not in message
    assert found["closed"] == {"action": 1, "handled": True}


def test_a_server_that_ran_is_started_again(tmp_path: Path) -> None:
    found = told(tmp_path, "runs")
    assert found["errors"] == []
    assert found["server"] == {"command": "/opt/my dlc", "args": ["lsp"], "transport": 0}
    assert found["closed"] == "usual"


def test_lenses_run_in_a_terminal_whatever_a_file_is_called(tmp_path: Path) -> None:
    uri = (Path("/models") / "it's $(touch x) `y`; é.dl").as_uri()
    asked = [["dlc.train", uri, "Net"], ["dlc.test", uri, ""], ["dlc.profile", uri, "Net"]]
    train, test, profile = told(tmp_path, "runs", asked)["typed"]
    file = "/models/it's $(touch x) `y`; é.dl"
    assert shlex.split(train) == ["/opt/my dlc", "train", file, "--experiment", "Net"]
    assert shlex.split(test) == ["/opt/my dlc", "test", file]
    assert profile == "server"
