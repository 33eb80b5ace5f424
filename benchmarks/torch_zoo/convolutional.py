"""Convolutional networks: LeNet-5, and the residual network of 20 layers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


def lenet5() -> nn.Sequential:
    """For pictures of 28 × 28, with ReLU and maxima."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions; the shortcut takes every stride-th pixel and zeros for the channels that it lacks."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.more = (2, outputs - inputs) if outputs != inputs else (1, 0)
        self.first = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList((nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.second(functional.relu(self.norms[0](self.first(x)))))
        half = self.more // 2
        short = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half)) if self.more else x
        return functional.relu(y + short)


def resnet20() -> nn.Sequential:
    """He et al., 2016, section 4.2, with shortcuts without parameters."""
    widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    blocks = [BasicBlock(inputs, outputs) for inputs, outputs in pairwise(widths)]
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *blocks,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
