"""The server: open texts with what is known of them, kept up to date beside the requests, and their findings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from compiler.editing.document import Document
from compiler.editing.facts import Facts
from compiler.editing.hints import LineTime
from compiler.errors.diagnostics import Diagnostic, Note, Span, UsageError
from compiler.support.recent import Recent
from compiler.syntax.recovery import LARGEST_READ
from runtime.editor import convert
from runtime.editor.analyst import Analyst
from runtime.editor.files import Files, is_path, same_lines
from runtime.editor.positions import Positions
from runtime.editor.worker import Request

DEBOUNCE = 0.03
"""Seconds without a further key before a text is examined that takes longer than `QUICK`."""
QUICK = 0.1
"""Seconds: a text that was examined in so little time is examined again at once."""
HINTS_WAIT = 0.08
"""Seconds that a request waits for facts of the newest text where older ones can serve until it is examined."""

_LONGEST_WAIT = 1.5
"""Seconds that a request waits for the first facts of a text where its answer does without."""
_MOST_CHARACTERS = 4_000_000
"""Characters of the texts whose positions are kept."""
_LONGEST_HEADER = 4_000
_LONGEST_MESSAGE = 1 << 28


@dataclass(eq=False)
class Opened:
    """An open text. `facts` are those of `facts_text`; times are by line, measured when the text was `times_text`."""

    name: str
    uri: str
    version: int = 0
    facts: Facts | None = None
    facts_text: str = ""
    data_findings: tuple[Diagnostic, ...] = ()
    data_text: str = ""
    times: Mapping[int, LineTime] = field(default_factory=dict[int, LineTime])
    times_text: str = ""
    lasted: float = 0.0  # seconds of its last examination
    task: asyncio.Task[None] | None = None
    told: list[tuple[Diagnostic, lsp.Diagnostic]] = field(default_factory=list[tuple[Diagnostic, lsp.Diagnostic]])
    is_told_too_large: bool = False


class DlServer(LanguageServer):
    """`commands` are the commands of `dlc` that lenses may run, by name."""

    def __init__(self, version: str, commands: frozenset[str]) -> None:
        # whole texts: changes by ranges would need the lines of the client and this side to end at the same marks
        super().__init__("dlc", version, lsp.TextDocumentSyncKind.Full)  # pyright: ignore[reportUnknownMemberType]
        self.files = Files()
        self.opened: dict[str, Opened] = {}  # by name
        self.commands = commands
        self.analyst = Analyst()
        self._positions: Recent[str, Positions] = Recent(_MOST_CHARACTERS)
        self.suggested: dict[str, str] = {}  # the documentation of the last completions, by name
        self.background: set[asyncio.Task[None]] = set()
        self.is_shut_down = False
        self.exit_code = 0

    # Texts

    def opened_at(self, uri: str) -> Opened | None:
        return self.opened.get(self.files.name_of(uri))

    def document_at(self, uri: str) -> Document:
        return self.files.document(self.files.name_of(uri))

    def positions_of(self, name: str) -> Positions:
        text = self.files.text_of(name) or ""
        known = self._positions.get(name)
        if known is not None and known.text == text:
            return known
        made = Positions(text, self.workspace.position_encoding or lsp.PositionEncodingKind.Utf16)
        return self._positions.put(name, made, len(text))

    def positions_at(self, uri: str) -> Positions:
        return self.positions_of(self.files.name_of(uri))

    def place(self, uri: str, position: lsp.Position) -> tuple[int, int]:
        """The line and column, from 1, of a position of the protocol."""
        return self.positions_at(uri).place(position)

    def open(self, item: lsp.TextDocumentItem) -> None:
        name = self.files.name_of(item.uri)
        self.files.opened[name] = item.text
        self.opened[name] = Opened(name, item.uri, item.version)
        self.examine(name, loads_data=True)

    def change(self, uri: str, version: int, text: str) -> None:
        name = self.files.name_of(uri)
        opened = self.opened.get(name)
        if opened is None:
            return
        self.files.opened[name] = text
        opened.version = version
        self.examine(name)
        self._examine_importers(name)

    def save(self, uri: str) -> None:
        name = self.files.name_of(uri)
        if name in self.opened:
            self.examine(name, loads_data=True)

    def close(self, uri: str) -> None:
        name = self.files.name_of(uri)
        opened = self.opened.pop(name, None)
        self.files.opened.pop(name, None)
        if opened is not None:
            if opened.task is not None:
                opened.task.cancel()
            self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))
            self._examine_importers(name)

    def _examine_importers(self, name: str) -> None:
        changed = os.path.normpath(name)
        for other in self.opened.values():
            files = () if other.facts is None else other.facts.files
            if other.name != name and any(os.path.normpath(file) == changed for file in files):
                other.facts_text = ""
                self.examine(other.name)

    # Facts

    def examine(self, name: str, loads_data: bool = False) -> None:
        """Bring the facts of an open text up to date, beside whatever else is asked."""
        opened = self.opened[name]
        if opened.task is not None:
            opened.task.cancel()
        if name.startswith("<"):
            return
        self._tell_too_large(opened)
        delay = DEBOUNCE if opened.facts is not None and opened.lasted > QUICK else 0.0
        opened.task = asyncio.ensure_future(self._examined(opened, loads_data, delay))

    def _tell_too_large(self, opened: Opened) -> None:
        """Say once why there are no hints and names in a text."""
        if opened.is_told_too_large or not self.files.is_too_large(opened.name):
            return
        opened.is_told_too_large = True
        message = (
            f"{os.path.basename(opened.name)} has more than {LARGEST_READ:,} characters: of such a text, an editor "
            "shows words, declarations and mistakes in the syntax only; `dlc check` and `dlc fmt` take all of it"
        )
        self.window_show_message(lsp.ShowMessageParams(lsp.MessageType.Warning, message))

    async def _examined(self, opened: Opened, loads_data: bool, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        text = self.files.opened[opened.name]
        source = self.files.source_of(opened.name)
        opened_texts = {path: other for path, other in self.files.texts_by_path.items() if str(path) != opened.name}
        request = Request(source, opened_texts, False)
        answer = await self.analyst.examine(request, lambda: self._publish_mistakes(opened, text))
        opened.lasted = answer.seconds
        if answer.facts is None:
            self.window_log_message(lsp.LogMessageParams(lsp.MessageType.Warning, f"{opened.name}: {answer.failure}"))
            return
        opened.facts, opened.facts_text = answer.facts, text
        self._publish(opened, self._findings(opened))
        self._refresh()
        if loads_data and is_path(opened.name):
            answer = await self.analyst.examine(Request(source, opened_texts, True))
            if answer.data_findings is not None:
                opened.data_findings, opened.data_text = answer.data_findings, text
                self._publish(opened, self._findings(opened))

    def _publish_mistakes(self, opened: Opened, text: str) -> None:
        """Tell mistakes in the syntax while the worker is busy with the rest."""
        if self.files.opened.get(opened.name) == text and (
            mistakes := self.files.document(opened.name).syntax.mistakes
        ):
            self._publish(opened, mistakes)

    def _findings(self, opened: Opened) -> tuple[Diagnostic, ...]:
        """Those of the text, and those of the data as far as their lines are the same."""
        assert opened.facts is not None
        found = opened.facts.findings
        if any(finding.severity == "error" for finding in found):
            return found
        lines = same_lines(opened.data_text, opened.facts_text) if opened.data_findings else {}
        carried = [moved for finding in opened.data_findings if (moved := _moved(finding, lines)) is not None]
        return tuple(dict.fromkeys((*found, *carried)))

    def _publish(self, opened: Opened, findings: tuple[Diagnostic, ...]) -> None:
        """Tell the findings in a text; one in a file that it imports is told at the import."""
        own = [_at_import(opened, finding) for finding in findings]
        opened.told = [(finding, convert.diagnostic(finding, self.files.uri_of, self.positions_of)) for finding in own]
        told = [diagnostic for _, diagnostic in opened.told]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(opened.uri, told, opened.version))

    def _refresh(self) -> None:
        """Ask the client to ask again for what depends on facts, where it can."""
        workspace = self.client_capabilities.workspace
        if workspace is not None and workspace.inlay_hint is not None and workspace.inlay_hint.refresh_support:
            self.workspace_inlay_hint_refresh(None)

    @property
    def can_refresh_hints(self) -> bool:
        workspace = self.client_capabilities.workspace
        return bool(workspace and workspace.inlay_hint and workspace.inlay_hint.refresh_support)

    async def facts_of(self, uri: str, patience: float | None = None) -> Facts | None:
        """The facts of the newest text; when these take longer than `patience`, those of an older one as far as its
        lines are the same."""
        opened = self.opened_at(uri)
        if opened is None or self.files.is_too_large(opened.name):
            return None
        text = self.files.opened[opened.name]
        if opened.facts_text != text and opened.task is not None:
            await self._newest(opened, patience if opened.facts is not None or patience is None else _LONGEST_WAIT)
        text = self.files.opened.get(opened.name)
        if text is None:  # closed in the meantime
            return None
        if opened.facts is None or opened.facts_text == text:
            return opened.facts
        return _moved_facts(opened.facts, same_lines(opened.facts_text, text))

    async def _newest(self, opened: Opened, patience: float | None) -> None:
        """Wait until the newest text is examined, or for so long."""
        loop = asyncio.get_running_loop()
        end = None if patience is None else loop.time() + patience
        while opened.task is not None and opened.facts_text != self.files.opened.get(opened.name):
            task = opened.task
            left = None if end is None else end - loop.time()
            if left is not None and left <= 0:
                return
            await asyncio.wait({task}, timeout=0.02 if left is None else min(left, 0.02))
            if task.done() and task is opened.task:
                return

    def times_of(self, uri: str) -> Mapping[int, LineTime]:
        """The times of the last profile, at the lines that are still the same."""
        opened = self.opened_at(uri)
        if opened is None or not opened.times:
            return {}
        lines = same_lines(opened.times_text, self.files.opened[opened.name])
        return {lines[line]: time for line, time in opened.times.items() if line in lines}

    # The whole session

    def begin(self, params: lsp.InitializeParams) -> None:
        folders = [folder.uri for folder in params.workspace_folders or ()] or [params.root_uri or ""]
        paths = [path for uri in folders if (path := to_fs_path(uri))]
        self.files.folders = [Path(path) for path in paths if os.path.isdir(path)]

    def change_folders(self, added: Sequence[str], removed: Sequence[str]) -> None:
        """The folders of the editor are others, by their addresses."""
        gone = {to_fs_path(uri) for uri in removed}
        kept = [str(folder) for folder in self.files.folders if str(folder) not in gone]
        paths = (*kept, *(path for uri in added if (path := to_fs_path(uri))))
        self.files.folders = [Path(path) for path in dict.fromkeys(paths) if os.path.isdir(path)]

    def watch_files(self) -> None:
        """Ask to be told of files that others change, which open texts may import; where the client can tell."""
        workspace = self.client_capabilities.workspace
        watched = None if workspace is None else workspace.did_change_watched_files
        if watched is not None and watched.dynamic_registration:
            options = lsp.DidChangeWatchedFilesRegistrationOptions([lsp.FileSystemWatcher("**/*.dl")])
            method = lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES
            self.client_register_capability(lsp.RegistrationParams([lsp.Registration(method, method, options)]))

    def files_changed(self, uris: Iterable[str]) -> None:
        """Files came, went or have another text. One that an import did not find is none of its text's files."""
        if all(self.files.name_of(uri) in self.opened for uri in uris):  # an editor saved what it has open
            return
        for opened in self.opened.values():
            opened.facts_text = ""
            self.examine(opened.name)

    async def warm_up(self) -> None:
        """Start the worker, and read the library a little at a time, between requests."""
        await self.analyst.start()
        for number, _ in enumerate(self.files.read_library()):
            if number % 4 == 0:
                await asyncio.sleep(0.001)
        gc.freeze()  # the collector need not walk the library again

    def beside(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done."""
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def exit(self) -> None:
        """Decide the exit code: by the protocol it is 1 where no request to shut down came first."""
        self.exit_code = 0 if self.is_shut_down else 1

    def end(self) -> None:
        self.is_shut_down = True
        for task in (*self.background, *(o.task for o in self.opened.values() if o.task is not None)):
            task.cancel()
        self.analyst.close()


def serve(version: str, commands: frozenset[str]) -> int:
    """Speak on standard input and output until the client ends the session; the exit code."""
    from runtime.editor.answers import register  # which needs the class above

    # a refusal is an answer, and the log of an editor has no use for how it came about
    logging.getLogger("pygls.protocol.json_rpc").addFilter(_is_no_refusal)
    logging.getLogger("pygls.server").addFilter(_without_trace_of_others)
    server = DlServer(version, commands)
    register(server)
    answers = os.fdopen(os.dup(1), "wb")
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # whatever is printed must not stand among the messages
    sys.stdout = sys.stderr
    server.start_io(cast(BinaryIO, _Questions(sys.stdin.buffer)), answers)
    return server.exit_code


class _Questions:
    """Standard input, whose messages have a largest size."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readline(self) -> bytes:
        return self._stream.readline(_LONGEST_HEADER)

    def read(self, size: int) -> bytes:
        if size > _LONGEST_MESSAGE:
            message = f"a message of {size:,} bytes was announced, and one may have {_LONGEST_MESSAGE:,}"
            raise UsageError(message, "see whether the editor's `Content-Length` counts the bytes of its message")
        return self._stream.read(size)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], JsonRpcInvalidParams)


