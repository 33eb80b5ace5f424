"""Renames that would change what a text means are refused, in every file that would see the new name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="the extra `lsp` is not installed")

from editor_session import EditorSession, position_of
from lsprotocol import types as lsp

ACT = "fn act(x) = x * 2\n\nmodel A {\n    input a: f32[batch, 2]\n    output b = act(a) |> relu\n}\n"
TWICE = "layer twice(x: [batch, n]) = x + x\n"
USER = 'import "twice.dl"\n\nmodel Q {\n    input x: f32[batch, 4]\n    output y = x |> twice |> dense(3)\n}\n'
NEIGHBOUR = 'import "twice.dl"\n\nlayer double(x: [..., n]) = x |> tanh\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("renamed")


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[EditorSession]:
    found = EditorSession(folder)
    yield found
    found.close()


def renamed(
    session: EditorSession, document: lsp.TextDocumentIdentifier, place: lsp.Position, new: str
) -> dict[str, int]:
    """The number of places that change in each file."""
    params = lsp.RenameParams(document, place, new)
    answer = session.ask(session.client.text_document_rename_async(params))
    return {uri.rpartition("/")[2]: len(edits) for uri, edits in answer.changes.items()}


def test_a_name_of_the_library_is_taken_where_it_is_read(session: EditorSession, folder: Path) -> None:
    document = session.open(folder / "act.dl", ACT)
    place = position_of(ACT, "act")
    with pytest.raises(Exception, match="`relu` means something else already"):
        renamed(session, document, place, "relu")
    assert renamed(session, document, place, "tanh") == {"act.dl": 2}


def test_files_that_import_a_name_are_asked(session: EditorSession, folder: Path) -> None:
    for name, text in (("twice", TWICE), ("user", USER), ("neighbour", NEIGHBOUR)):
        (folder / f"{name}.dl").write_text(text, "utf-8")
    document = session.open(folder / "twice.dl")
    place = position_of(TWICE, "twice")
    with pytest.raises(Exception, match=r"`dense` means something else already, in user\.dl"):
        renamed(session, document, place, "dense")
    with pytest.raises(Exception, match=r"`double` is declared already, in neighbour\.dl"):
        renamed(session, document, place, "double")
    assert renamed(session, document, place, "b") == {"twice.dl": 1, "user.dl": 1}


def test_the_rows_of_inputs_keep_their_name(session: EditorSession, folder: Path) -> None:
    document = session.open(folder / "rows.dl", ACT)
    with pytest.raises(Exception, match="always called `batch`"):
        renamed(session, document, position_of(ACT, "batch"), "rows")
    asked = session.client.text_document_prepare_rename_async(
        lsp.PrepareRenameParams(document, position_of(ACT, "batch"))
    )
    assert session.ask(asked) is None
    layer = session.open(folder / "layer.dl", TWICE)
    assert renamed(session, layer, position_of(TWICE, "batch"), "rows") == {"layer.dl": 1}


def test_a_text_may_be_closed_while_it_is_asked_about(session: EditorSession, folder: Path) -> None:
    """The text is long enough to be examined still when it is closed."""
    document = session.open(folder / "closed.dl", ACT)
    once = ACT.replace("|> relu", "|> dense(64) |> relu |> dense(4)")
    long = "\n".join(once.replace("act", f"act{number}").replace("A {", f"A{number} {{") for number in range(150))
    whole = lsp.Range(lsp.Position(0, 0), lsp.Position(1000, 0))
    client = session.client

    async def closed() -> tuple[object, object]:
        session.change(document, 1, long)
        hover = client.text_document_hover_async(lsp.HoverParams(document, lsp.Position(4, 12)))
        hints = client.text_document_inlay_hint_async(lsp.InlayHintParams(document, whole))
        waiting = asyncio.gather(hover, hints)
        await asyncio.sleep(0.02)
        client.text_document_did_close(lsp.DidCloseTextDocumentParams(document))
        return await waiting

    _, hints = session.wait(closed())
    assert hints == ()
