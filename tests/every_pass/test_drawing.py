"""Pictures of random graphs: complete, without overlaps, with arrows that point down."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import networkx
import pytest
from graph_text import X, constant, graph
from random_graphs import random_graph

from compiler.graph import pictures
from compiler.graph.drawing import drawing_of, graph_to_json
from compiler.graph.layers import LONGEST, placed
from compiler.graph.network import network_of
from compiler.graph.pictures import drawn, print_dot, print_svg
from compiler.pipeline import optimise_graph

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("seed", range(8))
def test_boxes_do_not_overlap_and_arrows_point_down(seed: int) -> None:
    drawing = drawing_of(optimise_graph(random_graph(seed, 60)[0]))
    widths = {box.key: 40.0 + 10 * (number % 7) for number, box in enumerate(drawing.boxes)}
    places = placed(drawing, widths)
    rows: dict[int, list[tuple[float, float]]] = {}
    for box in drawing.boxes:
        centre, half = places.centres[box.key], widths[box.key] / 2
        assert centre - half >= -1e-6
        assert centre + half <= places.width + 1e-6
        rows.setdefault(places.layers[box.key], []).append((centre - half, centre + half))
    for row in rows.values():
        row.sort()
        assert all(left[1] <= right[0] for left, right in pairwise(row))
    assert len(places.routes) + len(places.left_out) == len(drawing.arrows)
    for arrow, route in places.routes:
        assert [layer for _, layer in route] == list(
            range(places.layers[arrow.source], places.layers[arrow.target] + 1)
        )
    for arrow in places.left_out:
        assert places.layers[arrow.target] - places.layers[arrow.source] > LONGEST


@pytest.mark.parametrize("seed", range(4))
def test_the_picture_shows_every_box_and_arrow(seed: int) -> None:
    drawing = drawing_of(random_graph(seed, 30)[0])
    root = ElementTree.fromstring(print_svg(drawing))
    assert len(root.findall(f"{SPACE}g/{SPACE}g")) == len(drawing.boxes)
    text = print_dot(drawing)
    assert text.count(" -> ") == len(drawing.arrows)
    assert text.count("fillcolor") == len(drawing.boxes)
    network = network_of(drawing)
    assert len(network) == len(drawing.boxes)
    assert networkx.is_directed_acyclic_graph(network)


def test_graphml_is_read_back() -> None:
    drawing = drawing_of(random_graph(1, 30)[0])
    network = networkx.parse_graphml(drawn(drawing, "graphml"))
    assert {key: data["label"] for key, data in network.nodes(data=True)} == {
        box.key: "\n".join(box.lines) for box in drawing.boxes
    }
    assert set(network.edges()) == {(arrow.source, arrow.target) for arrow in drawing.arrows}


@pytest.mark.parametrize("script", ["cat > /dev/null; echo '<svg>drawn by dot</svg>'", "exit 1", "sleep 60"])
def test_graphviz_draws_where_it_is_installed_and_can(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = drawing_of(random_graph(1, 10)[0])
    monkeypatch.setattr(pictures, "_SECONDS", 1.0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
    assert drawn(drawing, "svg") == print_svg(drawing)
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
    program.chmod(0o755)
    draws = "drawn" in script
    assert drawn(drawing, "svg") == ("<svg>drawn by dot</svg>\n" if draws else print_svg(drawing))
    monkeypatch.setattr(pictures, "_MOST_BOXES", 3)
    assert drawn(drawing, "svg") == print_svg(drawing)


def test_constants_stand_in_their_users_and_long_arrows_are_named() -> None:
    steps = [f"%{i + 1}: f32[batch, 4] = exp(%{i})" for i in range(3, 20)]
    lines = (X, *constant(90, 0.5), "%3: f32[batch, 4] = mul(%0, %90)", *steps)
    last = ("%30: f32[batch, 4] = add(%20, %3)", 'output "<y>" output %30')
    drawing = drawing_of(graph(*lines, *last))
    texts = {box.key: box.lines for box in drawing.boxes}
    assert texts["node 2"] == ("%3 = mul 0.5", "f32[batch, 4]")
    assert not any("constant" in line for text in texts.values() for line in text)
    picture = print_svg(drawing)
    assert "↑ %3" in picture
    assert "&lt;y&gt;" in picture


def test_json_holds_the_whole_graph() -> None:
    made = optimise_graph(random_graph(3, 30)[0])
    data = json.loads(json.dumps(graph_to_json(made)))
    assert [node["op"] for node in data["nodes"]] == [node.op.name for node in made.nodes]
    assert [node["operands"] for node in data["nodes"]] == [[o.index for o in node.operands] for node in made.nodes]
    assert [entry["name"] for entry in data["inputs"]] == [entry.name for entry in made.inputs]
    assert [output["value"] for output in data["outputs"]] == [output.value.index for output in made.outputs]
