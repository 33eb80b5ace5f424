"""The reader and the verifier of graphs refuse what is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graph_text import X, graph

from compiler.diagnostics import CompilerBug
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.verify import verify
from compiler.types import DType, TensorType


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: Node(n.op, (Value(77, n.operands[0].type),), n.results), "uses %77 before its definition"),
        (lambda n: Node(n.op, n.operands, (Value(0, n.results[0].type),)), "%0 is defined a second time"),
        (lambda n: Node(n.op, n.operands, (Value(3, TensorType(DType.F64)),)), "results have other types"),
        (lambda n: Node(n.op, (Value(0, TensorType(DType.F32)),), n.results), "takes %0 for f32"),
        (lambda n: Node(n.op, (*n.operands, *n.operands), n.results), "exp takes 1 tensor, but got 2"),
    ],
)
def test_the_verifier_finds_what_is_broken(change: Callable[[Node], Node], message: str) -> None:
    good = graph(X, "%3: f32[batch, 4] = exp(%0)", 'output "y" output %3')
    verify(good)
    broken = Graph(good.name, good.inputs, tuple(map(change, good.nodes)), good.outputs)
    with pytest.raises(CompilerBug, match=message):
        verify(broken)


def test_the_reader_refuses_what_is_no_graph() -> None:
    for lines, message in (
        (("%3: f32[] = nothing()",), "no op is called nothing"),
        (("%3: f32[] = exp(%9)",), "%9 is used before its definition"),
        (("%3: f33[] = batch_size()",), "f33 is no element type"),
        (("%3 f32[] = batch_size()",), "expected ':'"),
        (("%3: f32[] = batch_size() ?",), "unexpected text"),
    ):
        with pytest.raises(CompilerBug, match=message):
            graph(*lines)
