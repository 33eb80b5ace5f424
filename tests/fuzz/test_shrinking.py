"""A text is shrunk to what a property needs, and a fault has a kind; `tests/stress/reduce.py` joins both."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from graph_text import X
from judging import kind_of_fault
from random_graphs import random_graph
from random_networks import random_network
from shrinking import shrunk_graph, shrunk_program

from compiler import driver, pipeline
from compiler.errors.diagnostics import DlcError
from compiler.graph.ir import Graph
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import InvalidGraph, expect_valid
from compiler.ops import OPS
from compiler.programs import stages
from compiler.programs.load import complete

PROGRAM = """\
# a comment
fn wave(x) = sin(x) + 0.1 * x

model Net(width = 24, classes = 30) {
    input x: f32[batch, 40]
    h = x * 0.5 |> dense(width) |> relu |> layer_norm
    h = tanh(h) + h
    h = h |> dense(width) |> wave
    output y = h |> dense(classes)
    output z = h |> dense(3) |> softplus
}

train Net {
    target t: i32[batch] in 0..30
    loss = cross_entropy(y, t)
    batch = 64
    optimizer = adam(lr = 0.01)
    metrics = [accuracy(y, t)]
}
"""
SMALL = """\
model Net {
    input x: f32[batch]
    output z = tanh(x)
}
"""
LEARNT = """\
model Net {
    input x: f32[batch, 3]
    output y = x |> dense(2)
}
train Net {
    target t: f32[batch, 2]
    loss = mse(y, t)
    batch = 8
    optimizer = gradient_descent(lr = 0.1)
}
"""


def valid_graph(text: str) -> Graph | None:
    try:
        graph = read_graph(text, OPS)
        expect_valid(graph)
    except (DlcError, InvalidGraph):
        return None
    return graph


def test_a_program_is_shrunk_to_one_operation() -> None:
    def holds(text: str) -> bool:
        try:
            program = complete(driver.load_text(text, "net.dl"))
        except DlcError:
            return False
        return any(node.op.name == "tanh" for node in program.inference_graph.nodes)

    assert holds(PROGRAM)
    assert shrunk_program(PROGRAM, holds).strip() == SMALL.strip()


def test_a_graph_is_shrunk_to_one_operation() -> None:
    def holds(text: str) -> bool:
        graph = valid_graph(text)
        return graph is not None and any(node.op.name == "contraction" for node in graph.nodes)

    seed = next(s for s in range(20) if holds(print_graph(random_graph(s, 40)[0])))
    text = shrunk_graph(print_graph(random_graph(seed, 40)[0]), holds)
    graph = valid_graph(text)
    assert graph is not None
    assert [node.op.name for node in graph.nodes] == ["contraction"]
    assert len(graph.outputs) == 1


def test_every_candidate_of_a_shrunk_text_was_tried_once() -> None:
    asked: list[str] = []

    def holds(text: str) -> bool:
        asked.append(text)
        return "dense" in text

    assert "dense" in shrunk_program(random_network(3), holds)
    assert len(set(asked)) == len(asked)


def test_a_sound_program_has_no_fault() -> None:
    assert kind_of_fault(PROGRAM.replace("adam(lr = 0.01)", "gradient_descent"), False, None) is None


def test_a_wrong_pass_is_a_difference_from_the_reference() -> None:
    """Sums that become differences, and a graph that no longer holds together."""

    def with_differences(graph: Graph) -> Graph:
        return read_graph(print_graph(graph).replace(" = add(", " = sub("), OPS)

    def without_nodes(graph: Graph) -> Graph:
        return replace(graph, nodes=())

    text = "\n".join(('graph "g"', X, "%1: f32[batch, 4] = add(%0, %0)", 'output "y" output %1', "end"))
    assert kind_of_fault(text, True, None) is None
    with patch.object(pipeline, "optimise_graph", with_differences):
        assert kind_of_fault(text, True, None) == "differs from the reference"
    with patch.object(pipeline, "optimise_graph", without_nodes):
        assert kind_of_fault(text, True, None) == "CompilerBug in verify.py, verify"


def test_a_network_is_judged_by_its_seed() -> None:
    """As by `check_networks.py`: with several threads, in every way to compile, in f64 beside the reference."""

    def with_differences(graph: Graph) -> Graph:
        return read_graph(print_graph(graph).replace(" = sub(", " = add("), OPS)

    right = stages.optimise_graph
    assert kind_of_fault(LEARNT, False, 3) is None
    with patch.object(stages, "optimise_graph", lambda *given, **options: with_differences(right(*given, **options))):
        assert kind_of_fault(LEARNT, False, 3) == "training in f64: differs from the reference"
        assert kind_of_fault("nothing", False, 3) is None


def test_a_network_without_a_fault_is_not_shrunk(tmp_path: Path) -> None:
    file = tmp_path / "network.dl"
    file.write_text(LEARNT)
    script = Path(__file__).parents[1] / "stress/reduce.py"
    found = subprocess.run([sys.executable, script, file, "--seed", "3"], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.strip() == f"{file}: it has no fault"
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(("text", "is_graph"), [("nothing", False), ("nothing", True), (SMALL[:-3], False)])
def test_a_text_that_means_nothing_has_no_fault(text: str, is_graph: bool) -> None:
    assert kind_of_fault(text, is_graph, None) is None
