"""`view a, b = column`, as an editor sees it."""

from __future__ import annotations

from editor_questions import document_of

from compiler.editing.completion import completions
from compiler.editing.document import Document
from compiler.editing.hover import hover
from compiler.editing.renaming import places_of
from compiler.editing.symbols import Kind
from compiler.errors.diagnostics import Source
from compiler.inspection.reading import KEYWORD, stretches_of
from compiler.syntax.format import format_source

TEXT = """\
model M {
    input a: f32[batch, 4]
    input b: f32[batch, 4]
    output y = a - b
}

train M {
    augment {
        view a, b = image + random_like(image)
    }
    loss = mean(y ^ 2)
    optimizer = adam()
    batch = 4
}
"""


def document(text: str = TEXT) -> Document:
    return document_of(Source("model.dl", text))


def test_a_view_is_the_input_of_its_name_and_the_column_a_name_of_its_own() -> None:
    found = document()
    view, column = found.occurrences[9, 14], found.occurrences[9, 21]
    assert view.symbol is not None
    assert [(o.place.line, o.place.column) for o in places_of(found, view.symbol)] == [(2, 11), (4, 16), (9, 14)]
    assert column.symbol is not None
    assert column.kind is Kind.INPUT
    assert [(o.place.line, o.place.column) for o in places_of(found, column.symbol)] == [(9, 21), (9, 41)]


def test_hover_tells_of_the_word_and_of_the_column() -> None:
    word = hover(document(), None, 9, 10, lambda span: "")
    assert word is not None
    assert "each anew" in word.text
    column = hover(document(), None, 9, 22, lambda span: "")
    assert column is not None
    assert "view a, b = image + random_like(image)" in column.text


def test_augment_offers_views_and_train_its_keys() -> None:
    offered = {c.name for c in completions(document(TEXT.replace("        view a", "        \n        view a")), 9, 9)}
    assert {"view", "if", "for", "random_flip"} <= offered
    assert "optimizer" not in offered
    offered = {c.name for c in completions(document(TEXT.replace("    loss", "    \n    loss")), 11, 5)}
    assert "metrics" in offered
    assert "view" not in offered


def test_view_is_coloured_as_a_keyword() -> None:
    found = [(s.line, s.column) for s in stretches_of(Source("model.dl", TEXT)) if s.kind == KEYWORD]
    assert (9, 9) in found
    assert (8, 5) in found


def test_a_view_is_laid_out_as_an_assignment() -> None:
    assert format_source(Source("model.dl", TEXT.replace("view a, b = image", "view  a,b=image"))) == TEXT
