"""The reader and the verifier of graphs refuse what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from graph_text import X, graph
from scan_graphs import lstm, scan_graph

from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.verify import verify
from compiler.ops.scan import Scan
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%3: f32[] = nothing()", "<graph>:2: no op is called nothing"),
        ("%3: f32[] = exp(%9)", "<graph>:2: %9 is used before its definition"),
        ("%3: f33[] = batch_size()", "f33 is no element type"),
        ("%3 f32[] = batch_size()", "expected `:` and found `f32`"),
        ("%3: f32[] = batch_size() ?", "unexpected text '\\?"),
        ("%3: f32[-1] = batch_size()", "an extent of a shape is no whole number of at least 0"),
        ("%3: f32[true] = batch_size()", "an extent of a shape is no whole number of at least 0"),
        ("%3: f32 = batch_size()", "expected a word and found `=`"),
        ("%3: f32[] = constant() value=[1] dtype=f32", "value of constant is of another type"),
        ("%3: f32[] = constant() value=1", "constant lacks its attribute dtype"),
        ("%3: f32[] = constant() value=1 dtype=f32 axis=3", "constant has no attribute axis"),
        ("%3: f32[] = constant() value=1 value=2 dtype=f32", "constant has its attribute value twice"),
        (f"%3: f32[] = constant() value={'9' * 5000} dtype=f32", "a number has more than 18 digits"),
        (f"%3: f32[] = constant() value={'[' * 5000} dtype=f32", "more than 32 brackets"),
        ('input "\\q" data %3: f32[]', "is no string"),
        ('input "x" date %3: f32[]', "date is no role"),
    ],
)
def test_the_reader_refuses_what_is_no_graph(line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        graph(line)


def test_the_verifier_looks_into_the_bodies_of_scans() -> None:
    scanned = scan_graph(lstm)
    ((scan, op),) = ((node, node.op) for node in scanned.nodes if isinstance(node.op, Scan))
    body = op.body
    (first, *others) = body.nodes
    wrong = replace(first, operands=(Value(77, first.operands[0].type), *first.operands[1:]))
    broken = replace(body, nodes=(wrong, *others))
    nodes = [replace(n, op=replace(op, body=broken)) if n is scan else n for n in scanned.nodes]
    verify(scanned)
    with pytest.raises(CompilerBug, match="uses %77 before its definition"):
        verify(replace(scanned, nodes=tuple(nodes)))
