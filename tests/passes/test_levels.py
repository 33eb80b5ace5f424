"""A program in levels: what its text applies, nested and repeated, with every operation in one place."""

from __future__ import annotations

import pytest
from elaboration import program
from repository import ROOT

from compiler.frontend.program import Program
from compiler.inspection.levels import Level, Places, flows, levels_of, of_settings
from compiler.programs.steps.training_step import training_step

BLOCKS = """\
layer block(units: int)(x: [batch, n]) -> [batch, n] {
    y = x |> dense(units) |> relu
    return x + (y |> dense(n))
}

model Net(depth = 3) {
    input x: f32[batch, 8]
    for _ in 0..depth { x = x |> block(16) }
    for _ in 0..2 { x = x |> dense(8) |> tanh_of }
    output logits = x / 2 |> dense(3)
}

fn tanh_of(x) = tanh(x)

train Net {
    target label: i32[batch] in 0..3
    loss = cross_entropy(logits, label)
    penalty = l2(0.1, on = "*.W")
    optimizer = adam(lr = 0.1)
    batch = 8
}
"""
SLOPES = """\
model Net(drop = 0.5) {
    input x: f32[batch, 4]
    mean = x |> dense(6)
    spread = x |> dense(6)
    u = (mean * exp(spread) |> dense(6, weights = orthogonal) |> tanh |> dense(1))[:, 0]
    output slope = gradient(u, x)
    fixed = one_hot(4)(arange(4))
    output moved = x + fixed[2] * drop
}

train Net {
    loss = mean(slope ^ 2) + mean(moved ^ 2)
    optimizer = adam(lr = 0.1)
    batch = 8
}
"""
RECURRENT = """\
model Net {
    input x: f32[batch, 5, 4]
    hs = x |> lstm(6)
    output logits = hs[:, -1] |> dense(2)
}
"""


def names(level: Level) -> list[tuple[str, str, int]]:
    return [(part.kind, part.name, part.times) for part in level.parts]


@pytest.fixture(scope="module")
def blocks() -> Program:
    return program(BLOCKS)


def test_the_model_applies_what_its_text_says_and_repeats_stand_once(blocks: Program) -> None:
    root = levels_of(blocks)
    assert names(root) == [
        ("layer", "block", 3),
        ("repeat", "dense, tanh_of", 2),
        ("line", "x / 2", 1),
        ("layer", "dense", 1),
        ("fn", "cross_entropy", 1),
        ("line", 'l2(0.1, on = "*.W")', 1),
    ]
    assert root.parts[0].paths == ("x.0.block", "x.1.block", "x.2.block")
    assert names(root.parts[0]) == [
        ("layer", "dense", 1),
        ("fn", "relu", 1),
        ("layer", "dense", 1),
        ("line", "x + (y |> dense(n))", 1),
    ]


def test_flows_join_the_parts_of_a_level(blocks: Program) -> None:
    root = levels_of(blocks)
    found = {(flow.source, flow.target, str(flow.value.type)) for flow in flows(root.parts)}
    assert {("", "0", "f32[batch, 8]"), ("0", "1", "f32[batch, 8]"), ("3", "4", "f32[batch, 3]")} <= found
    assert ("", "3", "f32[8, 3]") in found  # a parameter


def test_a_scan_has_the_operations_of_a_step() -> None:
    lstm = levels_of(program(RECURRENT)).parts[0]
    scan = next(level for level in lstm.walk() if level.kind == "scan")
    assert scan.name == "scan of 5 steps"
    assert {node.op.name for node in scan.nodes} >= {"contraction", "tanh", "scan"}
    assert all(part.nodes for part in scan.parts)


def test_nodes_of_later_stages_have_a_place(blocks: Program) -> None:
    places = Places(levels_of(blocks))
    found = {tuple(level.name for level in places.of(node.origins)) for node in training_step(blocks).nodes}
    assert ("Net", "block", "dense", "x @ W") in found
    assert any(chain[:2] == ("Net", "cross_entropy") for chain in found)
    backward = [n for n in training_step(blocks).nodes if n.origins and n.origins[0].direction.value != "forward"]
    assert all(len(places.of(node.origins)) > 1 for node in backward)


@pytest.mark.parametrize("example", ["resnet20", "vgg", "googlenet", "lenet", "xor"])
def test_every_operation_of_an_example_stands_in_one_line(example: str) -> None:
    found = program((ROOT / "examples" / example / "model.dl").read_text())
    root = levels_of(found)
    leaves = [level for level in root.walk() if all(not parts for parts in level.rounds)]
    standing = [node.results[0].index for leaf in leaves for node in leaf.nodes]
    assert sorted(standing) == sorted(node.results[0].index for node in found.training_graph.nodes)
    keys = [level.key for level in root.walk()]
    assert len(keys) == len(set(keys))


def test_a_residual_network_is_a_dozen_boxes() -> None:
    root = levels_of(program((ROOT / "examples" / "resnet20" / "model.dl").read_text()))
    assert len(root.parts) == 15
    assert [part.times for part in root.parts if part.name == "residual"] == [3, 1, 2, 1, 2]


def test_layers_beside_each_other_are_boxes_of_their_own() -> None:
    found = [(part.name, part.times, part.span and part.span.line) for part in levels_of(program(SLOPES)).parts]
    assert found[:2] == [("dense", 1, 3), ("dense", 1, 4)]


def test_what_computes_a_gradient_stands_in_its_line() -> None:
    root = levels_of(program(SLOPES))
    (line,) = [part for part in root.parts if part.name == "gradient(u, x)"]
    assert "contraction" in {node.op.name for node in line.nodes}
    assert all(part.span is not None and not part.span.source.is_library for part in root.parts)
    (value,) = [entry.value for entry in program(SLOPES).training_graph.outputs if entry.name == "slope"]
    assert value.index in line.values


def test_tensors_that_settings_decide_flow_and_numbers_do_not() -> None:
    found = program(SLOPES)
    held, parts = of_settings(found.training_graph), levels_of(found).parts
    lines = {part.key: part.span.line for part in parts if part.span is not None}
    joined = {(lines.get(flow.source), lines[flow.target]) for flow in flows(parts) if flow.value.index not in held}
    assert (7, 8) in joined
    graph = found.training_graph
    types = {result.index: result.type for node in graph.nodes for result in node.results}
    assert held & types.keys()
    assert all(types[index].rank == 0 for index in held & types.keys())
