"""Pictures of graphs in levels: layers as boxes that open, repeated ones once, in each direction of a step."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from elaboration import program
from repository import ROOT

from compiler.frontend.program import Program
from compiler.graph.boxes import Drawing
from compiler.graph.pictures import print_dot, print_svg
from compiler.inspection.level_drawing import drawing_of_levels
from compiler.inspection.levels import levels_of
from compiler.programs.steps.training_step import training_step
from runtime.cli.main import main

SPACE = "{http://www.w3.org/2000/svg}"
RECURRENT = """\
model Net {
    input x: f32[batch, 5, 4]
    hs = x |> lstm(6)
    output logits = hs[:, -1] |> dense(2)
}

train Net {
    target label: i32[batch] in 0..2
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 0.1)
    batch = 8
}
"""


@pytest.fixture(scope="module")
def resnet() -> Program:
    return program((ROOT / "examples" / "resnet20" / "model.dl").read_text())


def own(found: Program, depth: int) -> Drawing:
    return drawing_of_levels(found.training_graph, levels_of(found), depth, is_forward=True)


def titles(drawing: Drawing) -> list[str]:
    return [box.lines[0] for box in drawing.boxes]


def drawings(drawing: Drawing) -> Iterator[Drawing]:
    yield drawing
    for box in drawing.boxes:
        if box.content is not None:
            yield from drawings(box.content)


def test_a_residual_network_is_a_column_of_layers(resnet: Program) -> None:
    drawing = own(resnet, 1)
    layers = ["image / 255", "normalize", "conv2d", "batch_norm", "relu", "residual × 3", "residual", "residual × 2"]
    layers += ["residual", "residual × 2", "global_average_pool", "dense", "cross_entropy"]
    ends = ['l2(5e-5, on = "*.W")', "accuracy", "logits", "loss", "accuracy"]
    assert titles(drawing) == ["image", "label", *layers, *ends]
    stage = next(box for box in drawing.boxes if box.lines[0] == "residual × 3")
    assert stage.lines[1:] == ("f32[batch, 16, 32, 32]", "14,016 parameters")
    root = ElementTree.fromstring(print_svg(drawing))
    assert int(root.attrib["width"]) < 500


def test_a_level_opens_around_its_parts_of_the_first_round(resnet: Program) -> None:
    opened = own(resnet, 2)
    stage = next(box for box in opened.boxes if box.lines[0] == "residual × 3")
    assert stage.content is not None
    parts = ["conv2d", "batch_norm", "relu", "conv2d", "batch_norm", "relu"]
    assert [title for title in titles(stage.content) if title in parts] == parts
    assert "subgraph cluster_" in print_dot(opened)
    assert "subgraph" not in print_dot(own(resnet, 1))


@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_arrows_join_boxes_of_one_picture_forwards(resnet: Program, depth: int) -> None:
    graphs = [(resnet.training_graph, True), (training_step(resnet), False)]
    for graph, is_forward in graphs:
        for drawing in drawings(drawing_of_levels(graph, levels_of(resnet), depth, is_forward)):
            keys = [box.key for box in drawing.boxes]
            assert len(keys) == len(set(keys))
            assert all(keys.index(arrow.source) < keys.index(arrow.target) for arrow in drawing.arrows)


def test_all_boxes_stand_in_the_picture(resnet: Program) -> None:
    drawing = own(resnet, 3)
    root = ElementTree.fromstring(print_svg(drawing))
    count = sum(len(part.boxes) for part in drawings(drawing))
    assert len(root.findall(f".//{SPACE}rect")) == count + 1  # and the ground
    width, height = (int(root.attrib[name]) for name in ("width", "height"))
    assert 0 < width < 2000
    assert height > 0


def test_a_step_has_boxes_for_each_direction() -> None:
    found = program(RECURRENT)
    shown = titles(drawing_of_levels(training_step(found), levels_of(found), 1, is_forward=False))
    assert {"lstm", "lstm, backward", "lstm, update", "dense", "dense, backward", "cross_entropy"} <= set(shown)


def test_a_scan_opens_to_the_operations_of_a_step() -> None:
    found = own(program(RECURRENT), 9)
    shown = {title for part in drawings(found) for title in titles(part)}
    assert "scan of 5 steps" in shown
    assert any("sigmoid" in title for title in shown)


@pytest.mark.parametrize(
    "words", [["--stage", "graph"], ["--format", "graphml"], ["--stage", "schedule", "--format", "svg"]]
)
def test_depth_is_for_pictures_of_graphs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / "examples" / "xor" / "model.dl")
    assert main(["show", file, "--depth", "2", *words]) == 2
    assert "--depth is for pictures of graphs" in capsys.readouterr().err
