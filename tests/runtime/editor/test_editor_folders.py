"""Folders and files that come and go while an editor is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="the extra `lsp` is not installed")

from editor_session import EditorSession
from lsprotocol import types as lsp

LIBRARY = "fn twice(x) = x * 2\n"
USER = 'import "{path}"\n\nmodel Small {{\n    input x: f32[batch, 4]\n    output y = twice(x)\n}}\n'


@pytest.fixture
def session(tmp_path: Path) -> Iterator[EditorSession]:
    folder = tmp_path / "first"
    folder.mkdir()
    found = EditorSession(folder, watches_files=True)
    yield found
    found.close()


def messages(session: EditorSession, uri: str) -> list[str]:
    return [finding.message for finding in session.findings[uri].diagnostics]


def test_a_folder_that_is_added_is_renamed_in_as_well(session: EditorSession, tmp_path: Path) -> None:
    library = tmp_path / "first" / "library.dl"
    library.write_text(LIBRARY, "utf-8")
    (tmp_path / "user.dl").write_text(USER.format(path="first/library.dl"), "utf-8")
    document = session.open(library)
    folder = lsp.WorkspaceFolder(tmp_path.as_uri(), "around")

    def changed(added: list[lsp.WorkspaceFolder], removed: list[lsp.WorkspaceFolder]) -> set[str]:
        event = lsp.WorkspaceFoldersChangeEvent(added, removed)
        session.client.workspace_did_change_workspace_folders(lsp.DidChangeWorkspaceFoldersParams(event))
        params = lsp.RenameParams(document, lsp.Position(0, 4), "double")
        return {Path(uri).name for uri in session.ask(session.client.text_document_rename_async(params)).changes}

    assert changed([], []) == {"library.dl"}
    assert changed([folder], []) == {"library.dl", "user.dl"}
    assert changed([], [folder]) == {"library.dl"}


def test_an_import_that_comes_goes_and_changes_is_followed(session: EditorSession, tmp_path: Path) -> None:
    library, user = tmp_path / "first" / "library.dl", tmp_path / "first" / "user.dl"
    user.write_text(USER.format(path="library.dl"), "utf-8")
    document = session.open(user)
    session.until(lambda: any("no file" in message for message in messages(session, document.uri)))

    def told(kind: lsp.FileChangeType) -> None:
        change = lsp.FileEvent(library.as_uri(), kind)
        session.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([change]))

    library.write_text(LIBRARY, "utf-8")
    told(lsp.FileChangeType.Created)
    session.until(lambda: messages(session, document.uri) == [])
    library.write_text(LIBRARY.replace("twice", "thrice"), "utf-8")
    told(lsp.FileChangeType.Changed)
    session.until(lambda: any("`twice`" in message for message in messages(session, document.uri)))
    library.unlink()
    told(lsp.FileChangeType.Deleted)
    session.until(lambda: any("no file" in message for message in messages(session, document.uri)))


def test_the_client_is_asked_to_watch_models(session: EditorSession) -> None:
    session.until(lambda: bool(session.registered))
    assert session.registered == [lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES]
