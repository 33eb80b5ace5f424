"""The models that are measured: batch, optimizer, parameter count, and made-up data that every peer gets alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

SOURCES = Path(__file__).resolve().parent / "zoo"

# One batch is repeated thousands of times. At a real learning rate it would be learnt by heart, and the moments of dead
# units would sink into subnormal numbers, which cost time that training does not.
TIMING_RATE = 1e-6


@dataclass(frozen=True, slots=True)
class Floats:
    """An input of standard normal numbers; `shape` is that of one example."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Integers:
    """An input or target of integers in `0..count`; `shape` is that of one example."""

    shape: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Optimizer:
    """`kind` is sgd (with momentum), adam or adamw (decay on tensors of two or more dimensions only)."""

    kind: str
    rate: float
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decay: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the zoo. The loss is the mean cross-entropy over all positions of `target`.

    `threads`: how many threads to try besides all of them; a peer is credited with its best.
    """

    name: str
    batch: int
    parameters: int
    optimizer: Optimizer
    inputs: tuple[Floats | Integers, ...]
    target: Integers
    threads: tuple[int, ...] = ()

    @property
    def source(self) -> Path:
        """The same model in `.dl`."""
        return SOURCES / f"{self.name}.dl"


ADAM = Optimizer("adam", 1e-3)
MOMENTUM = Optimizer("sgd", 0.01)
DECAYED = Optimizer("sgd", 0.01, decay=1e-4)
ADAMW = Optimizer("adamw", 1e-3, beta2=0.99, decay=0.1)
ADAMW_OF_PICTURES = Optimizer("adamw", 1e-3, decay=0.05)

ENTRIES = (
    Entry("mlp", 128, 669_706, ADAM, (Floats((784,)),), Integers((), 10)),
    Entry("mlp_small", 32, 2_410, MOMENTUM, (Floats((64,)),), Integers((), 10), threads=(1,)),
    Entry("lenet5", 64, 61_706, MOMENTUM, (Floats((1, 28, 28)),), Integers((), 10), threads=(1,)),
    Entry("resnet20", 32, 269_722, DECAYED, (Floats((3, 32, 32)),), Integers((), 10)),
    Entry("lstm", 32, 958_560, ADAM, (Integers((64,), 96),), Integers((64,), 96)),
    Entry("gpt_mini", 12, 804_096, ADAMW, (Integers((64,), 65),), Integers((64,), 65)),
    Entry("gpt_small_block", 8, 10_745_088, ADAMW, (Integers((256,), 65),), Integers((256,), 65)),
    Entry("transformer_ed", 16, 6_298_600, ADAM, (Integers((32,), 1000),) * 2, Integers((32,), 1000)),
    Entry("vit", 32, 2_693_578, ADAMW_OF_PICTURES, (Floats((3, 32, 32)),), Integers((), 10)),
)
CATALOGUE = {entry.name: entry for entry in ENTRIES}


def make_batch(entry: Entry, batch: int | None = None, seed: int = 0) -> tuple[list[Array], Array]:
    """Inputs (f32, or i32 tokens) and i32 targets, `batch` rows of each."""
    rows = batch or entry.batch
    generator = np.random.default_rng(seed)

    def draw(kind: Floats | Integers) -> Array:
        if isinstance(kind, Floats):
            return generator.standard_normal((rows, *kind.shape), dtype=np.float32)
        return generator.integers(0, kind.count, (rows, *kind.shape), dtype=np.int32)

    return [draw(kind) for kind in entry.inputs], draw(entry.target)
