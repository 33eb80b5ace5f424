"""What the laws of simplification make of graphs."""

from __future__ import annotations

import pytest
from graph_text import ROW, SCALAR, X, constant, graph, ops_of

from compiler.graph.printer import print_graph
from compiler.graph_passes.eliminate import eliminate_common, eliminate_dead
from compiler.graph_passes.simplify import simplify


def simplified(*lines: str) -> list[str]:
    """The ops left by `simplify`."""
    return ops_of(eliminate_dead(eliminate_common(simplify(graph(*lines)))))


@pytest.mark.parametrize(
    ("number", "node", "left"),
    [
        (0, "add(%0, %3)", []),
        (0, "add(%3, %0)", []),
        (0, "sub(%0, %3)", []),
        (0, "sub(%3, %0)", ["neg"]),
        (1, "mul(%3, %0)", []),
        (-1, "mul(%0, %3)", ["neg"]),
        (1, "div(%0, %3)", []),
        (4, "div(%0, %3)", ["constant", "broadcast", "mul"]),
        (3, "div(%0, %3)", ["constant", "broadcast", "div"]),
        (0, "pow(%0, %3)", ["constant", "broadcast"]),
        (1, "pow(%0, %3)", []),
        (2, "pow(%0, %3)", ["mul"]),
        (3, "pow(%0, %3)", ["mul", "mul"]),
        (0.5, "pow(%0, %3)", ["sqrt"]),
        (-0.5, "pow(%0, %3)", ["rsqrt"]),
        (-1, "pow(%0, %3)", ["constant", "broadcast", "div"]),
        (1.5, "pow(%0, %3)", ["constant", "broadcast", "pow"]),
    ],
)
def test_arithmetic_with_a_constant(number: float, node: str, left: list[str]) -> None:
    lines = (X, *constant(3, number), f"%9: f32[batch, 4] = {node}", 'output "y" output %9')
    assert simplified(*lines) == left


@pytest.mark.parametrize(
    ("number", "node", "left"),
    [
        (1, "sub(%4, %3)", ["expm1"]),
        (1, "sub(%3, %4)", ["expm1", "neg"]),
        (-1, "add(%4, %3)", ["expm1"]),
        (-1, "add(%3, %4)", ["expm1"]),
        (2, "sub(%4, %3)", ["constant", "broadcast", "exp", "sub"]),
    ],
)
def test_expm1_is_recognised(number: float, node: str, left: list[str]) -> None:
    lines = (X, *constant(3, number), "%4: f32[batch, 4] = exp(%0)", f"%9: f32[batch, 4] = {node}")
    assert simplified(*lines, 'output "y" output %9') == left


def test_log1p_is_recognised_in_a_difference() -> None:
    lines = (X, *constant(3, 1), "%4: f32[batch, 4] = sub(%3, %0)", "%9: f32[batch, 4] = log(%4)")
    assert simplified(*lines, 'output "y" output %9') == ["neg", "log1p"]


def test_sigmoid_is_recognised() -> None:
    lines = (
        X,
        *constant(3, 1),
        "%4: f32[batch, 4] = neg(%0)",
        "%5: f32[batch, 4] = exp(%4)",
        "%6: f32[batch, 4] = add(%3, %5)",
        "%7: f32[batch, 4] = div(%3, %6)",
        'output "y" output %7',
    )
    assert simplified(*lines) == ["sigmoid"]


def test_sigmoid_of_a_scaled_tensor() -> None:
    lines = (
        X,
        *constant(3, 1),
        *constant(8, 1.702),
        "%2: f32[batch, 4] = mul(%0, %8)",
        "%4: f32[batch, 4] = neg(%2)",
        "%5: f32[batch, 4] = exp(%4)",
        "%6: f32[batch, 4] = add(%5, %3)",
        "%7: f32[batch, 4] = div(%3, %6)",
        'output "y" output %7',
    )
    assert simplified(*lines) == ["constant", "broadcast", "mul", "sigmoid"]


