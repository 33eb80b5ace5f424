"""Transformers: nanoGPT's language model, an encoder with a decoder, and one that reads pictures."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EMBEDDING_DEVIATION = 0.02


class Projections(nn.Linear):
    """Several dense layers of one input, computed as one product: their results, split into heads."""

    def __init__(self, width: int, parts: int, heads: int, bias: bool) -> None:
        super().__init__(width, parts * width, bias)
        self.parts, self.heads = parts, heads

    def split(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[batch, heads, time, width / heads] for each part."""
        parts = self(x).chunk(self.parts, -1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]


class Attention(nn.Module):
    """Self-attention with one product for all parts; attention on a memory with one for keys and values."""

    def __init__(self, width: int, heads: int, bias: bool, crosses: bool = False) -> None:
        super().__init__()
        self.queries = Projections(width, 1 if crosses else 3, heads, bias)
        self.memory = Projections(width, 2, heads, bias) if crosses else None
        self.joined = nn.Linear(width, width, bias)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None, causal: bool = False) -> torch.Tensor:
        q, *others = self.queries.split(x)
        k, v = others if self.memory is None or memory is None else self.memory.split(memory)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.joined(y.transpose(1, 2).flatten(2))


class LanguageBlock(nn.Module):
    """Causal self-attention and two dense layers with GELU, each after a normalisation, without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attend = nn.LayerNorm(width, bias=False), Attention(width, heads, bias=False)
        self.norm2, self.widen = nn.LayerNorm(width, bias=False), nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.norm1(x), causal=True)
        return x + self.narrow(functional.gelu(self.widen(self.norm2(x)), approximate="tanh"))


class LanguageModel(nn.Module):
    """nanoGPT: learned positions, and a head that is the embedding."""

    def __init__(self, blocks: int, heads: int, width: int, context: int, vocabulary: int = 65) -> None:
        super().__init__()
        self.embed, self.positions = embedding(vocabulary, width), embedding(context, width)
        self.blocks = nn.Sequential(*(LanguageBlock(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.positions.weight[: tokens.shape[1]]
        return functional.linear(self.norm(self.blocks(x)), self.embed.weight)


class PictureBlock(nn.Module):
    """Self-attention and two dense layers with GELU, each after a normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attend = nn.LayerNorm(width), Attention(width, heads, bias=True)
        self.norm2, self.widen = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.narrow(functional.gelu(self.widen(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al., 2021, for pictures of 32 × 32: patches of 4 × 4 behind a token of which the class is read."""

    def __init__(self) -> None:
        super().__init__()
        size, channels, width, heads, blocks, classes = 32, 3, 192, 3, 6, 10
        self.patch = 4
        self.token = nn.Parameter(torch.zeros(1, width))
        self.embed = nn.Linear(self.patch**2 * channels, width)
        self.positions = embedding((size // self.patch) ** 2 + 1, width)
        self.blocks = nn.Sequential(*(PictureBlock(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        split = picture.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # [batch, c, y, p, x, q]
        patches = self.embed(split.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))
        x = torch.cat([self.token.expand(len(picture), 1, -1), patches], 1) + self.positions.weight
        return self.head(self.norm(self.blocks(x)[:, 0]))


class Block(nn.Module):
    """Self-attention, for a decoder attention on the memory, and two dense layers; a normalisation after each."""

    def __init__(self, width: int, heads: int, hidden: int, decodes: bool) -> None:
        super().__init__()
        self.attend, self.norm1 = Attention(width, heads, bias=True), nn.LayerNorm(width)
        if decodes:
            self.consult, self.norm2 = Attention(width, heads, bias=True, crosses=True), nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        x = self.norm1(x + self.attend(x, causal=memory is not None))
        if memory is not None:
            x = self.norm2(x + self.consult(x, memory))
        return self.norm3(x + self.narrow(functional.relu(self.widen(x))))


class EncoderDecoder(nn.Module):
    """Vaswani et al., 2017, with a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        vocabulary, width, heads, hidden, blocks, length = 1000, 256, 4, 1024, 3, 32
        self.source = embedding(vocabulary, width)
        self.encoder = nn.ModuleList(Block(width, heads, hidden, decodes=False) for _ in range(blocks))
        self.prefix = embedding(vocabulary, width)
        self.decoder = nn.ModuleList(Block(width, heads, hidden, decodes=True) for _ in range(blocks))
        self.head, self.scale = nn.Linear(width, vocabulary), math.sqrt(width)
        self.register_buffer("waves", sinusoids(length, width), persistent=False)

    def forward(self, source: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        memory = self.source(source) * self.scale + self.waves
        for block in self.encoder:
            memory = block(memory)
        x = self.prefix(prefix) * self.scale + self.waves
        for block in self.decoder:
            x = block(x, memory)
        return self.head(x)


def embedding(vocabulary: int, width: int) -> nn.Embedding:
    """Starts as N(0, 0.02²)."""
    table = nn.Embedding(vocabulary, width)
    nn.init.normal_(table.weight, std=EMBEDDING_DEVIATION)
    return table


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Sine and cosine of each frequency side by side."""
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, width)
    return torch.tensor(waves)
