"""Only what is read along an axis is computed."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import assert_same_outputs
from graph_text import graph
from random_graphs import random_graph

import dlc
from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph.verify import verify
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.narrow import narrow
from compiler.ops.movement import Slice

T = 'input "t" data %0: f32[batch, 8, 4]'
U = 'input "u" data %1: f32[batch, 8, 4]'
W = 'input "w" parameter %2: f32[4, 6]'


def forms(*lines: str) -> list[str]:
    """Each node of the narrowed graph: its op and the shape of its result."""
    result = narrow(graph(*lines))
    verify(result)
    shapes = [[extent if isinstance(extent, int) else "b" for extent in n.results[0].type.shape] for n in result.nodes]
    return [f"{n.op.name} {','.join(map(str, shape))}" for n, shape in zip(result.nodes, shapes, strict=True)]


def second_of(value: str, shape: str) -> str:
    """The output: the second place of axis 1 of a value of rank 3."""
    return f"%99: f32[{shape}] = slice({value}) starts=[0, 1, 0] sizes=[{shape}] steps=[1, 1, 1]"


@pytest.mark.parametrize(
    ("lines", "shape", "found"),
    [
        (["%9: f32[batch, 8, 4] = exp(%0)"], "batch, 1, 4", ["slice b,1,4", "exp b,1,4"]),
        (["%9: f32[batch, 8, 4] = mul(%0, %1)"], "batch, 1, 4", ["slice b,1,4", "slice b,1,4", "mul b,1,4"]),
        (
            ["%9: f32[batch, 8, 6] = contraction(%0, %2) lhs=[0, 1, 2] rhs=[2, 3] out=[0, 1, 3]"],
            "batch, 1, 6",
            ["slice b,1,4", "contraction b,1,6"],
        ),
        (  # attention: the queries are cut, the keys are not
            ["%9: f32[batch, 8, 8] = contraction(%0, %1) lhs=[0, 1, 2] rhs=[0, 3, 2] out=[0, 1, 3]"],
            "batch, 1, 8",
            ["slice b,1,4", "contraction b,1,8"],
        ),
        (
            [
                "%8: f32[batch, 8] = sum(%0) axes=[2]",
                "%9: f32[batch, 8, 4] = broadcast(%8) shape=[batch, 8, 4] axes=[0, 1]",
            ],
            "batch, 1, 4",
            ["slice b,1,4", "sum b,1", "broadcast b,1,4"],
        ),
        (
            [
                "%7: f32[batch, 4, 8] = transpose(%0) permutation=[0, 2, 1]",
                "%8: f32[batch, 4, 8] = exp(%7)",
                "%9: f32[batch, 8, 4] = transpose(%8) permutation=[0, 2, 1]",
            ],
            "batch, 1, 4",
            ["slice b,1,4", "transpose b,4,1", "exp b,4,1", "transpose b,1,4"],
        ),
        (  # heads: the axis of tokens stays itself
            [
                "%7: f32[batch, 8, 2, 2] = reshape(%0) shape=[batch, 8, 2, 2]",
                "%8: f32[batch, 8, 2, 2] = exp(%7)",
                "%9: f32[batch, 8, 4] = reshape(%8) shape=[batch, 8, 4]",
            ],
            "batch, 1, 4",
            ["slice b,1,4", "reshape b,1,2,2", "exp b,1,2,2", "reshape b,1,4"],
        ),
        (  # the axis falls apart
            [
                "%7: f32[batch, 2, 4, 4] = reshape(%0) shape=[batch, 2, 4, 4]",
                "%8: f32[batch, 2, 4, 4] = exp(%7)",
                "%9: f32[batch, 8, 4] = reshape(%8) shape=[batch, 8, 4]",
            ],
            "batch, 1, 4",
            ["reshape b,2,4,4", "exp b,2,4,4", "reshape b,8,4", "slice b,1,4"],
        ),
        (
            ["%9: f32[batch, 8, 8] = concat(%0, %1) axis=2"],
            "batch, 1, 8",
            ["slice b,1,4", "slice b,1,4", "concat b,1,8"],
        ),
        (["%9: f32[batch, 16, 4] = concat(%0, %1) axis=1"], "batch, 1, 4", ["concat b,16,4", "slice b,1,4"]),
        (  # seven of eight places: another layout costs more than it saves
            ["%9: f32[batch, 8, 4] = exp(%0)"],
            "batch, 7, 4",
            ["exp b,8,4", "slice b,7,4"],
        ),
    ],
)
def test_a_slice_reaches_the_operands(lines: list[str], shape: str, found: list[str]) -> None:
    assert forms(T, U, W, *lines, second_of("%9", shape), 'output "y" output %99') == found


def test_what_is_read_in_two_ways_stays_whole() -> None:
    lines = (T, "%9: f32[batch, 8, 4] = exp(%0)", second_of("%9", "batch, 1, 4"))
    other = "%98: f32[batch, 1, 4] = slice(%9) starts=[0, 0, 0] sizes=[batch, 1, 4] steps=[1, 1, 1]"
    for outputs in (
        ['output "y" output %99', 'output "e" output %9'],
        [other, 'output "y" output %99', 'output "z" output %98'],
    ):
        assert [node.op.name for node in narrow(graph(*lines, *outputs)).nodes if node.op.name == "exp"] == ["exp"]
        (exp,) = (node for node in narrow(graph(*lines, *outputs)).nodes if node.op.name == "exp")
        assert exp.results[0].type.shape[1] == 8


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_keep_their_values(seed: int) -> None:
    made, inputs, batch = random_graph(seed, 30)
    sliced, cuts = with_slices(made, seed)
    before, after = (evaluate(g, inputs, batch) for g in (sliced, narrow(eliminate_dead(sliced))))
    verify(narrow(sliced))
    assert_same_outputs(before, after)
    assert cuts


def with_slices(made: Graph, seed: int) -> tuple[Graph, int]:
    """A graph whose outputs are one place of some axis of what they were, and how many could be cut."""
    random = np.random.default_rng(seed)
    builder = GraphBuilder.continuing(made)
    for node in made.nodes:
        builder.append(node)
    cuts = 0
    for output in made.outputs:
        shape = output.value.type.shape
        axes = [axis for axis, extent in enumerate(shape) if isinstance(extent, int) and extent > 1]
        value = output.value
        if axes:
            cuts += 1
            axis = int(random.choice(axes))
            extent = shape[axis]
            assert isinstance(extent, int)
            starts = tuple(int(random.integers(extent)) if k == axis else 0 for k in range(len(shape)))
            sizes = tuple(1 if k == axis else size for k, size in enumerate(shape))
            value = builder.emit(Slice(starts, sizes, (1,) * len(shape)), value)
        builder.output(output.name, Role.OUTPUT, value)
    return builder.build(), cuts


ENCODER = """
model Encoder {
    input x: f32[batch, 12, 16]
    h = x |> encoder_block(2, 32, pre_norm = true, drop = 0.0) |> encoder_block(2, 32, pre_norm = true, drop = 0.0)
    output y = %s |> layer_norm |> dense(3)
}
"""


def test_the_first_token_has_the_same_bits_where_the_others_are_not_computed() -> None:
    x = np.random.default_rng(0).standard_normal((5, 12, 16)).astype(np.float32)
    whole, first = (dlc.loads(ENCODER % text) for text in ("h", "h[:, 0]"))
    assert first.predict({"x": x})["y"].tobytes() == whole.predict({"x": x})["y"][:, 0].copy().tobytes()
