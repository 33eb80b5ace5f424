"""The trace of an elaboration has each name that the text gives to a tensor, with its type as messages print it."""

from __future__ import annotations

from pathlib import Path

from compiler.frontend.elaborate import elaborate
from compiler.frontend.trace import Binding, Subject
from compiler.syntax.modules import load_modules

TEXT = """layer scaled(n)(x: [batch, n]) {
    param w: [n] = ones
    return x * w
}

model M(c = 4) {
    input a: f32[batch, c]
    for i in 0..2 {
        a2 = a |> scaled(c)
        b, d = split(a2, [1, c - 1], axis = 1)
    }
    output y = a |> dense(3)
}
"""


def bindings_of(path: Path, text: str) -> list[Binding]:
    path.write_text(text)
    seen: list[Subject] = []

    def keep(subject: Subject) -> tuple[()]:
        seen.append(subject)
        return ()

    elaborate(load_modules(path, None), None, (), None, keep)
    return seen[0].trace.bindings["training"]


def test_every_binding_is_recorded_with_its_type_and_its_rounds(tmp_path: Path):
    found = [(b.name, b.span.line, b.shown, b.path) for b in bindings_of(tmp_path / "m.dl", TEXT)]
    of_round = [
        [
            ("w", 2, "f32[4]", f"a2.{k}.scaled.w"),
            ("a2", 9, "f32[batch, 4]", f"a2.{k}"),
            ("b", 10, "f32[batch, 1]", f"b.{k}"),
            ("d", 10, "f32[batch, 3]", f"b.{k}"),
        ]
        for k in range(2)
    ]
    expected = [("a", 7, "f32[batch, 4]", ""), *of_round[0], *of_round[1], ("y", 12, "f32[batch, 3]", "y")]
    assert found == expected


def test_a_dimension_knows_the_place_that_gave_it_its_extent(tmp_path: Path):
    last = bindings_of(tmp_path / "m.dl", TEXT)[-1]
    assert [(text, None if span is None else (span.line, span.text)) for text, span in last.dimensions] == [
        ("batch", (7, "batch")),
        ("3", (12, "dense(3)")),
    ]
