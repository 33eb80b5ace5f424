"""Attention weights as pictures: a row of panels for each layer, a panel for each head, queries down, keys across."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.driver import Array
from runtime.plots.figure import Axis, Figure, new_figure, shown

# In inches: a panel, a token beside it, and the widest picture whose panels grow with their tokens.
_PANEL, _TOKEN, _WIDEST = 2.2, 0.13, 40.0
_SMALLEST = 2.0  # points in which a token is written


def attention_figure(
    weights: Mapping[str, Array], tokens: Mapping[str, tuple[Sequence[str] | None, Sequence[str] | None]]
) -> Figure:
    """`weights`: by layer, [keys], [queries, keys] or [heads, queries, keys]; other axes in front count as heads.

    `tokens`: of the queries and the keys of a layer, where they are known; else the axes have numbers.
    """
    panels = {name: _heads(array) for name, array in weights.items()}
    across = max(len(heads) for heads in panels.values())
    most = max((len(texts) for pair in tokens.values() for texts in pair if texts is not None), default=0)
    panel = max(_PANEL, min(_TOKEN * most, _WIDEST / max(across, len(panels))))
    figure = new_figure(panel * across + 0.6, panel * len(panels) + 0.4)
    for line, (name, heads) in enumerate(panels.items()):
        for number, head in enumerate(heads):
            axes = figure.add_subplot(len(panels), across, line * across + number + 1)
            axes.imshow(head, cmap="viridis", vmin=0, vmax=max(float(np.max(head)), 1e-12), aspect="auto")
            axes.tick_params(labelsize="x-small")
            queries, keys = tokens.get(name, (None, None))
            _write_tokens(axes.yaxis, queries, panel)
            _write_tokens(axes.xaxis, keys, panel, rotation=90)
            if number == 0:
                axes.set_title(shown(name), fontsize="small", loc="left")
                axes.set_ylabel("query", fontsize="x-small")
            if line == len(panels) - 1:
                axes.set_xlabel("key", fontsize="x-small")
    return figure


def _write_tokens(axis: Axis, tokens: Sequence[str] | None, panel: float, rotation: float = 0) -> None:
    """A token for each place, as it is; numbers stay where the tokens could not be read."""
    size = 0.0 if not tokens else min(6.5, 0.8 * 72 * panel / len(tokens))
    if tokens and size >= _SMALLEST:
        axis.set_ticks(range(len(tokens)), list(map(shown, tokens)), fontsize=size, rotation=rotation)


def _heads(array: Array) -> Array:
    """[heads, queries, keys]."""
    array = array.reshape((1,) * max(0, 2 - array.ndim) + array.shape)
    return array.reshape((-1, *array.shape[-2:]))
