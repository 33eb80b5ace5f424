"""What each pass over graphs must achieve; the laws of `simplify` have a file of their own."""

from __future__ import annotations

import pytest
from graph_text import ROW, X, constant, graph, ops_of
from op_samples import custom_gradient

from compiler.errors.diagnostics import Source, Span
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, Origin, Role
from compiler.graph.printer import print_graph
from compiler.graph_passes.canonicalise_contractions import canonicalise_contractions
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.graph_passes.eliminate import eliminate_common, eliminate_dead
from compiler.graph_passes.form_fma import form_fma
from compiler.graph_passes.form_moments import form_moments
from compiler.graph_passes.simplify import simplify
from compiler.ops.control import StopGradient, resolve_custom_gradients
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.mathematics import Exp
from compiler.types import DType, TensorType

SPAN = Span(Source("model.dl", "a\nb\n"), 1, 1, 1, 2)


def test_equal_nodes_are_computed_once_and_keep_all_origins() -> None:
    builder = GraphBuilder("twice")
    a, b = (builder.input(name, Role.DATA, TensorType(DType.F32)) for name in "ab")
    builder.origins = (Origin(SPAN, path="one"),)
    first = builder.emit(Exp(), builder.emit(Add(), a, b))
    builder.origins = (Origin(SPAN, path="two", direction=Direction.BACKWARD),)
    second = builder.emit(Exp(), builder.emit(Add(), b, a))
    builder.output("y", Role.OUTPUT, builder.emit(Multiply(), first, second))
    result = eliminate_common(builder.build())
    assert ops_of(result) == ["add", "exp", "mul"]
    assert [[origin.path for origin in node.origins] for node in result.nodes] == [
        ["one", "two"],
        ["one", "two"],
        ["two"],
    ]


def test_constants_are_equal_only_bit_by_bit() -> None:
    numbers = ("0.0", "-0.0", "nan", "nan", "1.0")
    lines = [f"%{i}: f32[] = constant() value={number} dtype=f32" for i, number in enumerate(numbers)]
    result = eliminate_common(graph(*lines, *(f'output "y{i}" output %{i}' for i in range(5))))
    assert len(ops_of(result)) == 4


def test_random_draws_are_equal_only_with_the_same_stream() -> None:
    seeds = ('input "seed" seed %0: i64[]', 'input "step" step %1: i64[]')
    draws = [
        f"%{i}: f32[4] = random_uniform(%0, %1) shape=[4] stream={stream}" for i, stream in ((2, 7), (3, 7), (4, 8))
    ]
    result = eliminate_common(graph(*seeds, *draws, *(f'output "y{i}" output %{i}' for i in (2, 3, 4))))
    assert len(ops_of(result)) == 2


def test_what_no_output_needs_is_removed_and_inputs_stay() -> None:
    result = eliminate_dead(
        graph(X, ROW, "%3: f32[batch, 4] = exp(%0)", "%4: f32[4] = exp(%1)", 'output "y" output %3')
    )
    assert ops_of(result) == ["exp"]
    assert len(result.inputs) == 2


@pytest.mark.parametrize(
    ("node", "left"),
    [
        ("add(%4, %2)", ["fma"]),
        ("add(%2, %4)", ["fma"]),
        ("sub(%4, %2)", ["neg", "fma"]),
        ("sub(%2, %4)", ["neg", "fma"]),
        ("mul(%4, %2)", ["mul", "mul"]),
    ],
)
def test_products_and_sums_become_fma(node: str, left: list[str]) -> None:
    inputs = [f'input "x{i}" data %{i}: f32[4]' for i in range(3)]
    lines = (*inputs, "%4: f32[4] = mul(%0, %1)", f"%5: f32[4] = {node}", 'output "y" output %5')
    assert ops_of(eliminate_dead(form_fma(graph(*lines)))) == left


def test_a_product_with_two_uses_stays() -> None:
    lines = ('input "x" data %0: f32[4]', "%4: f32[4] = mul(%0, %0)", "%5: f32[4] = add(%4, %0)")
    result = form_fma(graph(*lines, 'output "y" output %5', 'output "z" output %4'))
    assert ops_of(result) == ["mul", "add"]


@pytest.mark.parametrize("divide", ["%21: f32[batch] = div(%20, %11)", "%21: f32[batch] = mul(%20, %12)"])
def test_mean_and_variance_become_moments(divide: str) -> None:
    lines = (
        X,
        "%10: f32[] = constant() value=4.0 dtype=f32",
        "%13: f32[] = constant() value=0.25 dtype=f32",
        "%11: f32[batch] = broadcast(%10) shape=[batch] axes=[]",
        "%12: f32[batch] = broadcast(%13) shape=[batch] axes=[]",
        "%20: f32[batch] = sum(%0) axes=[1]",
        divide,
        "%22: f32[batch, 4] = broadcast(%21) shape=[batch, 4] axes=[0]",
        "%23: f32[batch, 4] = sub(%0, %22)",
        "%24: f32[batch, 4] = mul(%23, %23)",
        "%25: f32[batch] = sum(%24) axes=[1]",
        "%26: f32[batch] = div(%25, %11)",
        "%27: f32[batch] = add(%26, %21)",
        'output "y" output %27',
    )
    assert ops_of(eliminate_dead(form_moments(graph(*lines)))) == ["moments", "add"]


