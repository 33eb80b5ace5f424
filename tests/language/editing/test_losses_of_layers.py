"""`loss NAME = value` and its weight in `auxiliary`, as an editor sees them."""

from __future__ import annotations

from editor_questions import document_of, examined

from compiler.editing.completion import completions
from compiler.editing.document import Document
from compiler.editing.facts import Examiner
from compiler.editing.hover import hover
from compiler.editing.outline import outline
from compiler.editing.renaming import conflict, places_of, reason_against
from compiler.editing.symbols import Kind, Occurrence
from compiler.errors.diagnostics import Source
from compiler.inspection.reading import KEYWORD, stretches_of

TEXT = """\
layer gate(n: int)(x: [batch, d]) -> [batch, n] {
    p = x |> dense(n) |> softmax
    ## How uneven the gates are.
    loss balance = n * sum(mean(p, axis = 0) ^ 2)
    return p * balance
}

model M {
    input x: f32[batch, 4]
    output y = x |> gate(3)
}

train M {
    target label: i32[batch] in 0..3
    loss = cross_entropy(y, label)
    auxiliary = {balance: 0.01}
    optimizer = adam()
    batch = 4
}
"""


def document(text: str = TEXT) -> Document:
    return document_of(Source("model.dl", text))


def at(text: str, line: int, word: str) -> Occurrence:
    column = text.split("\n")[line - 1].index(word) + 1
    return document(text).occurrences[line, column]


def test_a_loss_is_found_from_its_weight_and_where_it_is_read() -> None:
    symbol = at(TEXT, 4, "balance").symbol
    assert symbol is not None
    assert symbol.kind is Kind.LOSS
    assert [(o.place.line, o.place.column) for o in places_of(document(), symbol)] == [(4, 10), (5, 16), (16, 18)]


def test_a_loss_is_renamed_with_its_weight_unless_several_bodies_state_it() -> None:
    found = at(TEXT, 4, "balance")
    assert found.symbol is not None
    assert reason_against(document(), found) == ""
    assert conflict(document(), found.symbol, "even") == ""
    assert "already" in conflict(document(), found.symbol, "p")
    twice = TEXT.replace("    output y", "    loss balance = mean(x)\n    output y")
    symbol = at(twice, 4, "balance").symbol
    assert symbol is not None
    assert "several bodies state the loss `balance`" in conflict(document(twice), symbol, "even")


def test_the_outline_has_the_loss() -> None:
    parts = outline(document())[0].parts
    assert [(p.name, p.detail, p.kind) for p in parts][-1] == ("balance", "loss", Kind.LOSS)


def test_hover_tells_type_and_documentation() -> None:
    facts = examined(Examiner(), Source("model.dl", TEXT))
    shown = hover(document(), facts, 4, 10, lambda span: "")
    assert shown is not None
    assert "How uneven the gates are." in shown.text
    assert "loss of `gate`" in shown.text
    assert "balance: f32[]" in shown.text
    word = hover(document(), facts, 4, 6, lambda span: "")
    assert word is not None
    assert "added to the training loss" in word.text
    key = hover(document(), facts, 16, 6, lambda span: "")
    assert key is not None
    assert "How much each loss counts" in key.text


def test_the_statement_and_the_key_are_completed() -> None:
    text = TEXT.replace("    return p", "    \n    return p")
    assert "loss" in [c.name for c in completions(document(text), 5, 5)]
    text = TEXT.replace("    return p", "    loss \n    return p")
    assert completions(document(text), 5, 10) == []
    text = TEXT.replace("{balance: 0.01}", "{}")
    assert [c.name for c in completions(document(text), 16, 18)] == ["balance"]
    assert "pi" in [c.name for c in completions(document(TEXT), 16, 27)]
    text = TEXT.replace("    auxiliary = {balance: 0.01}\n", "    \n")
    assert "auxiliary" in [c.name for c in completions(document(text), 16, 5)]


def test_a_page_colours_the_word_where_it_begins_a_statement() -> None:
    text = "layer f(x) {\n    loss size = mean(x)\n    loss = x * loss + 1\n    y = loss\n    state m: [] = zeros\n}\n"
    found = [s for s in stretches_of(Source("model.dl", text)) if s.kind == KEYWORD]
    assert sorted((s.line, s.column) for s in found) == [(1, 1), (2, 5), (5, 5)]
