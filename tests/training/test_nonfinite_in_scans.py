"""A value that is not finite in the body of a scan: its line, its step, its element by name, and its first cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from comparisons import assert_same_outputs
from differentiation import gradient_graph
from op_samples import float_inputs
from scan_graphs import SCANS, scan_graph

from compiler.diagnosis.nonfinite import evaluated, taken_apart
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.ops.scan import Scan
from compiler.types import at_batch, numpy_dtype
from runtime.cli.main import main

TEXT = """fn squash(v: [batch, units]) = log(v)

model M {{
    input x: f32[batch, time, features]
{body}
    output y = h |> dense(1)
}}
train M {{
    data = npz("data.npz")
    target t: f32[batch, 1]
    loss = mean((y - t) ^ 2)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 8
}}
"""
ROWS, BAD_ROW, BAD_TIME, BAD_FEATURE = 32, 21, 3, 1


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    random = np.random.default_rng(0)
    x = random.uniform(0.5, 1, (ROWS, 5, 3)).astype("f4")
    x[BAD_ROW, BAD_TIME, BAD_FEATURE] = 0
    np.savez("data.npz", x=x, t=random.normal(size=(ROWS, 1)).astype("f4"))


def error_of(*body: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the report, for a model whose body has these lines from line 5 on."""
    Path("model.dl").write_text(TEXT.format(body="\n".join(f"    {line}" for line in body)))
    assert main(["train", "model.dl", "--threads", "1"]) == 1
    return [line.strip() for line in capsys.readouterr().err.splitlines()]


def test_the_line_of_the_body_the_step_and_the_element(capsys: pytest.CaptureFixture[str]) -> None:
    lines = error_of(
        "h = scan u in x over time carry h = zeros(batch, features) {",
        "    h = 0.5 * h + sqrt(u - 0.1)",
        "}",
        capsys=capsys,
    )
    where = next(k for k, line in enumerate(lines) if line.startswith("model.dl:6, forward: `sqrt` gives nan at "))
    assert lines[where].endswith("(row 21 of the data), features 1], in the scan at time 3")
    assert lines[where + 1 : where + 3] == ["h = 0.5 * h + sqrt(u - 0.1)", "from -0.1"]


def test_a_function_that_the_body_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own names are those of its lines."""
    lines = error_of(
        "h = scan u in x over time reverse = true carry h = zeros(batch, features) {",
        "    h = 0.5 * h + squash(u - 0.1)",
        "}",
        capsys=capsys,
    )
    (line,) = (line for line in lines if line.startswith("model.dl:1, forward: `log` gives nan"))
    assert line.endswith("(row 21 of the data), units 1], in the scan at time 3")


def test_backward_in_the_body(capsys: pytest.CaptureFixture[str]) -> None:
    """The root of 0 is finite, and its slope is not."""
    lines = error_of(
        "h = scan u in x over time carry h = dense(3)(x[:, 0]) {",
        "    h = 0.5 * h + sqrt(u * (1 + h ^ 2))",
        "}",
        capsys=capsys,
    )
    (line,) = (line for line in lines if "the first cause" in line)
    assert line.startswith("the first cause: model.dl:6, backward: ")
    assert "(row 21 of the data), features 1], in the scan at time 3" in line


def test_the_cause_of_a_nan_outside_lies_inside_two_scans(capsys: pytest.CaptureFixture[str]) -> None:
    lines = error_of(
        "h = scan u in x over time carry h = zeros(batch, features) {",
        "    total = scan v in u over features carry k = zeros(batch) {",
        "        k = k + 1 / v",
        "    }",
        "    h = h + total[:, None]",
        "}",
        "h = h - h",
        capsys=capsys,
    )
    assert any(line.startswith("model.dl:11, forward: `sub` gives nan") for line in lines)
    (line,) = (line for line in lines if "the first cause" in line)
    assert line.startswith("the first cause: model.dl:7, forward: `div` gives inf at [batch")
    assert line.endswith("(row 21 of the data)], in the scan at time 3 and features 1")


def test_dimensions_are_named_outside_of_scans_too(capsys: pytest.CaptureFixture[str]) -> None:
    lines = error_of("h = mean(log(x - 0.1), axis = time)", capsys=capsys)
    assert any("(row 21 of the data), time 3, features 1]" in line for line in lines)


@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
def test_a_scan_taken_apart_gives_the_same(make: Callable[[GraphBuilder], list[Value]]) -> None:
    forward = scan_graph(make)
    random = np.random.default_rng(0)
    floats = float_inputs(forward)
    for graph in (forward, gradient_graph(forward, forward.outputs[0].name, floats)):
        inputs = {}
        for entry in graph.inputs:
            shape, dtype = at_batch(entry.value.type.shape, 3), numpy_dtype(entry.value.type.dtype)
            inputs[entry.name] = random.uniform(0, 2, shape).astype(dtype)
        whole = evaluated(graph, inputs, range(3))
        apart = whole
        while (scan := _first_scan(apart.graph)) is not None:
            apart = taken_apart(apart, scan)
        found, expected = ({o.name: step.values[o.value.index] for o in step.graph.outputs} for step in (apart, whole))
        assert_same_outputs(found, expected)


def _first_scan(graph: Graph) -> Node | None:
    return next((node for node in graph.nodes if isinstance(node.op, Scan)), None)
