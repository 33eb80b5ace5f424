"""Integers of data that choose no class or element: refused with their row, unless the model leaves them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import Program
from compiler.errors.diagnostics import DataError
from runtime.data.choices import refuse_outside_inputs
from runtime.data.part import Part
from runtime.train.jobs import load_data

_TOKENS = """
model M {
    input tokens: i32[batch, 3]
    output y = dense(4)(sum(EMBEDDED, axis = 1))
}

train M {
    data = npz("data.npz")
    target label: i32[batch] in 0..4
    loss = cross_entropy(y, label)
    optimizer = adam()
    epochs = 1
    batch = 4
}
"""


def classifier(folder: Path, loss: str, metrics: str = "[]", limits: str = "", more: str = "") -> Program:
    path = folder / "model.dl"
    path.write_text(
        "model M {\n    input x: f32[batch]\n    output y = dense(2)(x[:, None])\n}\n"
        f'train M {{\n    data = csv("data.csv")\n    target ring: i32[batch]{limits}\n{more}    loss = {loss}\n'
        f"    metrics = {metrics}\n    optimizer = adam()\n    epochs = 1\n    batch = 4\n}}\n",
        encoding="utf-8",
    )
    return driver.load(path)


def rows(folder: Path, *rings: int) -> Path:
    lines = [f"{number}.5,{ring}\n" for number, ring in enumerate(rings)]
    path = folder / "data.csv"
    path.write_text("x,ring\n" + "".join(lines), encoding="utf-8")
    return path


def embedded(folder: Path, layer: str, tokens: list[list[int]]) -> Program:
    path = folder / "model.dl"
    path.write_text(_TOKENS.replace("EMBEDDED", layer), encoding="utf-8")
    np.savez(folder / "data.npz", tokens=np.array(tokens, np.int32), label=np.zeros(len(tokens), np.int32))
    return driver.load(path)


def test_labels_beyond_the_classes_are_refused_with_their_row(tmp_path: Path) -> None:
    path = rows(tmp_path, 1, 1, 2, 1)
    program = classifier(tmp_path, "cross_entropy(y, ring)")
    with pytest.raises(DataError, match=r"row 4: `ring`: 2 is none of the 2 classes, 0 to 1") as error:
        load_data(program, None)
    assert (error.value.file, error.value.row) == (path, 4)
    assert error.value.fix.startswith("the data counts from 1: compute with `ring - 1`")


def test_so_are_they_where_the_program_comes_from_the_cache(tmp_path: Path) -> None:
    rows(tmp_path, 0, 1, 2)
    for _ in range(2):
        with pytest.raises(DataError, match="row 4: `ring`: 2 is none of the 2 classes"):
            load_data(classifier(tmp_path, "cross_entropy(y, ring)"), None)


def test_metrics_and_arithmetic_are_seen_too(tmp_path: Path) -> None:
    rows(tmp_path, 0, 3)
    with pytest.raises(DataError, match="3 is none of the 2 classes"):
        load_data(classifier(tmp_path, "mse(y[:, 0], x)", "[accuracy(y, ring)]"), None)
    with pytest.raises(DataError, match="a number computed from `ring`: -1 is none of the 2 classes"):
        load_data(classifier(tmp_path, "cross_entropy(y, ring - 1 + 2 * (ring // 9))"), None)


@pytest.mark.parametrize(
    ("loss", "rings"),
    [
        ("cross_entropy(y, ring, where = ring != -100)", (0, -100, 1)),
        ("cross_entropy(y, ring, where = ring >= 0)", (-1, -1, 1)),
        ("cross_entropy(y, ring - 1)", (1, 2, 1)),
        ("cross_entropy(y, ring % 2)", (5, 2, 7)),
        ("cross_entropy(y, min(ring, 1))", (5, 0, 7)),
        ("mean(where(ring >= 0, -gather(log_softmax(y), ring), 0))", (-1, 0, 1)),
    ],
)
def test_what_the_model_leaves_out_is_right(tmp_path: Path, loss: str, rings: tuple[int, ...]) -> None:
    rows(tmp_path, *rings)
    assert load_data(classifier(tmp_path, loss), None).train.rows.size == 3


def test_a_mask_that_leaves_out_other_values_does_not_excuse(tmp_path: Path) -> None:
    rows(tmp_path, 0, -100, -1, 1)
    program = classifier(tmp_path, "cross_entropy(y, ring, where = ring != -100)", limits=" in -100..2")
    with pytest.raises(DataError, match="row 4: `ring`: -1 is none of the 2 classes") as error:
        load_data(program, None)
    assert "where = ring >= 0" in error.value.fix


def test_a_mask_of_the_data_decides_row_by_row(tmp_path: Path) -> None:
    program = classifier(
        tmp_path, "cross_entropy(y, ring, where = known)", limits=" in -1..2", more="    target known: bool[batch]\n"
    )
    data = tmp_path / "data.csv"
    data.write_text("x,ring,known\n1.0,0,1\n2.0,-1,0\n3.0,1,1\n", encoding="utf-8")
    assert load_data(program, None).train.rows.size == 3
    data.write_text("x,ring,known\n1.0,0,1\n2.0,-1,0\n3.0,-1,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 4: `ring`: -1"):
        load_data(program, None)


def test_comparisons_of_ones_own_are_remarked(tmp_path: Path) -> None:
    rows(tmp_path, 0, 1, 2)
    own = "-mean(sum(where(ring[:, None] == arange(2), log_softmax(y), 0), axis = -1))"
    found = load_data(classifier(tmp_path, own), None)
    assert any("`ring`: 2 equals none of the 2 classes, 0 to 1, in line 8 of" in note for note in found.notes)
    rows(tmp_path, 0, 1, 1)
    assert load_data(classifier(tmp_path, own), None).notes == ()


def test_tokens_beyond_a_table_are_refused(tmp_path: Path) -> None:
    program = embedded(tmp_path, "embedding(40, 4)(tokens)", [[0, 1, 2], [3, 41, 5]])
    with pytest.raises(DataError, match="row 2: `tokens`: 41 is none of the 40 elements, 0 to 39"):
        load_data(program, None)
    masked = "where((tokens < 40)[:, :, None], embedding(40, 4)(tokens), 0)"
    assert load_data(embedded(tmp_path, masked, [[0, 1, 2], [3, 41, 5]]), None).train.rows.size == 2


def test_inputs_of_a_prediction_are_refused(tmp_path: Path) -> None:
    program = embedded(tmp_path, "embedding(40, 4)(tokens)", [[0, 1, 2]])
    refuse_outside_inputs(program, Part({"tokens": np.array([[0, 39, 1]], np.int32)}, np.arange(1)))
    with pytest.raises(DataError, match="40 is none of the 40 elements"):
        refuse_outside_inputs(program, Part({"tokens": np.array([[0, 40, 1]], np.int32)}, np.arange(1)))


def test_arrays_from_python_are_refused(tmp_path: Path) -> None:
    rows(tmp_path, 0, 1)
    classifier(tmp_path, "cross_entropy(y, ring)")
    model = dlc.load(tmp_path / "model.dl", target="reference")
    with pytest.raises(DataError, match="arrays, row 2: `ring`: 2 is none of the 2 classes"):
        model.train({"x": np.ones(2, np.float32), "ring": np.array([1, 2], np.int32)})
    with pytest.raises(DataError, match="2 is none of the 2 classes"):
        model.evaluate({"x": np.ones(2, np.float32), "ring": np.array([1, 2], np.int32)})


def test_the_hint_of_a_declared_range_does_not_lead_beyond_the_classes(tmp_path: Path) -> None:
    rows(tmp_path, 1, 2, 1)
    with pytest.raises(DataError, match="2 is out of range") as error:
        load_data(classifier(tmp_path, "cross_entropy(y, ring)", limits=" in 0..2"), None)
    assert error.value.fix == (
        "the data counts from 1, the range from 0: subtract 1 in the data, or declare `in 1..3` and compute with "
        "`ring - 1`"
    )
    rows(tmp_path, 0, 2, 1)
    with pytest.raises(DataError) as error:
        load_data(classifier(tmp_path, "cross_entropy(y, ring)", limits=" in 0..2"), None)
    assert error.value.fix.endswith("give the model the classes from 0 to 2")
    rows(tmp_path, 0, -1, 1)
    with pytest.raises(DataError) as error:
        load_data(classifier(tmp_path, "cross_entropy(y, ring, ignore = -1)", limits=" in 0..2"), None)
    assert error.value.fix.endswith("where -1 marks elements that a loss leaves out, declare `in -1..2`")
    declared = classifier(tmp_path, "cross_entropy(y, ring, ignore = -1)", limits=" in -1..2")
    assert load_data(declared, None).train.rows.size == 3
