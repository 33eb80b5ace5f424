"""A drawing as text of the language of graphviz."""

from __future__ import annotations

import json

from compiler.graph.boxes import Drawing
from compiler.graph.palette import colour_of


def print_dot(drawing: Drawing) -> str:
    """`dot -Tsvg` and other programs of graphviz draw it."""
    numbers = {box.key: number for number, box in enumerate(drawing.boxes)}
    lines = [
        f"digraph {json.dumps(drawing.name, ensure_ascii=False)} {{",
        '  node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=10 color="#00000040"]',
        '  edge [color="#00000080" arrowsize=0.6]',
    ]
    for box in drawing.boxes:
        label, remark = (json.dumps("\n".join(part), ensure_ascii=False) for part in (box.lines, [box.remark]))
        lines.append(f'  n{numbers[box.key]} [label={label} fillcolor="{colour_of(box.kind)}" tooltip={remark}]')
    lines.extend(f"  n{numbers[arrow.source]} -> n{numbers[arrow.target]}" for arrow in drawing.arrows)
    return "\n".join((*lines, "}")) + "\n"
