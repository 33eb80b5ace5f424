"""What an editor asks of a text: at places of every example and of the library, and of texts in any state."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from editor_questions import PARSER, ask_everywhere, ask_of_the_whole, damaged, document_of, examined, places_in
from repository import ROOT

from compiler.editing import facts
from compiler.editing.facts import Examiner
from compiler.editing.keys import GENERATE, TRAIN
from compiler.editing.subject_facts import SubjectFacts, subject_facts
from compiler.editing.symbols import Kind
from compiler.editing.tokens import Class, coloured
from compiler.errors.diagnostics import Diagnostic, Source, SourceError
from compiler.frontend.elaborator import Session
from compiler.frontend.generation import KEYS as GENERATE_KEYS
from compiler.frontend.library import LIBRARY
from compiler.support.train_keys import KEYS as TRAIN_KEYS
from compiler.syntax import tree
from compiler.syntax.lexer import lex
from compiler.syntax.recovery import Recovery

EXAMPLES = sorted((ROOT / "examples").glob("*/*.dl"))
TEXTS = [*EXAMPLES, *sorted(LIBRARY.rglob("*.dl"))]
EXAMINER = Examiner()
QUICK = ("xor", "gpt", "perceptron", "names", "iris")
"""Examples whose elaboration takes milliseconds."""
_SAMPLES = 25


def source_of(path: Path) -> Source:
    name = f"<prelude>/{path.relative_to(LIBRARY).as_posix()}" if path.is_relative_to(LIBRARY) else str(path)
    return Source(name, path.read_text("utf-8"), path.is_relative_to(LIBRARY))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_name_has_a_meaning(path: Path) -> None:
    """Each word that the lexer calls a name is one for the editor, and stands for something of this name."""
    document = document_of(source_of(path))
    for token in document.lexed.tokens:
        if token.kind == "NAME":
            occurrence = document.occurrences[token.line, token.column]
            assert occurrence.kind is not Kind.UNKNOWN or token.text in ("matrices", "patience", "weights"), token
            if occurrence.symbol is not None and occurrence.symbol.place is not None:
                assert occurrence.symbol.place.text == token.text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_question_at_some_places_of_every_example(path: Path) -> None:
    source = source_of(path)
    places = random.Random(path.parent.name).sample(places_in(source.text), _SAMPLES)
    ask_everywhere(document_of(source), examined(EXAMINER, source), places)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_text_that_is_read_in_pieces_is_the_text(path: Path) -> None:
    """Whatever was read before: tokens, comments and declarations are those of the whole text, and so are mistakes."""
    recovery = Recovery(PARSER)
    text = path.read_text("utf-8")
    for changed in (text, *damaged(text, random.Random(path.stem)), text.replace("\n", "\n\n", 2), text):
        source = Source(str(path), changed)
        read, anew = recovery.read(source), lex(source)
        assert (read.lexed.tokens, read.lexed.comments) == (anew.tokens, anew.comments)
        declarations, mistakes = _parsed(source)
        assert read.mistakes == mistakes
        if not mistakes:
            assert (read.module.declarations, read.holes) == (declarations, frozenset())


def _parsed(source: Source) -> tuple[tuple[tree.Declaration, ...], tuple[Diagnostic, ...]]:
    try:
        return PARSER.parse(source).declarations, ()
    except SourceError as error:
        return (), error.diagnostics


def test_pieces_are_read_once() -> None:
    recovery = Recovery(PARSER)
    text = (ROOT / "examples" / "gpt" / "model.dl").read_text("utf-8")
    before = recovery.read(Source("a.dl", text)).module.declarations
    last = len(before) - 1
    after = recovery.read(Source("a.dl", text + "    # more\n")).module.declarations
    assert [one is other for one, other in zip(before, after, strict=True)] == [n != last for n in range(last + 1)]


@pytest.mark.parametrize("name", QUICK)
def test_every_question_survives_damaged_texts(name: str) -> None:
    path = next(path for path in EXAMPLES if path.parent.name == name)
    chooser = random.Random(name)
    for text in damaged(path.read_text("utf-8"), chooser):
        source = Source(str(path), text)
        places = places_in(text)
        ask_everywhere(document_of(source), examined(EXAMINER, source), chooser.sample(places, min(10, len(places))))


@pytest.mark.parametrize(
    "text", ["", "\n", "#", '"', "model", "model ", "train {", "}", "layer f(", "é😀", "\ud800", "\r"]
)
def test_every_question_survives_short_texts(text: str) -> None:
    source = Source("short.dl", text)
    ask_everywhere(document_of(source), examined(EXAMINER, source), places_in(text))


def test_the_colours_cover_all_but_blanks() -> None:
    for path in TEXTS:
        document = document_of(source_of(path))
        found = {(w.line, w.column): w for w in coloured(document)}
        for token in lex(document.source).tokens:
            assert found[token.line, token.column].length == len(token.text)
        ask_of_the_whole(document, examined(EXAMINER, Source("empty.dl", "")))


def test_colours_tell_keywords_from_names_that_are_spelt_like_them() -> None:
    text = "layer gate(output = 3)(input: [batch, n]) -> [batch, n] {\n    state = input * 2\n    return state\n}\n"
    classes = {(w.line, w.column): w.class_ for w in coloured(document_of(Source("gate.dl", text)))}
    assert classes[1, 1] is Class.KEYWORD
    assert classes[1, 12] is Class.SETTING
    assert classes[1, 24] is Class.VARIABLE
    assert classes[2, 5] is Class.VARIABLE
    assert classes[3, 5] is Class.KEYWORD


def test_every_key_is_explained() -> None:
    assert set(TRAIN) == set(TRAIN_KEYS)
    assert set(GENERATE) == set(GENERATE_KEYS)


def test_a_text_with_mistakes_keeps_its_sound_parts() -> None:
    text = (ROOT / "examples/gpt/model.dl").read_text("utf-8")
    whole = document_of(Source("whole.dl", text))
    for broken in ("    embed = embedding(vocabulary, ", "    embed = ", "    embed = = 3", '    embed = "'):
        changed = text.replace("    embed = embedding(vocabulary, width)", broken)
        document = document_of(Source("broken.dl", changed))
        assert document.syntax.mistakes
        assert document.syntax.holes == {5}
        assert len(document.syntax.module.declarations) == len(whole.syntax.module.declarations)
        assert {"tokens", "x", "logits", "width"} <= set(document.names_at(7))


def test_a_line_behind_a_declaration_is_left_out_alone() -> None:
    text = (ROOT / "examples/wine/model.dl").read_text("utf-8").replace("train Wine", "    unused = 3\ntrain Wine")
    assert document_of(Source("behind.dl", text)).syntax.holes == {8}


def test_of_a_declaration_without_its_end_the_statements_are_read() -> None:
    text = "model A {\n    input x: f32[batch, 2]\n    h = x |> dense(3)\n\ntrain A {\n    loss = h\n}\n"
    document = document_of(Source("open.dl", text))
    assert [type(d).__name__ for d in document.syntax.module.declarations] == ["Model", "Train"]
    assert {"x", "h"} <= set(document.names_at(3))


def test_what_did_not_change_is_known_from_before() -> None:
    """Experiments that are moved, or stay while others change, have the facts that a new elaboration gives them."""
    text = "\n".join((ROOT / "examples" / name / "model.dl").read_text("utf-8") for name in ("wine", "xor", "iris"))
    kept = Examiner()
    chooser = random.Random("kept")
    lines = text.split("\n")
    texts = [text, "# one line more\n" + text, text.replace("dense(hidden)", "dense(hidden + 1)")]
    texts += [
        text.replace("tanh", "tnh", 1),
        text + "\nfn shared(x: [n]) = x\n",
        text.replace("loss = ", "loss = = ", 1),
    ]
    texts += ["\n".join([*lines[:n], "    unused = 3", *lines[n:]]) for n in chooser.sample(range(len(lines)), 4)]
    for changed in texts:
        source = Source("kept.dl", changed)
        assert examined(kept, source) == examined(Examiner(), source)


def test_an_experiment_is_elaborated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def counted(session: Session, subject: tree.Train | tree.Model, *rest: Any) -> SubjectFacts:
        begun.append(subject.model.id if isinstance(subject, tree.Train) else subject.name)
        return subject_facts(session, subject, *rest)

    monkeypatch.setattr(facts, "subject_facts", counted)
    examiner = Examiner()
    text = "\n".join((ROOT / "examples" / name / "model.dl").read_text("utf-8") for name in ("wine", "xor"))
    examined(examiner, Source("once.dl", text))
    assert begun == ["Wine", "Xor"]
    examined(examiner, Source("once.dl", text.replace("hidden = 8", "hidden = 9")))
    assert begun == ["Wine", "Xor", "Xor"]
    examiner.examine(Source("once.dl", text), anew=True)
    assert begun == ["Wine", "Xor", "Xor", "Wine", "Xor"]
