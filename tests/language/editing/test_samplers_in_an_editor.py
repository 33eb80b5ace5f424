"""`sample name from Model`, as an editor sees it."""

from __future__ import annotations

from editor_questions import document_of

from compiler.editing.completion import completions
from compiler.editing.document import Document
from compiler.editing.hover import hover
from compiler.editing.outline import outline
from compiler.editing.renaming import places_of
from compiler.editing.symbols import Kind
from compiler.errors.diagnostics import Source
from compiler.inspection.reading import KEYWORD, stretches_of
from compiler.syntax.format import format_source

TEXT = """\
model Vae(code = 2) {
    input x: f32[batch, 4]
    decode = dense(4)
    output y = x |> dense(code) |> decode
}

## Codes of the prior.
sample prior(scale = 1.0) from Vae {
    z = scale * random(batch, code)
    output image = Vae.decode(z) + row[:, None]
}
"""


def document(text: str = TEXT) -> Document:
    return document_of(Source("model.dl", text))


def test_a_part_is_the_layer_of_the_model() -> None:
    found = document()
    part = found.occurrences[10, 24]
    assert part.symbol is not None
    assert part.kind is Kind.VARIABLE
    assert [(o.place.line, o.place.column) for o in places_of(found, part.symbol)] == [(3, 5), (4, 36), (10, 24)]
    model = found.occurrences[8, 32].symbol
    assert model is not None
    assert model.kind is Kind.MODEL
    assert [(o.place.line, o.place.column) for o in places_of(found, model)] == [(1, 7), (8, 32), (10, 20)]
    setting = found.occurrences[9, 31].symbol
    assert setting is not None
    assert [(o.place.line, o.place.column) for o in places_of(found, setting)] == [(1, 11), (4, 27), (9, 31)]


def test_hover_tells_of_the_sampler_and_of_its_words() -> None:
    told = hover(document(), None, 8, 9, lambda span: "")
    assert told is not None
    assert "sample prior(scale = 1.0) from Vae" in told.text
    assert "Codes of the prior." in told.text
    word = hover(document(), None, 8, 2, lambda span: "")
    assert word is not None
    assert "new rows" in word.text


def test_parts_are_offered_behind_the_dot_and_models_behind_from() -> None:
    offered = {c.name for c in completions(document(TEXT.replace("Vae.decode(z)", "Vae.")), 10, 24)}
    assert "decode" in offered
    assert "y" not in offered
    offered = {c.name for c in completions(document(), 8, 32)}
    assert "Vae" in offered
    offered = {c.name for c in completions(document(TEXT.replace("    z =", "    \n    z =")), 9, 5)}
    assert {"output", "Vae", "row", "scale", "code", "if"} <= offered
    assert not {"param", "input"} & offered


def test_the_outline_has_its_settings_and_outputs() -> None:
    (entry,) = (one for one in outline(document()) if one.kind is Kind.SAMPLE)
    assert (entry.name, entry.detail) == ("prior", "sample from Vae")
    assert [part.name for part in entry.parts] == ["scale", "image"]


def test_sample_is_coloured_as_a_keyword() -> None:
    found = [(s.line, s.column) for s in stretches_of(Source("model.dl", TEXT)) if s.kind == KEYWORD]
    assert {(8, 1), (8, 27), (10, 5)} <= set(found)


def test_a_sampler_is_laid_out_as_a_model() -> None:
    untidy = TEXT.replace("prior(scale = 1.0) from Vae {", "prior( scale=1.0 )  from  Vae{").replace("    z =", "  z=")
    assert format_source(Source("model.dl", untidy)) == TEXT


def test_sample_is_a_name_elsewhere() -> None:
    text = "fn f(sample: [batch]) = 2 * sample\n"
    assert format_source(Source("model.dl", text)) == text
