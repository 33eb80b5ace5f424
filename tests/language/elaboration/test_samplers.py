"""`sample` in the language: which names it sees, what it computes, and what is wrong with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from elaboration import codes, mistakes, program, run_graph, started

from compiler.frontend.program import ROW_NUMBERS, Program
from compiler.ops.sources import threefry2x32

MODEL = """\
layer cell(units: int)(x: [batch, n]) {
    param W: [n, units] = glorot_uniform
    state seen: [units] = constant(0.5)
    return x @ W + seen
}

model M(width = 4, heat = 1.0) {
    input x: f32[batch, 3]
    param codes: [5, 3] = normal
    decode = dense(width)
    blocks = [cell(4), cell(3)]
    h = x + codes[0]
    for block in blocks { h = block(h) }
    output y = h |> decode
    output z = heat * h
}
"""


def _with(*lines: str, head: str = "rows(steps = 3, scale = 2.0) from M") -> str:
    return f"{MODEL}\nsample {head} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


_USED = "output rest = scale * random(batch, steps)"


def _rows(found: Program, numbers: Any, seed: int = 0) -> dict[str, Any]:
    """The outputs of the only sampler for rows of these numbers, from the first values of the parameters."""
    (sampler,) = found.samplers
    given: dict[str, Any] = {spec.path: started(spec.initializer) for spec in found.parameters}
    given |= {s.name: np.array(s.value, np.float32) for s in found.settings if s.is_runtime}
    given[ROW_NUMBERS] = np.asarray(numbers, np.int64)
    wanted = {entry.name for entry in sampler.graph.inputs}
    return run_graph(sampler.graph, {n: v for n, v in given.items() if n in wanted}, len(numbers), seed)


def test_a_sampler_needs_only_the_tensors_that_it_applies() -> None:
    found = program(_with("output y = M.decode(scale * random(batch, 3) * heat)", "output n = row + steps"))
    (sampler,) = found.samplers
    names = {entry.name for entry in sampler.graph.inputs}
    assert names == {"decode.W", "decode.b", "sample.row", "seed", "heat", "rows.scale"}
    assert [str(output.value.type) for output in sampler.graph.outputs] == ["f32[batch, 4]", "i64[batch]"]
    assert [spec.path for spec in found.parameters] == [spec.path for spec in program(MODEL).parameters]
    values = {s.name: (s.value, s.origin, s.is_runtime) for s in found.settings if s.name.startswith("rows.")}
    assert values == {"rows.steps": (3, "default", False), "rows.scale": (2.0, "default", True)}


def test_a_sampler_changes_nothing_of_the_model() -> None:
    plain, sampled = program(MODEL), program(_with("y, z = M(random(batch, 3))", "output a = y[:, :3] + z", _USED))
    for one, other in (
        (plain.training_graph, sampled.training_graph),
        (plain.inference_graph, sampled.inference_graph),
    ):
        assert [str(node.op) for node in one.nodes] == [str(node.op) for node in other.nodes]


def test_parts_have_the_values_of_the_model() -> None:
    lines = ("d = random(batch, 3)", "output drawn = d", "output decoded = M.decode(d)", _USED)
    more = (
        "output picked = M.codes[row % 5]",
        "b = M.blocks",
        "output turned = b[1](b[0](d + M.codes[0]))",
        "y, z = M(d)",
        "output whole = y",
        "output hidden = z",
    )
    found = program(_with(*lines, *more))
    rows = _rows(found, [0, 7, 3])
    tensors = {spec.path: started(spec.initializer) for spec in found.parameters}
    d = rows["drawn"]
    np.testing.assert_allclose(rows["decoded"], d @ tensors["decode.W"] + tensors["decode.b"], rtol=1e-6)
    assert np.array_equal(rows["picked"], tensors["codes"][[0, 2, 3]])
    h = (d + tensors["codes"][0]) @ tensors["blocks.0.W"] + 0.5
    h = h @ tensors["blocks.1.W"] + 0.5
    np.testing.assert_allclose(rows["turned"], h, rtol=1e-5)
    np.testing.assert_allclose(rows["hidden"], h, rtol=1e-5)
    np.testing.assert_allclose(rows["whole"], h @ tensors["decode.W"] + tensors["decode.b"], rtol=1e-5)


def _words(number: int) -> tuple[Any, Any]:
    return np.uint32(number & 0xFFFFFFFF), np.uint32(number >> 32)


def _bits(*path: int) -> float:
    """A draw as the language says it: keys by seed and place in the text, steps of scans, row; then the element."""
    key = _words(path[0])
    for number in path[1:-1]:
        key = threefry2x32(key, _words(number))
    first, _ = threefry2x32(key, _words(path[-1]))
    return float(np.float32(first >> np.uint32(8)) * np.float32(2.0**-24))


def _stream(found: Program) -> int:
    """The constant of the only draw, which names its place in the text."""
    nodes = found.samplers[0].graph.nodes
    bodies = [node.op.body.nodes for node in nodes if node.op.name == "scan"]  # type: ignore[attr-defined]
    counters = [n.op.value for part in (nodes, *bodies) for n in part if n.op.name == "constant"]  # type: ignore[attr-defined]
    return next(int(value) for value in counters if value >= 2**32)


def test_a_draw_is_of_the_seed_the_row_and_the_element() -> None:
    found = program(_with("output u = random(batch, 2, 3)", head="rows from M"))
    drawn = _rows(found, [0, 5, 2], seed=9)["u"]
    stream = _stream(found)
    expected = [[_bits(9, stream, row, element) for element in range(6)] for row in (0, 5, 2)]
    assert np.array_equal(drawn, np.array(expected, np.float32).reshape(3, 2, 3))


def test_a_step_of_a_scan_draws_anew() -> None:
    lines = ("s, k = scan i in 0..4 over 1 carry k = zeros(batch) {", "    k = k + 1", "    emit random(batch)", "}")
    found = program(_with(*lines, "output u = s + 0 * k[:, None]", head="rows from M"))
    drawn, stream = _rows(found, [3, 1])["u"], _stream(found)
    expected = [[_bits(0, stream, step, row, 0) for step in range(4)] for row in (3, 1)]
    assert np.array_equal(drawn, np.array(expected, np.float32))


def test_a_draw_without_rows_is_the_same_for_all() -> None:
    rows = _rows(program(_with("output u = random(3) + zeros(batch, 3)", head="rows from M")), [0, 1])["u"]
    assert np.array_equal(rows[0], rows[1])
    assert len(set(rows[0].tolist())) == 3


def test_draws_in_the_model_belong_to_rows_too() -> None:
    text = _with("output q = M(zeros(batch, 3))[:, 0]", head="rows from M")
    text = text.replace("output z = heat * h\n", "").replace("output y = h", "output y = h + random_like(h)")
    one, three = _rows(program(text), [4])["q"], _rows(program(text), [0, 4, 1])["q"]
    np.testing.assert_allclose(one[0], three[1], rtol=1e-6)
    assert not np.array_equal(three[0], three[1])


def test_the_command_line_sets_settings_of_a_sampler() -> None:
    text = _with(_USED)
    assert _rows(program(text, ("rows.steps", "5")), [0])["rest"].shape == (1, 5)
    twice = _rows(program(text, ("rows.scale", "4.0")), [0, 1])["rest"] / 2
    assert np.array_equal(twice, _rows(program(text), [0, 1])["rest"])
    assert codes(mistakes(text, ("rows.step", "5"))) == ["E0610"]
    assert codes(mistakes(text, ("scale", "5.0"))) == ["E0610"]


def test_an_experiment_gives_settings_to_the_model_of_a_sampler() -> None:
    train = "\ntrain M(width = 6) {\n    loss = mean(y ^ 2)\n    optimizer = adam()\n    batch = 4\n}\n"
    found = program(_with("output q = M.decode(random(batch, 3)) + width", head="rows from M") + train)
    assert str(found.samplers[0].graph.output("q").value.type) == "f32[batch, 6]"


def test_masks_follow_the_inputs_that_they_pad() -> None:
    text = """\
