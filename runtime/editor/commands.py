"""Lenses above experiments, models and tests, and the commands of `dlc` that they run in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os.path
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.uris import from_fs_path

from compiler.editing.document import Document
from compiler.editing.hints import LineTime, duration
from compiler.syntax import tree
from runtime.editor.files import is_path
from runtime.editor.server import DlServer

PREFIX = "dlc."
_OF_TRAIN = ("train", "plan", "profile", "view")
_OF_MODEL = ("plan", "profile", "view")
_TITLES = {"train": "▷ train", "plan": "plan", "profile": "profile", "view": "view", "test": "▷ test"}
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop(1)); from runtime.cli.main import main; sys.exit(main())"
)


_SECONDS_TO_END = 2.0  # for what holds the pipes of a process that was killed


@dataclass(frozen=True)
class Lens:
    """A command of `dlc` for an experiment, model or test that begins in `line`."""

    line: int
    command: str
    experiment: str


def register(server: DlServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_CODE_LENS, lsp.CodeLensOptions())
    def lenses_of(ls: DlServer, params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
        uri = params.text_document.uri
        if not is_path(ls.files.name_of(uri)):
            return []
        positions = ls.positions_at(uri)
        return [
            lsp.CodeLens(
                lsp.Range(positions.position(lens.line, 1), positions.position(lens.line, 1)),
                lsp.Command(_TITLES[lens.command], f"{PREFIX}{lens.command}", arguments=[uri, lens.experiment]),
            )
            for lens in lenses(ls.document_at(uri), ls.commands)
        ]

    for name in (*_TITLES,):
        if name in server.commands:
            _register_command(server, name)


def _register_command(server: DlServer, name: str) -> None:
    @server.command(f"{PREFIX}{name}")
    async def run(ls: DlServer, uri: str, experiment: str = "") -> None:
        path = ls.files.name_of(uri)
        if not is_path(path):
            _say(ls, lsp.MessageType.Error, "save the text first: commands of `dlc` run on files")
            return
        known = {"profile": _profile, "view": _view}
        work = known[name](ls, path, experiment) if name in known else _run(ls, name, path, experiment)
        ls.beside(asyncio.ensure_future(work))


def lenses(document: Document, commands: frozenset[str]) -> Iterator[Lens]:
    """The lenses of a text, for the commands that there are."""
    declarations = document.syntax.module.declarations
    trained = {d.model.id for d in declarations if isinstance(d, tree.Train)}
    for declaration in declarations:
        wanted: Sequence[str] = ()
        name = ""
        if isinstance(declaration, tree.Train):
            wanted, name = _OF_TRAIN, declaration.name or declaration.model.id
        elif isinstance(declaration, tree.Model) and declaration.name not in trained:
            wanted, name = _OF_MODEL, declaration.name
        elif isinstance(declaration, tree.Test):
            wanted, name = ("test",), declaration.name
        for command in wanted:
            if command in commands:
                yield Lens(declaration.span.line, command, name)


def arguments_of(command: str, path: str, experiment: str) -> list[str]:
    """The words of a command line of `dlc`."""
    if command == "test":
        return [command, path, *(["--only", experiment] if experiment else [])]
    return [command, path, *(["--experiment", experiment] if experiment else [])]


async def _started(words: Sequence[str], path: str, errors: int) -> asyncio.subprocess.Process:
    """A command of `dlc` in the folder of a file; `errors` says where its standard error goes."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        _START,
        json.dumps(sys.path),
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        cwd=str(Path(path).parent),
    )


async def _process(words: Sequence[str], path: str) -> tuple[int, str, str]:
    """The exit code of a command, and what it printed."""
    process = await _started(words, path, asyncio.subprocess.PIPE)
    try:
        out, said = await process.communicate()
    except asyncio.CancelledError:
        await _ended(process)
        raise
    return process.returncode or 0, out.decode("utf-8", "replace"), said.decode("utf-8", "replace")


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a process, and wait for it: its pipes must be closed before the loop is."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), _SECONDS_TO_END)