def test_log_of_softmax_is_a_difference() -> None:
    lines = (
        X,
        "%3: f32[batch, 4] = exp(%0)",
        "%4: f32[batch] = sum(%3) axes=[1]",
        "%5: f32[batch, 4] = broadcast(%4) shape=[batch, 4] axes=[0]",
        "%6: f32[batch, 4] = div(%3, %5)",
        "%7: f32[batch, 4] = log(%6)",
        'output "y" output %7',
    )
    assert simplified(*lines) == ["exp", "sum", "log", "broadcast", "sub"]


def test_a_division_by_rows_divides_once_a_row() -> None:
    lines = (
        X,
        'input "n" data %1: f32[batch]',
        "%5: f32[batch, 4] = broadcast(%1) shape=[batch, 4] axes=[0]",
        "%6: f32[batch, 4] = div(%0, %5)",
        'output "y" output %6',
    )
    assert simplified(*lines) == ["constant", "broadcast", "div", "broadcast", "mul"]


def test_constants_are_folded() -> None:
    lines = (X, *constant(3, 2), *constant(4, 5), "%6: f32[batch, 4] = mul(%3, %4)", "%7: f32[batch, 4] = add(%0, %6)")
    text = print_graph(simplify(graph(*lines, 'output "y" output %7')))
    assert "constant() value=10.0 dtype=f32" in text
    assert "mul" not in text


def test_inexact_functions_of_constants_are_left_to_the_target() -> None:
    lines = ("%0: f32[] = constant() value=2.0 dtype=f32", "%1: f32[] = exp(%0)", 'output "y" output %1')
    assert simplified(*lines) == ["constant", "exp"]


def test_small_tensors_are_computed_before_they_are_broadcast() -> None:
    lines = (
        X,
        ROW,
        SCALAR,
        "%3: f32[batch, 4] = broadcast(%1) shape=[batch, 4] axes=[1]",
        "%4: f32[batch, 4] = broadcast(%2) shape=[batch, 4] axes=[]",
        "%5: f32[batch, 4] = mul(%3, %4)",
        "%6: f32[batch, 4] = add(%0, %5)",
        'output "y" output %6',
    )
    result = eliminate_dead(simplify(graph(*lines)))
    assert [(node.op.name, str(node.results[0].type)) for node in result.nodes] == [
        ("broadcast", "f32[4]"),
        ("mul", "f32[4]"),
        ("broadcast", "f32[batch, 4]"),
        ("add", "f32[batch, 4]"),
    ]


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (
            (
                "%3: f32[4, batch] = transpose(%0) permutation=[1, 0]",
                "%9: f32[batch, 4] = transpose(%3) permutation=[1, 0]",
            ),
            [],
        ),
        (
            (
                "%3: f32[4*batch] = reshape(%0) shape=[4*batch]",
                "%9: f32[batch, 2, 2] = reshape(%3) shape=[batch, 2, 2]",
            ),
            ["reshape"],
        ),
        (
            (
                "%3: f32[batch, 1, 4] = reshape(%0) shape=[batch, 1, 4]",
                "%9: f32[1, batch, 4] = transpose(%3) permutation=[1, 0, 2]",
            ),
            ["reshape"],
        ),
        (("%9: f32[batch, 4] = slice(%0) starts=[0, 0] sizes=[batch, 4] steps=[1, 1]",), []),
        (("%9: f32[batch, 4] = pad(%0) low=[0, 0] high=[0, 0] value=0.0",), []),
        (
            (
                "%3: f32[batch, 6] = pad(%0) low=[0, 1] high=[0, 1] value=0.0",
                "%9: f32[batch, 4] = slice(%3) starts=[0, 1] sizes=[batch, 4] steps=[1, 1]",
            ),
            [],
        ),
        (
            (
                "%3: f32[batch, 8] = concat(%0, %0) axis=1",
                "%9: f32[batch, 3] = slice(%3) starts=[0, 5] sizes=[batch, 3] steps=[1, 1]",
            ),
            ["slice"],
        ),
        (("%3: f32[batch, 4] = reverse(%0) axes=[1]", "%9: f32[batch, 4] = reverse(%3) axes=[0, 1]"), ["reverse"]),
        (
            (
                "%3: f32[batch, 2] = slice(%0) starts=[0, 0] sizes=[batch, 2] steps=[1, 1]",
                "%4: f32[batch, 2] = slice(%0) starts=[0, 2] sizes=[batch, 2] steps=[1, 1]",
                "%9: f32[batch, 4] = concat(%3, %4) axis=1",
            ),
            [],
        ),
        (
            (
                "%3: f32[batch, 8] = pad(%0) low=[0, 0] high=[0, 4] value=0.0",
                "%4: f32[batch, 8] = pad(%0) low=[0, 4] high=[0, 0] value=0.0",
                "%9: f32[batch, 8] = add(%3, %4)",
            ),
            ["concat"],
        ),
        (("%3: f64[batch, 4] = cast(%0) dtype=f64", "%9: f32[batch, 4] = cast(%3) dtype=f32"), []),
        (
            (
                "%3: f32[batch, 3, 4] = broadcast(%0) shape=[batch, 3, 4] axes=[0, 2]",
                "%9: f32[3, batch, 4] = transpose(%3) permutation=[1, 0, 2]",
            ),
            ["broadcast"],
        ),
        (
            (
                "%3: f32[batch, 3, 4] = broadcast(%0) shape=[batch, 3, 4] axes=[0, 2]",
                "%9: f32[batch, 4] = sum(%3) axes=[1]",
            ),
            ["constant", "broadcast", "mul"],
        ),
        (("%3: f32[4] = sum(%0) axes=[0]", "%9: f32[] = sum(%3) axes=[0]"), ["sum"]),
        # The sum of each row belongs to what makes the row.
        (("%3: f32[batch] = sum(%0) axes=[1]", "%9: f32[] = sum(%3) axes=[0]"), ["sum", "sum"]),
        (("%3: f32[4, batch] = transpose(%0) permutation=[1, 0]", "%9: f32[batch] = sum(%3) axes=[0]"), ["sum"]),
        (("%3: f32[batch, 1, 4] = reshape(%0) shape=[batch, 1, 4]", "%9: f32[batch] = sum(%3) axes=[1, 2]"), ["sum"]),
        (
            (
                "%3: bool[batch, 4] = lt(%0, %0)",
                "%4: bool[batch, 4] = not(%3)",
                "%5: f32[batch, 4] = neg(%0)",
                "%9: f32[batch, 4] = where(%4, %0, %5)",
            ),
            ["lt", "neg", "where"],
        ),
        (("%3: bool[batch, 4] = lt(%0, %0)", "%9: f32[batch, 4] = where(%3, %0, %0)"), []),
    ],
)
def test_movements_and_sums_cancel(lines: tuple[str, ...], left: list[str]) -> None:
    assert simplified(X, *lines, 'output "y" output %9') == left


