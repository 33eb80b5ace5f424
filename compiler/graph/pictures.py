"""A drawing as text in a format for people or other programs; graphviz lays out pictures where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from itertools import count, pairwise

from compiler.graph.boxes import Box, Drawing
from compiler.graph.layers import Placement, placed
from compiler.support.harmless import harmless
from compiler.support.palette import colour, tint
from compiler.support.record import record

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
        replace(
            box,
            lines=tuple(map(harmless, box.lines)),
            remark=harmless(box.remark),
            content=None if box.content is None else _harmless(box.content),
        )
        for box in drawing.boxes
    )
    return replace(drawing, name=harmless(drawing.name), boxes=boxes)


def _by_graphviz(drawing: Drawing) -> str:
    """The picture, or nothing where graphviz is not installed or does not manage."""
    program = shutil.which("dot")
    if program is None or _count(drawing) > _MOST_BOXES:
        return ""
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=print_dot(drawing).encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode(errors="replace")


def _count(drawing: Drawing) -> int:
    return sum(1 + (0 if box.content is None else _count(box.content)) for box in drawing.boxes)


_CHARACTER, _LINE, _PADDING, _BETWEEN, _MARGIN = 6.6, 14.0, 8.0, 34.0, 16.0


@record
class _Picture:
    """A drawing laid out: its extent, and its elements as lines."""

    width: float
    height: float
    lines: tuple[str, ...]


def print_svg(drawing: Drawing) -> str:
    """The picture as text. An arrow across very many layers is not drawn; its target names its source."""
    laid = _laid(drawing)
    size = (laid.width + 2 * _MARGIN, laid.height + 2 * _MARGIN)
    return "\n".join((*_head(drawing.name, *size), *laid.lines, "</g>", "</svg>")) + "\n"


def _laid(drawing: Drawing) -> _Picture:
    inner = {box.key: _laid(box.content) for box in drawing.boxes if box.content is not None}
    widths = {box.key: _width(box, inner) for box in drawing.boxes}
    places = placed(drawing, widths)
    boxes = _with_references(drawing, places)
    heights = {key: _height(box, inner) for key, box in boxes.items()}
    bands = _bands(heights, places)
    shown = (_box(box, (widths[key], heights[key]), places, bands, inner.get(key)) for key, box in boxes.items())
    lines = (*_arrows(heights, places, bands), *shown)
    return _Picture(places.width, bands[-1][1] if bands else 0.0, lines)


def _width(box: Box, inner: Mapping[str, _Picture]) -> float:
    text = max(map(len, box.lines)) * _CHARACTER
    return max(text, inner[box.key].width if box.key in inner else 0.0) + 2 * _PADDING


def _head(name: str, width: float, height: float) -> list[str]:
    box = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="Menlo, Consolas, monospace" font-size="11">',
        f"<title>{escape(name)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{_EDGE}"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="{_PAPER}"/>',
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


def _height(box: Box, inner: Mapping[str, _Picture]) -> float:
    content = inner[box.key].height + _PADDING if box.key in inner else 0.0
    return len(box.lines) * _LINE + _PADDING + content


def _bands(boxes: Mapping[str, float], places: Placement) -> list[tuple[float, float]]:
    """The top and the bottom of each layer."""
    heights = [_LINE] * (max(places.layers.values(), default=-1) + 1)
    for key, height in boxes.items():
        heights[places.layers[key]] = max(heights[places.layers[key]], height)
    bands: list[tuple[float, float]] = []
    top = 0.0
    for height in heights:
        bands.append((top, top + height))
        top += height + _BETWEEN
    return bands


def _box(
    box: Box, size: tuple[float, float], places: Placement, bands: list[tuple[float, float]], inner: _Picture | None
) -> str:
    (width, height), centre = size, places.centres[box.key]
    left, top = centre - width / 2, bands[places.layers[box.key]][0]
    shape = f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"'
    faint = "" if inner is None else ' fill-opacity="0.35"'
    parts = [f'{shape} fill="{colour_of(box.kind)}"{faint} stroke="{_INK}40"/>']
    for number, line in enumerate(box.lines):
        weight = ' font-weight="600"' if number == 0 else f' fill="{_QUIET}"'
        y = top + _PADDING / 2 + (number + 0.78) * _LINE
        parts.append(f'<text x="{centre:.1f}" y="{y:.1f}" text-anchor="middle"{weight}>{escape(line)}</text>')
    if inner is not None:
        start = top + len(box.lines) * _LINE + _PADDING
        parts += [f'<g transform="translate({centre - inner.width / 2:.1f} {start:.1f})">', *inner.lines, "</g>"]
    remark = f"<title>{escape(box.remark)}</title>" if box.remark else ""
    return f"<g>{remark}{''.join(parts)}</g>"


def _arrows(heights: Mapping[str, float], places: Placement, bands: list[tuple[float, float]]) -> list[str]:
    """Curves between the layers; straight down past a layer, so that no box is crossed."""
    lines: list[str] = []
    for arrow, route in places.routes:
        bottom = bands[places.layers[arrow.source]][0] + heights[arrow.source]
        path = f"M{route[0][0]:.1f} {bottom:.1f}"
        for (x0, layer), (x1, _) in pairwise(route):
            below, top = bands[layer][1], bands[layer + 1][0]
            middle = (below + top) / 2
            path += f" V{below:.1f} C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {top:.1f}"
        lines.append(f'<path d="{path}" fill="none" stroke="{_EDGE}" marker-end="url(#tip)"/>')
    return lines


_COLOURS = {
    "data": ("own", 1.0),
    "parameter": ("fourth", 0.14),
    "new parameter": ("fourth", 0.14),
    "state": ("fourth", 0.08),
    "new state": ("fourth", 0.08),
    "optimizer_state": ("fourth", 0.08),
    "new optimizer_state": ("fourth", 0.08),
    "setting": ("panel", 1.0),
    "seed": ("panel", 1.0),
    "step": ("panel", 1.0),
    "output": ("own-edge", 0.35),
    "contraction": ("forward", 0.3),
    "forward": ("forward", 0.12),
    "backward": ("backward", 0.16),
    "update": ("update", 0.16),
}
"""Of each kind of box, its colour and the share of it."""
_PAPER, _INK, _QUIET, _EDGE = (colour(name) for name in ("raised", "ink", "quiet", "faint"))


def colour_of(kind: str) -> str:
    """The fill of a box; white for a kind without a colour."""
    return tint(*_COLOURS.get(kind, ("raised", 1.0)))


def dark_style(selector: str) -> str:
    """Rules of CSS that make the pictures of `drawn` below a selector dark."""
    shades = {*_COLOURS.values(), *((name, 1.0) for name in ("raised", "quiet", "faint"))}
    rules = [
        f'{selector} [{kind}="{tint(*shade)}"] {{ {kind}: {tint(*shade, is_dark=True)} }}'
        for shade in sorted(shades)
        for kind in ("fill", "stroke")
    ]
    ink = tint("ink", 1.0, is_dark=True)
    of_graphviz = f"{selector} svg > g > polygon {{ fill: {tint('raised', 1.0, is_dark=True)} }}"
    frames = f'{selector} :is([stroke^="{_INK}"], path[stroke]:not([stroke^="#"]):not([stroke="none"]))'
    letters = f"{selector} text:not([fill]) {{ fill: {ink} }}"
    return "\n".join((*rules, of_graphviz, f"{frames} {{ stroke: {ink}; stroke-opacity: 0.3 }}", letters))


def print_dot(drawing: Drawing) -> str:
    """`dot -Tsvg` and other programs of graphviz draw it."""
    lines = [
        f"digraph {json.dumps(drawing.name, ensure_ascii=False)} {{",
        "  compound=true",
        f'  node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=10 color="{_INK}40"]',
        f'  edge [color="{_EDGE}" arrowsize=0.6]',
    ]
    return "\n".join((*lines, *_dot_lines(drawing, count(), "  "), "}")) + "\n"


def _dot_lines(drawing: Drawing, numbers: Iterator[int], indent: str) -> Iterator[str]:
    """Boxes, then arrows; a box with content is a cluster, whose arrows begin and end at a box in it."""
    ends: dict[str, tuple[str, str]] = {}  # a node, and the cluster that hides it
    for box in drawing.boxes:
        name = f"n{next(numbers)}"
        label, remark = (json.dumps("\n".join(part), ensure_ascii=False) for part in (box.lines, [box.remark]))
        if box.content is None or not box.content.boxes:
            ends[box.key] = (name, "")
            yield f'{indent}{name} [label={label} fillcolor="{colour_of(box.kind)}" tooltip={remark}]'
            continue
        ends[box.key] = (name, f"cluster_{name}")
        yield f"{indent}subgraph cluster_{name} {{"
        yield f'{indent}  label={label} style="rounded,filled" fillcolor="{colour_of(box.kind)}60" tooltip={remark}'
        yield f'{indent}  {name} [style=invis shape=point label=""]'
        yield from _dot_lines(box.content, numbers, indent + "  ")
        yield f"{indent}}}"
    for arrow in drawing.arrows:
        (source, tail), (target, head) = ends[arrow.source], ends[arrow.target]
        options = [f"{name}={cluster}" for name, cluster in (("ltail", tail), ("lhead", head)) if cluster]
        yield f"{indent}{source} -> {target}" + (f" [{' '.join(options)}]" if options else "")