def _without_trace_of_others(record: logging.LogRecord) -> bool:
    """A message that is no JSON is the fault of the client, which is told."""
    if record.exc_info is not None and isinstance(record.exc_info[1], json.JSONDecodeError):
        record.exc_info = None
    return True


def _moved(finding: Diagnostic, lines: Mapping[int, int]) -> Diagnostic | None:
    span = _moved_span(finding.span, lines)
    return None if span is None else replace(finding, span=span)


def _moved_span(span: Span, lines: Mapping[int, int]) -> Span | None:
    """The place in a changed text, where all its lines are still one below the other."""
    first, last = lines.get(span.line), lines.get(span.end_line)
    if first is None or last is None or last - first != span.end_line - span.line:
        return None
    return Span(span.source, first, span.column, last, span.end_column)


def _moved_facts(facts: Facts, lines: Mapping[int, int]) -> Facts:
    meanings = [replace(m, place=p) for m in facts.meanings if (p := _moved_span(m.place, lines)) is not None]
    parameters = [replace(p, line=lines[p.line]) for p in facts.parameters if p.line in lines]
    settings = [replace(s, line=lines[s.line]) for s in facts.settings if s.line in lines]
    return replace(facts, meanings=tuple(meanings), parameters=tuple(parameters), settings=tuple(settings))


def _at_import(opened: Opened, finding: Diagnostic) -> Diagnostic:
    """A finding in another file, told at the first line, or where a note names this file."""
    if finding.span.source.name == opened.name:
        return finding
    place = next((n.span for n in finding.notes if n.span is not None and n.span.source.name == opened.name), None)
    source = replace(finding.span.source, name=opened.name)
    here = place or Span(source, 1, 1, 1, 1)
    return replace(
        finding,
        span=here,
        message=f"in {Path(finding.span.source.name).name}: {finding.message}",
        notes=(Note("it is here", finding.span), *finding.notes),
        edits=(),
    )