async def _view(ls: DlServer, path: str, experiment: str) -> None:
    """Serve the page of a model as long as the session lasts, and show it where the client can."""
    process = await _started(arguments_of("view", path, experiment), path, asyncio.subprocess.STDOUT)
    assert process.stdout is not None
    said = ""
    try:
        while line := (await process.stdout.readline()).decode("utf-8", "replace").strip():
            said = line
            if line.startswith("http"):
                _say(ls, lsp.MessageType.Info, f"dlc view: {line}")
                await _show(ls, line, external=True)
        await process.wait()
    except asyncio.CancelledError:
        await _ended(process)
        raise
    if process.returncode:
        _say(ls, lsp.MessageType.Error, f"dlc view: {said}")


async def _show(ls: DlServer, uri: str, external: bool = False) -> None:
    window = ls.client_capabilities.window
    if window is not None and window.show_document is not None and window.show_document.support:
        await ls.window_show_document_async(lsp.ShowDocumentParams(uri, external=external, take_focus=external))


async def _run(ls: DlServer, command: str, path: str, experiment: str) -> None:
    """Run a command and show what it printed."""
    words = arguments_of(command, path, experiment)
    _say(ls, lsp.MessageType.Info, f"dlc {' '.join(words)} runs")
    code, out, said = await _process(words, path)
    text = "\n".join(part.rstrip() for part in (out, said) if part.strip())
    with tempfile.NamedTemporaryFile("w", suffix=f"-{command}.txt", encoding="utf-8", delete=False) as file:
        file.write(f"$ dlc {' '.join(words)}\n{text}\n")
    kind = lsp.MessageType.Info if code == 0 else lsp.MessageType.Error
    last = text.splitlines()[-1] if text else f"exit code {code}"
    _say(ls, kind, f"dlc {command}: {last} ({file.name})")
    await _show(ls, from_fs_path(file.name) or "")


async def _profile(ls: DlServer, path: str, experiment: str) -> None:
    """Profile a step; its times become inlay hints."""
    text = ls.files.text_on_disk(path)  # of which the times are, whatever has been typed since
    _say(ls, lsp.MessageType.Info, "dlc profile runs for some seconds")
    mode = () if _is_trained(ls.files.document(path), experiment) else ("--mode", "infer")
    code, out, said = await _process([*arguments_of("profile", path, experiment), *mode, "--json"], path)
    opened = ls.opened.get(path)
    if code or opened is None or text is None:
        _say(ls, lsp.MessageType.Error, f"dlc profile: {said.strip() or f'exit code {code}'}")
        return
    report = json.loads(out)
    opened.times, opened.times_text = times_of(report, path), text
    if ls.can_refresh_hints:
        ls.workspace_inlay_hint_refresh(None)
    step = duration(report["step_ms"])
    _say(ls, lsp.MessageType.Info, f"a step of {report['batch']} rows takes {step} on {report['threads']} threads")


def _is_trained(document: Document, experiment: str) -> bool:
    """Whether a name is that of an experiment, and not of a model that none trains."""
    trained = (d for d in document.syntax.module.declarations if isinstance(d, tree.Train))
    return any(experiment in (train.name or train.model.id, "") for train in trained)


def times_of(report: Mapping[str, Any], path: str) -> dict[int, LineTime]:
    """The time of each line of a file, from the JSON of `dlc profile`."""
    found: dict[int, LineTime] = {}
    whole = report["step_ms"]
    for row in report["lines"]:
        total = row["forward_ms"] + row["backward_ms"] + row["update_ms"]
        if os.path.normpath(row["file"]) == os.path.normpath(path) and whole > 0:
            parts = [(word, row[f"{word}_ms"]) for word in ("forward", "backward", "update")]
            tip = ", ".join(f"{word} {duration(time)}" for word, time in parts if time > 0)
            found[row["line"]] = LineTime(total, total / whole, f"of a step: {tip}")
    return found


def _say(ls: DlServer, kind: lsp.MessageType, text: str) -> None:
    ls.window_show_message(lsp.ShowMessageParams(kind, text))
