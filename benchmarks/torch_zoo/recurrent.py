"""A character language model of recurrent layers."""

from __future__ import annotations

import torch
from torch import nn

from torch_zoo.transformer import embedding


class CharacterModel(nn.Module):
    """An embedding, two layers of LSTM, and a head."""

    def __init__(self, vocabulary: int = 96, width: int = 128, units: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.embed = embedding(vocabulary, width)
        self.recurrent = nn.LSTM(width, units, layers, batch_first=True)
        self.head = nn.Linear(units, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(self.embed(tokens))[0])
