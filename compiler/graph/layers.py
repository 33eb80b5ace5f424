"""Places the boxes of a drawing in layers from top to bottom, so that arrows point down and few cross.

The steps are those of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures"
(1981): layers, stops where an arrow passes a layer, order by averages of the neighbours, then coordinates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from compiler.graph.boxes import Arrow, Drawing
from compiler.support.record import record

LONGEST = (
    10  # an arrow across more layers is named in its target instead: a picture of such arrows is a picture of them
)
_SWEEPS = 6
_GAP = 18.0
_STOP_WIDTH = 6.0


@record
class Placement:
    """Where things stand: the centre and layer of each box, the stops of each drawn arrow, and the arrows left out."""

    centres: Mapping[str, float]
    layers: Mapping[str, int]
    routes: tuple[tuple[Arrow, tuple[tuple[float, int], ...]], ...]
    left_out: tuple[Arrow, ...]
    width: float


def placed(drawing: Drawing, widths: Mapping[str, float]) -> Placement:
    layers = _layers_of(drawing)
    drawn = [a for a in drawing.arrows if layers[a.target] - layers[a.source] <= LONGEST]
    left_out = tuple(a for a in drawing.arrows if layers[a.target] - layers[a.source] > LONGEST)
    grid = _Grid(widths, layers)
    paths = [grid.path_of(number, arrow) for number, arrow in enumerate(drawn)]
    grid.sort()
    centres = grid.centres()
    routes = tuple(
        (arrow, tuple((centres[key], grid.layers[key]) for key in path))
        for arrow, path in zip(drawn, paths, strict=True)
    )
    right = max((centres[box.key] + widths[box.key] / 2 for box in drawing.boxes), default=0.0)
    return Placement(centres, layers, routes, left_out, right)


def _layers_of(drawing: Drawing) -> dict[str, int]:
    """The longest way from a source; sources stand right above their first user."""
    sources: defaultdict[str, list[str]] = defaultdict(list)
    targets: defaultdict[str, list[str]] = defaultdict(list)
    for arrow in drawing.arrows:
        sources[arrow.target].append(arrow.source)
        targets[arrow.source].append(arrow.target)
    layers: dict[str, int] = {}
    for box in drawing.boxes:
        layers[box.key] = max((layers[source] + 1 for source in sources[box.key]), default=0)
    for box in drawing.boxes:
        if not sources[box.key] and targets[box.key]:
            layers[box.key] = min(layers[target] for target in targets[box.key]) - 1
    lowest = min(layers.values(), default=0)
    return {key: layer - lowest for key, layer in layers.items()}


class _Grid:
    """The rows of boxes and stops. A stop is a narrow place where an arrow passes a layer."""

    def __init__(self, widths: Mapping[str, float], layers: Mapping[str, int]) -> None:
        self.widths, self.layers = dict(widths), dict(layers)
        self.rows: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
        for key, layer in layers.items():
            self.rows[layer].append(key)
        self.above: defaultdict[str, list[str]] = defaultdict(list)
        self.below: defaultdict[str, list[str]] = defaultdict(list)

    def path_of(self, number: int, arrow: Arrow) -> list[str]:
        """The box, the stops and the box that an arrow connects; links neighbours."""
        path = [arrow.source]
        for layer in range(self.layers[arrow.source] + 1, self.layers[arrow.target]):
            stop = f"stop {number} {layer}"
            self.widths[stop], self.layers[stop] = _STOP_WIDTH, layer
            self.rows[layer].append(stop)
            path.append(stop)
        path.append(arrow.target)
        for upper, lower in pairwise(path):
            self.above[lower].append(upper)
            self.below[upper].append(lower)
        return path

    def sort(self) -> None:
        """Order each row by the average place of its neighbours in the row before, down and up in turn."""
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            neighbours = self.above if down else self.below
            for row in self.rows if down else reversed(self.rows):
                places = {key: place for other in self._beside(row, down) for place, key in enumerate(other)}
                own = {key: place for place, key in enumerate(row)}
                row.sort(key=lambda key: _mean([places[n] for n in neighbours[key]], own[key]))

    def _beside(self, row: Sequence[str], down: bool) -> list[list[str]]:
        if not row:
            return []
        layer = self.layers[row[0]] + (-1 if down else 1)
        return [self.rows[layer]] if 0 <= layer < len(self.rows) else []

    def centres(self) -> dict[str, float]:
        """Each box near the middle of its neighbours, apart from the boxes beside it; the leftmost edge at 0."""
        centres: dict[str, float] = {}
        for row in self.rows:
            edge = 0.0
            for key in row:
                centres[key] = edge + self.widths[key] / 2
                edge += self.widths[key] + _GAP
        for sweep in range(_SWEEPS):
            neighbours = self.above if sweep % 2 == 0 else self.below
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                wanted = [_mean([centres[n] for n in neighbours[key]], centres[key]) for key in row]
                for key, centre in zip(row, self._spread(row, wanted), strict=True):
                    centres[key] = centre
        left = min((centres[key] - self.widths[key] / 2 for key in centres), default=0.0)
        return {key: centre - left for key, centre in centres.items()}

    def _spread(self, row: Sequence[str], wanted: Sequence[float]) -> list[float]:
        """The centres nearest to the wanted ones, in order, without overlap: boxes that touch move as one block."""
        blocks: list[tuple[float, int]] = []  # the wanted start of a block, averaged, and its number of boxes
        offsets: list[float] = []
        edge = 0.0
        for key, centre in zip(row, wanted, strict=True):
            offsets.append(edge + self.widths[key] / 2)
            edge += self.widths[key] + _GAP
            block = (centre - offsets[-1], 1)
            while blocks and blocks[-1][0] > block[0]:
                start, count = blocks.pop()
                block = ((start * count + block[0] * block[1]) / (count + block[1]), count + block[1])
            blocks.append(block)
        starts = [start for start, count in blocks for _ in range(count)]
        return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
