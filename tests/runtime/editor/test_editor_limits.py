"""An editor's server has bounds: for its memory in a long session, and for its answers about a huge text."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

pytest.importorskip("pygls", reason="the extra `lsp` is not installed")

from editor_session import EditorSession
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from compiler.editing import facts
from compiler.editing.tokens import coloured
from compiler.errors.diagnostics import Source
from compiler.support.recent import Recent
from compiler.syntax.recovery import LARGEST_READ
from runtime.editor import worker
from runtime.editor.files import Files
from runtime.editor.worker import Request, State

TEXT = (ROOT / "examples" / "xor" / "model.dl").read_text("utf-8")
NAME = "/somewhere/model.dl"
_MOST_GROWTH = 1.05
_STATEMENTS = 40_000
_MOST_SECONDS = 2.0


def edits(text: str, count: int) -> Iterator[str]:
    """A text with another comment behind one of its lines, each time; some edits move the lines below."""
    chooser = random.Random(count)
    for number in range(count):
        lines = text.split("\n")
        lines[chooser.randrange(len(lines))] += f" # {number}" + "\n" * (number % 3 == 0)
        yield "\n".join(lines)


def server_reads() -> Callable[[str], object]:
    files = Files()

    def read(text: str) -> object:
        files.opened[NAME] = text
        return coloured(files.document(NAME))

    return read


def worker_examines() -> Callable[[str], object]:
    state = State()

    def examine(text: str) -> object:
        answer = state.answer(Request(Source(NAME, text), {}, False))
        assert answer.facts is not None, answer.failure
        return answer.facts

    return examine


@pytest.mark.parametrize("made", [server_reads, worker_examines])
def test_memory_does_not_grow_with_edits(
    made: Callable[[], Callable[[str], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_MOST_CHARACTERS", 5 * len(TEXT))
    monkeypatch.setattr(facts, "_MOST_KEPT", 300)
    read = made()
    early, late = (max(_objects_behind(read, edits(TEXT + end, 100))) for end in ("", "\n"))
    assert late < _MOST_GROWTH * early


def _objects_behind(read: Callable[[str], object], texts: Iterator[str]) -> Iterator[int]:
    """The number of objects that are kept, at every tenth text."""
    for number, text in enumerate(texts):
        read(text)
        if number % 10 == 9:
            yield _objects()


def test_a_text_keeps_few_of_those_before_it() -> None:
    """Places in pieces that were read long ago lie in the text of that time."""
    read = server_reads()
    text = TEXT + "\n" + "".join(f"fn f{n}(x) = x + {n}\n" for n in range(200)) + "# " + "x" * 100_000
    for number in range(200):
        text = text.replace(f"x + {number}\n", f"x * {number}\n")
        read(text)
    assert sum(len(kept.text) for kept in _sources()) < 50 * len(text)


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _sources() -> list[Source]:
    gc.collect()
    found: list[Any] = gc.get_objects()
    return [kept for kept in found if isinstance(kept, Source) and kept.name == NAME]


def test_recent_values_are_kept_up_to_a_weight() -> None:
    kept: Recent[str, int] = Recent(10)
    for number, key in enumerate("abc"):
        assert kept.put(key, number, 4) == number
    assert kept.get("a") is None
    assert (kept.get("b"), len(kept)) == (1, 2)
    kept.put("d", 3, 4)  # `c` was used longer ago than `b`
    assert (kept.get("b"), kept.get("c")) == (1, None)
    kept.put("b", 5, 1)
    kept.put("e", 6, 5)
    assert (kept.get("b"), kept.get("d"), kept.get("e")) == (5, 3, 6)
    kept.put("f", 7, 100)
    assert (kept.get("f"), len(kept)) == (7, 1)


# A text of a megabyte

HUGE = (
    "model Huge {\n    input x: [batch, 4]\n"
    + "".join(f"    y{n} = x * {n}.0 + 1\n" for n in range(_STATEMENTS))
    + "    output z = x\n}\n"
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditorSession]:
    found = EditorSession(tmp_path_factory.mktemp("huge"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def huge(session: EditorSession, tmp_path_factory: pytest.TempPathFactory) -> lsp.TextDocumentIdentifier:
    return session.open(tmp_path_factory.mktemp("texts") / "huge.dl", HUGE)


def seconds_of(session: EditorSession) -> float:
    """The processor time of the server so far."""
    return int(Path(f"/proc/{session.process}/schedstat").read_text("ascii").split()[0]) / 1e9


def test_each_question_about_a_huge_text_is_answered_soon(
    session: EditorSession, huge: lsp.TextDocumentIdentifier
) -> None:
    client, place = session.client, lsp.Position(20, 9)
    whole = lsp.Range(lsp.Position(0, 0), lsp.Position(1 << 20, 0))
    session.change(huge, 1, "\n" + HUGE)
    questions = (
        lambda: client.text_document_hover_async(lsp.HoverParams(huge, place)),
        lambda: client.text_document_completion_async(lsp.CompletionParams(huge, place)),
        lambda: client.text_document_signature_help_async(lsp.SignatureHelpParams(huge, place)),
        lambda: client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(huge)),
        lambda: client.text_document_inlay_hint_async(lsp.InlayHintParams(huge, whole)),
        lambda: client.text_document_folding_range_async(lsp.FoldingRangeParams(huge)),
        lambda: client.text_document_document_symbol_async(lsp.DocumentSymbolParams(huge)),
        lambda: client.text_document_code_action_async(lsp.CodeActionParams(huge, whole, lsp.CodeActionContext([]))),
    )
    answers: list[Any] = []
    for ask in questions:
        begun = seconds_of(session)
        answers.append(session.ask(ask()))
        assert seconds_of(session) - begun < _MOST_SECONDS
    assert len(answers[3].data) > 5 * _STATEMENTS
    assert [(fold.start_line, fold.end_line) for fold in answers[5]] == [(1, _STATEMENTS + 3)]
    assert [symbol.name for symbol in answers[6]] == ["Huge"]


def test_a_huge_text_has_its_mistakes_in_the_syntax(session: EditorSession, huge: lsp.TextDocumentIdentifier) -> None:
    session.change(huge, 2, HUGE + "fn f(x) = x +\n")
    session.until(lambda: any("`+`" in finding.message for finding in session.findings[huge.uri].diagnostics))
    (finding,) = session.findings[huge.uri].diagnostics
    assert finding.range.start.line == _STATEMENTS + 4


def test_what_a_huge_text_has_not_is_told(session: EditorSession, huge: lsp.TextDocumentIdentifier) -> None:
    said = [message for message in session.messages if "huge.dl" in message]
    assert len(said) == 1
    assert f"{LARGEST_READ:,} characters" in said[0]
    place = lsp.Position(20, 5)
    with pytest.raises(JsonRpcException, match="not read here"):
        session.ask(session.client.text_document_rename_async(lsp.RenameParams(huge, place, "other")))
    options = lsp.FormattingOptions(4, True)
    with pytest.raises(JsonRpcException, match="dlc fmt"):
        session.ask(session.client.text_document_formatting_async(lsp.DocumentFormattingParams(huge, options)))


def test_a_name_is_not_renamed_where_a_huge_file_may_have_it(
    session: EditorSession, huge: lsp.TextDocumentIdentifier, tmp_path: Path
) -> None:
    text = "fn huge_or_not(x) = x + 1\n"
    small = session.open(tmp_path / "small.dl", text)
    session.change(huge, 3, 'import "small.dl"\n' + HUGE.replace("x * 7.0", "huge_or_not(x)"))
    with pytest.raises(JsonRpcException, match=r"huge\.dl may have the name"):
        session.ask(session.client.text_document_rename_async(lsp.RenameParams(small, lsp.Position(0, 4), "other")))
