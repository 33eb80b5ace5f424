"""A small model with a `train` whose keys a test changes, and what tests look up in its program."""

from __future__ import annotations

from compiler.frontend.program import Program, Setting
from compiler.graph.ir import Graph

MODEL = """
model M(hidden = 4, rate = 0.5, classes = 3) {
    input x: f32[batch, 5]
    output logits = x |> dense(hidden) |> relu |> dropout(rate) |> dense(classes)
}
"""
REQUIRED = {"loss": "cross_entropy(logits, label)", "optimizer": "adam(lr = 0.01)", "batch": "8"}


def text(before: str = "", head: str = "train M", target: str = "u8[batch] in 0..classes", **entries: str) -> str:
    lines = "".join(f"    {k} = {v}\n" for k, v in (REQUIRED | entries).items() if v)
    return f"{before}{MODEL}{head} {{\n    target label: {target}\n{lines}}}\n"


def setting(found: Program, name: str) -> Setting:
    return next(s for s in found.settings if s.name == name)


def inputs(graph: Graph) -> list[str]:
    return [entry.name for entry in graph.inputs]
