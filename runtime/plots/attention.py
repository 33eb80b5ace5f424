"""Attention weights as pictures: a row of panels for each layer, a panel for each head, queries down, keys across."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.driver import Array
from runtime.plots.figure import Figure, new_figure

_PANEL = 2.2  # inches


def attention_figure(weights: Mapping[str, Array]) -> Figure:
    """`weights`: by layer, [keys], [queries, keys] or [heads, queries, keys]; other axes in front count as heads."""
    panels = {name: _heads(array) for name, array in weights.items()}
    across = max(len(heads) for heads in panels.values())
    figure = new_figure(_PANEL * across + 0.6, _PANEL * len(panels) + 0.4)
    for line, (name, heads) in enumerate(panels.items()):
        for number, head in enumerate(heads):
            axes = figure.add_subplot(len(panels), across, line * across + number + 1)
            axes.imshow(head, cmap="viridis", vmin=0, vmax=max(float(np.max(head)), 1e-12), aspect="auto")
            axes.tick_params(labelsize="x-small")
            if number == 0:
                axes.set_title(name, fontsize="small", loc="left")
                axes.set_ylabel("query", fontsize="x-small")
            if line == len(panels) - 1:
                axes.set_xlabel("key", fontsize="x-small")
    return figure


def _heads(array: Array) -> Array:
    """[heads, queries, keys]."""
    array = array.reshape((1,) * max(0, 2 - array.ndim) + array.shape)
    return array.reshape((-1, *array.shape[-2:]))
