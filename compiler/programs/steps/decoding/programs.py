"""The programs that decode sequences, by kind: `window`, and for R sequences at once `prompt R` and `position R`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.programs.steps.decoding.incremental import position_graph, prompt_graph
from compiler.programs.steps.decoding.window import window_graph

DECODING: Mapping[str, Callable[[Program, int], Graph]] = {
    "window": lambda program, _: window_graph(program),
    "prompt": prompt_graph,
    "position": position_graph,
}


def decoding_graph(program: Program, kind: str) -> Graph:
    name, _, rows = kind.partition(" ")
    return DECODING[name](program, int(rows or 1))
