"""A session with `dlc lsp`: a client that starts it, opens texts and asks for answers, one after the other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

PATIENCE = 60.0


class EditorSession:
    """Speaks with a server in a process of its own. `findings` and `messages` are what it told unasked."""

    def __init__(self, folder: Path, refreshes_hints: bool = False, watches_files: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self.client = LanguageClient("tests", "1")
        self.findings: dict[str, lsp.PublishDiagnosticsParams] = {}
        self.told = 0
        self.messages: list[str] = []
        self.hint_refreshes = 0
        self.registered: list[str] = []  # what the server asked to be told of
        self._listen()
        self.wait(self.client.start_io(sys.executable, "-m", "runtime.cli", "lsp"))
        capabilities = lsp.ClientCapabilities(
            workspace=lsp.WorkspaceClientCapabilities(
                inlay_hint=lsp.InlayHintWorkspaceClientCapabilities(refresh_support=refreshes_hints),
                did_change_watched_files=lsp.DidChangeWatchedFilesClientCapabilities(
                    dynamic_registration=watches_files
                ),
            )
        )
        folders = [lsp.WorkspaceFolder(folder.as_uri(), folder.name)]
        params = lsp.InitializeParams(capabilities=capabilities, workspace_folders=folders)
        self.capabilities = self.wait(self.client.initialize_async(params)).capabilities
        self.client.initialized(lsp.InitializedParams())

    def _listen(self) -> None:
        def published(params: lsp.PublishDiagnosticsParams) -> None:
            self.findings[params.uri] = params
            self.told += 1

        def shown(params: lsp.ShowMessageParams) -> None:
            self.messages.append(params.message)

        def logged(params: lsp.LogMessageParams) -> None:
            self.messages.append(params.message)

        def refreshed(params: None) -> None:
            self.hint_refreshes += 1

        def registered(params: lsp.RegistrationParams) -> None:
            self.registered += (registration.method for registration in params.registrations)

        listeners = {
            lsp.CLIENT_REGISTER_CAPABILITY: registered,
            lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS: published,
            lsp.WINDOW_SHOW_MESSAGE: shown,
            lsp.WINDOW_LOG_MESSAGE: logged,
            lsp.WORKSPACE_INLAY_HINT_REFRESH: refreshed,
        }
        for name, listener in listeners.items():
            self.client.feature(name)(listener)

    @property
    def process(self) -> int:
        """The number of the server's process."""
        server = self.client._server  # pyright: ignore[reportPrivateUsage]
        assert server is not None
        return server.pid

    def wait(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(answer, PATIENCE))

    def until(self, holds: Callable[[], bool]) -> None:
        """Listen until a condition holds. Raises TimeoutError."""

        async def listening() -> None:
            while not holds():
                await asyncio.sleep(0.01)

        self.wait(listening())

    def open(self, path: Path, text: str | None = None) -> lsp.TextDocumentIdentifier:
        """Open a file, or another text in its place, and wait for its findings."""
        before = self.told
        item = lsp.TextDocumentItem(path.as_uri(), "dl", 0, path.read_text("utf-8") if text is None else text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))
        self.until(lambda: self.told > before)
        return lsp.TextDocumentIdentifier(path.as_uri())

    def change(self, document: lsp.TextDocumentIdentifier, version: int, text: str) -> None:
        named = lsp.VersionedTextDocumentIdentifier(version, document.uri)
        change = lsp.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(named, [change]))

    def findings_of(self, document: lsp.TextDocumentIdentifier, version: int) -> list[lsp.Diagnostic]:
        """The findings of a version, as they are when the server has nothing more to say of it."""
        self.until(lambda: document.uri in self.findings and self.findings[document.uri].version == version)
        self.hints(document)  # answered when the text is examined
        return list(self.findings[document.uri].diagnostics)

    def hints(self, document: lsp.TextDocumentIdentifier) -> list[lsp.InlayHint]:
        whole = lsp.Range(lsp.Position(0, 0), lsp.Position(100_000, 0))
        return list(self.ask(self.client.text_document_inlay_hint_async(lsp.InlayHintParams(document, whole))) or ())

    def ask(self, answer: Awaitable[Any]) -> Any:
        async def answered() -> Any:
            return await answer

        return self.wait(answered())

    def close(self) -> None:
        self.wait(self.client.shutdown_async(None))
        self.client.exit(None)
        self.wait(self.client.stop())
        self._loop.close()


def position_of(text: str, mark: str, further: int = 0, count: int = 1) -> lsp.Position:
    """The position of a piece of text in UTF-16, `further` characters into it; of several, the one of this number."""
    offset = -1
    for _ in range(count):
        offset = text.index(mark, offset + 1)
    before = text[: offset + further]
    line = before.count("\n")
    return lsp.Position(line, len(before.rpartition("\n")[2].encode("utf-16-le")) // 2)