def test_what_keeps_a_unit_axis_is_computed_without_it() -> None:
    lines = (
        X,
        *constant(90, 2.5)[:1],
        "%3: f32[batch] = sum(%0) axes=[1]",
        "%4: f32[batch, 1] = reshape(%3) shape=[batch, 1]",
        "%5: f32[batch, 1] = exp(%4)",
        "%6: f32[batch, 1] = broadcast(%190) shape=[batch, 1] axes=[]",
        "%7: f32[batch, 1] = add(%5, %6)",
        "%8: f32[batch, 4] = broadcast(%7) shape=[batch, 4] axes=[0, 1]",
        "%9: f32[batch, 4] = mul(%0, %8)",
        'output "y" output %9',
    )
    assert simplified(*lines) == ["constant", "sum", "exp", "broadcast", "add", "broadcast", "mul"]


# Tensors without elements


@pytest.mark.parametrize(
    ("node", "left"),
    [
        ("f32[batch, 4] = concat(%1, %0, %1) axis=1", []),
        ("f32[batch, 8] = concat(%0, %1, %0) axis=1", ["concat"]),
        ("f32[batch, 3] = pad(%1) low=[0, 1] high=[0, 2] value=5.0", ["constant", "broadcast"]),
        ("f32[batch] = sum(%1) axes=[1]", ["constant", "broadcast"]),
    ],
)
def test_what_has_no_elements_is_left_out(node: str, left: list[str]) -> None:
    nothing = "%1: f32[batch, 0] = slice(%0) starts=[0, 2] sizes=[batch, 0] steps=[1, 1]"
    assert simplified(X, nothing, f"%2: {node}", 'output "y" output %2') == left
