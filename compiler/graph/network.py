"""A drawing as a networkx graph, for questions that its algorithms answer, and as the GraphML that it writes."""

from __future__ import annotations

from typing import Any

import networkx

from compiler.graph.boxes import Drawing


def network_of(drawing: Drawing) -> networkx.DiGraph[Any]:
    """A node for each box by its key, with `label`, `kind` and `origin`; an edge for each arrow."""
    network: networkx.DiGraph[Any] = networkx.DiGraph(name=drawing.name)
    for box in drawing.boxes:
        network.add_node(box.key, label="\n".join(box.lines), kind=box.kind, origin=box.remark)
    for arrow in drawing.arrows:
        network.add_edge(arrow.source, arrow.target)
    return network


def print_graphml(drawing: Drawing) -> str:
    """The text of a GraphML file, which graph editors and libraries read."""
    lines = networkx.generate_graphml(network_of(drawing))  # pyright: ignore[reportUnknownMemberType]
    return "\n".join(lines) + "\n"