model M {
    input words: i32[batch, 4] in 0..9 padded by mask
    output y = mean(words |> embedding(9, 3), axis = 1, where = mask)
}

sample rows from M {
    words = cast(9 * random(batch, 4), i32)
    output y = M(words, words > 2)
}
"""
    assert codes(mistakes(text)) == []


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (("output q = random(3)",), "E0630"),
        (("output q = 3",), "E0312"),
        (("q = random(batch)",), "E0630"),
        (("output q = random(batch)", "output q = random(batch)"), "E0202"),
        (("output q = M.decoder(random(batch, 3))",), "E0632"),
        (("output q = M.h * random(batch, 3)",), "E0632"),
        (("output q = M.y * random(batch, 4)",), "E0632"),
        (("output q = M.width * random(batch)",), "E0632"),
        (("output q = M.x * random(batch, 3)",), "E0632"),
        (("output q = x * random(batch, 3)",), "E0201"),
        (("output q = decode(random(batch, 3))",), "E0201"),
        (("output q = random(batch, 3) |> dense(3)",), "E0501"),
        (("output q = M.decode(random(batch, 2))",), "E0502"),
        (("output q = random(batch) - mean(random(batch), axis = 0)",), "E0631"),
        (("output q = random(batch) * arange(batch)",), "E0631"),
        (("output q = random(batch) / batch",), "E0631"),
        (("output q = reverse(random(batch, 2), 0)",), "E0631"),
        (("output q = reshape(cumsum(random(2 * batch)), batch, 2)",), "E0631"),
        (("s, k = scan i in 0..2 over 1 carry k = zeros(batch) {", "    k = k + mean(k + random(batch))",
          "    emit k", "}", "output q = s + 0 * k[:, None]"), "E0631"),
        (("input q: f32[batch, 3]", "output r = q"), "E0205"),
        (("param q: [3] = zeros", "output r = random(batch, 3) + q"), "E0205"),
        (("output q = random(batch)", "return 3"), "E0205"),
        (("loss q = mean(random(batch))", "output r = random(batch)"), "E0205"),
        (("width = 3", "output q = random(batch, width)"), "E0204"),
    ],
)  # fmt: skip
def test_mistakes(lines: tuple[str, ...], code: str) -> None:
    found = mistakes(_with(*lines, head="rows from M"))
    assert codes(found)[:1] == [code], found
    assert any(note.kind == "hint" for note in found[0].notes) or code in ("E0205", "E0312"), found


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("rows from N", "E0201"),
        ("rows(steps) from M", "E0630"),
        ("rows(width = 3) from M", "E0630"),
        ("rows(steps = 3, steps = 4) from M", "E0202"),
        ("optimizer from M", "E0630"),
        ("generate from M", "E0630"),
        ("bucket from M", "E0630"),
        ("M from M", "E0630"),
        ("rows(M = 3) from M", "E0630"),
        ("rows(row = 3) from M", "E0630"),
        ("rows(steps: int = 2.5) from M", "E0304"),
    ],
)
def test_mistakes_of_heads(head: str, code: str) -> None:
    assert codes(mistakes(_with("output q = random(batch)", head=head)))[0] == code


def test_each_mistake_is_told_once_and_samplers_are_all_looked_at() -> None:
    first = _with("output q = M.decode(random(batch, 2))", head="one from M")
    second = "\nsample two from M {\n    output q = random(3)\n}\n"
    assert codes(mistakes(first + second)) == ["E0502", "E0630"]
    assert codes(mistakes(MODEL + second * 2)) == ["E0202"]


def test_a_layer_that_only_a_sampler_applies_is_not_trained() -> None:
    text = _with("output q = M.idle(random(batch, 3))", head="rows from M")
    text = text.replace("    decode = dense(width)\n", "    decode = dense(width)\n    idle = dense(2)\n")
    (found,) = mistakes(text)
    assert found.code == "E0632"
    assert "nothing trains `idle.W`" in found.message
    assert found.span.line == text.split("\n").index("    output q = M.idle(random(batch, 3))") + 1


def test_a_misspelt_part_is_named() -> None:
    (found,) = mistakes(_with("output q = M.decoed(random(batch, 3))", head="rows from M"))
    assert "did you mean `decode`" in str([note.message for note in found.notes])
    (found,) = mistakes(_with("output q = M.width * random(batch)", head="rows from M"))
    assert "`width`" in found.notes[0].message


def test_a_step_of_a_scan_draws_anew_in_augment_too() -> None:
    text = """\
model M {
    input x: f32[batch, 4]
    output y = x |> dense(2)
}

train M {
    augment {
        s, _ = scan _ in 0..4 over 1 carry k = zeros(batch) { emit random(batch) }
        x = x + s
    }
    loss = mean(y)
    optimizer = adam()
    batch = 2
}
"""
    graph = program(text).augmentation
    assert graph is not None
    numbers = {"augment.sample": np.array([3, 1]), "augment.epoch": np.array(0)}
    drawn = run_graph(graph, {"x": np.zeros((2, 4), np.float32), **numbers})["x"]
    assert len({*drawn.flatten().tolist()}) == 8
