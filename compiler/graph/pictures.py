"""A drawing as text in a format for people or other programs; graphviz lays out pictures where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from itertools import pairwise

from compiler.graph.boxes import Box, Drawing
from compiler.graph.layers import Placement, placed
from compiler.support.harmless import harmless

# Beyond so many boxes graphviz takes longer than anybody waits.
_MOST_BOXES, _SECONDS = 1000, 20.0


def drawn(drawing: Drawing, format: str) -> str:
    """The drawing as `dot`, `graphml` or `svg`."""
    drawing = _harmless(drawing)
    match format:
        case "dot":
            return print_dot(drawing)
        case "graphml":
            from compiler.graph.network import print_graphml  # networkx is slow to import, and only this needs it

            return print_graphml(drawing)
        case _:
            return _by_graphviz(drawing) or print_svg(drawing)


def _harmless(drawing: Drawing) -> Drawing:
    """XML has no control characters, not even escaped."""
    boxes = tuple(
        replace(box, lines=tuple(map(harmless, box.lines)), remark=harmless(box.remark)) for box in drawing.boxes
    )
    return replace(drawing, name=harmless(drawing.name), boxes=boxes)


def _by_graphviz(drawing: Drawing) -> str:
    """The picture, or nothing where graphviz is not installed or does not manage."""
    program = shutil.which("dot")
    if program is None or len(drawing.boxes) > _MOST_BOXES:
        return ""
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=print_dot(drawing).encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode(errors="replace")


_CHARACTER, _LINE, _PADDING, _BETWEEN, _MARGIN = 6.6, 14.0, 8.0, 34.0, 16.0


def print_svg(drawing: Drawing) -> str:
    """The picture as text. An arrow across very many layers is not drawn; its target names its source."""
    widths = {box.key: max(map(len, box.lines)) * _CHARACTER + 2 * _PADDING for box in drawing.boxes}
    places = placed(drawing, widths)
    boxes = _with_references(drawing, places)
    bands = _bands(boxes, places)
    size = (places.width + 2 * _MARGIN, (bands[-1][1] if bands else 0.0) + 2 * _MARGIN)
    body = [*_arrows(boxes, places, bands), *(_box(box, widths[box.key], places, bands) for box in boxes.values())]
    return "\n".join((*_head(drawing.name, *size), *body, "</g>", "</svg>")) + "\n"


def _head(name: str, width: float, height: float) -> list[str]:
    box = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="Menlo, Consolas, monospace" font-size="11">',
        f"<title>{escape(name)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#777"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<g transform="translate({_MARGIN:.0f} {_MARGIN:.0f})">',
    ]


def _with_references(drawing: Drawing, places: Placement) -> dict[str, Box]:
    """The boxes by key; the target of an arrow that is left out says where it comes from."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    texts = {box.key: box.lines[0] for box in drawing.boxes}
    for arrow in places.left_out:
        is_input = arrow.source.startswith("input ")
        names[arrow.target].append(texts[arrow.source] if is_input or not arrow.name else arrow.name)
    return {
        box.key: replace(box, lines=(*box.lines, f"↑ {', '.join(names[box.key])}")) if box.key in names else box
        for box in drawing.boxes
    }


def _height(box: Box) -> float:
    return len(box.lines) * _LINE + _PADDING


def _bands(boxes: Mapping[str, Box], places: Placement) -> list[tuple[float, float]]:
    """The top and the bottom of each layer."""
    heights = [_LINE] * (max(places.layers.values(), default=-1) + 1)
    for key, box in boxes.items():
        heights[places.layers[key]] = max(heights[places.layers[key]], _height(box))
    bands: list[tuple[float, float]] = []
    top = 0.0
    for height in heights:
        bands.append((top, top + height))
        top += height + _BETWEEN
    return bands


def _box(box: Box, width: float, places: Placement, bands: list[tuple[float, float]]) -> str:
    left, top = places.centres[box.key] - width / 2, bands[places.layers[box.key]][0]
    shape = f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_height(box):.1f}" rx="5"'
    parts = [f'{shape} fill="{colour_of(box.kind)}" stroke="#00000040"/>']
    for number, line in enumerate(box.lines):
        weight = ' font-weight="600"' if number == 0 else ' fill="#555"'
        y = top + _PADDING / 2 + (number + 0.78) * _LINE
        parts.append(
            f'<text x="{places.centres[box.key]:.1f}" y="{y:.1f}" text-anchor="middle"{weight}>{escape(line)}</text>'
        )
    remark = f"<title>{escape(box.remark)}</title>" if box.remark else ""
    return f"<g>{remark}{''.join(parts)}</g>"


def _arrows(boxes: Mapping[str, Box], places: Placement, bands: list[tuple[float, float]]) -> list[str]:
    """Curves between the layers; straight down past a layer, so that no box is crossed."""
    lines: list[str] = []
    for arrow, route in places.routes:
        bottom = bands[places.layers[arrow.source]][0] + _height(boxes[arrow.source])
        path = f"M{route[0][0]:.1f} {bottom:.1f}"
        for (x0, layer), (x1, _) in pairwise(route):
            below, top = bands[layer][1], bands[layer + 1][0]
            middle = (below + top) / 2
            path += f" V{below:.1f} C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {top:.1f}"
        lines.append(f'<path d="{path}" fill="none" stroke="#999" marker-end="url(#tip)"/>')
    return lines


_COLOURS = {
    "data": "#fdf3c8",
    "parameter": "#cfe8cf",
    "new parameter": "#cfe8cf",
    "state": "#dcebd0",
    "new state": "#dcebd0",
    "optimizer_state": "#e3ecd8",
    "new optimizer_state": "#e3ecd8",
    "setting": "#eeeeee",
    "seed": "#eeeeee",
    "step": "#eeeeee",
    "output": "#fbd9c0",
    "contraction": "#b9cdf0",
    "forward": "#e4ecfa",
    "backward": "#f8dfe6",
    "update": "#e9e0f5",
}


def colour_of(kind: str) -> str:
    """The fill of a box; white for a kind without a colour."""
    return _COLOURS.get(kind, "#ffffff")


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