def test_a_mean_over_the_batch_joins_the_variance() -> None:
    lines = (
        X,
        "%10: i64[] = batch_size()",
        "%11: f32[] = cast(%10) dtype=f32",
        "%12: f32[4] = broadcast(%11) shape=[4] axes=[]",
        "%20: f32[4] = sum(%0) axes=[0]",
        "%21: f32[4] = div(%20, %12)",
        "%22: f32[4], %23: f32[4] = moments(%0) axes=[0]",
        "%24: f32[4] = add(%21, %23)",
        'output "y" output %24',
    )
    for prepared in (graph(*lines), eliminate_common(simplify(graph(*lines)))):
        assert ops_of(eliminate_dead(form_moments(prepared))) == ["moments", "add"]


def test_a_lone_mean_stays_a_sum() -> None:
    lines = (X, *constant(3, 4), "%5: f32[4] = sum(%0) axes=[0]", 'output "y" output %5')
    before = graph(*lines)
    assert form_moments(before) is before


def contraction_of(result: Graph) -> str:
    (node,) = [node for node in result.nodes if node.op.name == "contraction"]
    return str(node.op).removeprefix("Contraction")


def test_transposes_become_labels() -> None:
    lines = (
        'input "w" parameter %1: f32[5, 4]',
        X,
        "%3: f32[4, 5] = transpose(%1) permutation=[1, 0]",
        "%4: f32[batch, 5] = contraction(%0, %3) lhs=[7, 3] rhs=[3, 5] out=[7, 5]",
        "%5: f32[5, batch] = transpose(%4) permutation=[1, 0]",
        'output "y" output %5',
    )
    result = eliminate_dead(canonicalise_contractions(graph(*lines)))
    assert ops_of(result) == ["contraction"]
    assert contraction_of(result) == "(lhs=(0, 1), rhs=(2, 1), out=(0, 2))"
    assert [operand.index for operand in result.nodes[0].operands] == [1, 0]


def test_a_broadcast_weight_is_used_as_it_is_and_its_gradient_sums_within_the_product() -> None:
    lines = (
        'input "x" data %0: f32[batch, 3, 4]',
        'input "w" parameter %1: f32[4, 5]',
        'input "dy" data %2: f32[batch, 3, 5]',
        "%3: f32[batch, 4, 5] = broadcast(%1) shape=[batch, 4, 5] axes=[1, 2]",
        "%4: f32[batch, 3, 5] = contraction(%0, %3) lhs=[0, 1, 2] rhs=[0, 2, 3] out=[0, 1, 3]",
        "%5: f32[batch, 4, 5] = contraction(%0, %2) lhs=[0, 1, 2] rhs=[0, 1, 3] out=[0, 2, 3]",
        "%6: f32[4, 5] = sum(%5) axes=[0]",
        'output "y" output %4',
        'output "dw" output %6',
    )
    result = eliminate_dead(canonicalise_contractions(graph(*lines)))
    assert [(node.op.name, str(node.op)) for node in result.nodes] == [
        ("contraction", "Contraction(lhs=(0, 1, 2), rhs=(2, 3), out=(0, 1, 3))"),
        ("contraction", "Contraction(lhs=(0, 1, 2), rhs=(0, 1, 3), out=(2, 3))"),
    ]


def test_what_sums_nothing_is_a_product_and_unit_axes_go() -> None:
    lines = (
        'input "x" data %0: f32[batch, 1]',
        'input "w" parameter %1: f32[1, 5]',
        "%4: f32[batch, 5] = contraction(%0, %1) lhs=[0, 1] rhs=[1, 2] out=[0, 2]",
        'output "y" output %4',
    )
    result = eliminate_dead(simplify(canonicalise_contractions(graph(*lines))))
    assert ops_of(result) == ["reshape", "reshape", "broadcast", "broadcast", "mul"]


def test_steering_ops_are_removed() -> None:
    sample = custom_gradient()
    builder = GraphBuilder("steered")
    x = builder.input("x", Role.DATA, sample.operands[0])
    stopped = builder.emit(StopGradient(), x)
    (y,) = builder.emit_all(sample.op, x, builder.emit(Exp(), stopped))
    builder.output("y", Role.OUTPUT, y)
    assert ops_of(resolve_custom_gradients(builder.build())) == ["exp"]


def test_every_f32_becomes_f64() -> None:
    sample = custom_gradient()
    builder = GraphBuilder("narrow")
    z = builder.input("z", Role.DATA, sample.operands[0])
    builder.output("y", Role.OUTPUT, builder.emit(sample.op, z, z))
    text = print_graph(to_dtype(builder.build(), DType.F64))
    assert "f32" not in text
    assert "f64[batch, 3]" in text


def test_random_draws_stay_the_same_numbers_in_f64() -> None:
    lines = (
        'input "seed" seed %0: i64[]',
        'input "step" step %1: i64[]',
        "%2: f32[4] = random_uniform(%0, %1) shape=[4] stream=3",
    )
    assert ops_of(to_dtype(graph(*lines, 'output "y" output %2'), DType.F64)) == ["random_uniform", "cast"]
