"""Layers of perceptrons with ReLU between them."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def perceptrons(*widths: int) -> nn.Sequential:
    """Dense layers from each width to the next; the last gives logits."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
