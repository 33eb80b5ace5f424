"""Networks of sequences train to the same bits with any number of threads, and whether or not kernels are fused."""

from __future__ import annotations

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import FUSIONS, Options

# More words than a row keeps in registers, and logits that are written over what is read last.
ROWS, TIME, WORDS = 192, 12, 70
LENGTHS = np.arange(ROWS) % TIME + 1
DATA = {
    "tokens": np.random.default_rng(0).integers(0, WORDS, (ROWS, TIME)).astype(np.int32),
    "mask": np.arange(TIME) < LENGTHS[:, None],
    "next": np.random.default_rng(1).integers(0, WORDS, (ROWS, TIME)).astype(np.int32),
}
NETWORKS = {
    "lstm both ways": "bidirectional(lstm(24, recurrent_drop = 0.2))(x, where = mask) |> dense(32)",
    "gru": 'gru(32, reset = "after")(x, where = mask)',
    "attention": "encoder_block(4, 64, causal = true, pre_norm = true, activation = gelu, drop = 0.1)(x, where = mask)",
    "encoder and decoder": "decoder_block(4, 64)(x, encoder_block(4, 64)(x, where = mask), memory_where = mask)",
}
PROGRAM = f"""
model M {{
    input tokens: i32[batch, {TIME}] in 0..{WORDS} padded by mask
    embed = embedding({WORDS}, 32)
    x = embed(tokens) |> sinusoidal_positions
    output logits = NETWORK |> embed
}}
train M {{
    target next: i32[batch, {TIME}] in 0..{WORDS}
    loss = cross_entropy(logits, next, where = mask)
    optimizer = adam(lr = 0.01)
    clip = global_norm(1.0)
    batch = 96
    steps = 4
}}
"""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_of_a_training(name: str) -> None:
    text = PROGRAM.replace("NETWORK", NETWORKS[name])
    found: list[tuple[float, dict[str, bytes]]] = []
    for threads, without in ((1, ()), (2, ()), (3, ()), (2, tuple(FUSIONS))):
        model = dlc.Model(lambda _: driver.load_text(text, "model.dl"), Options(threads=threads, without=without), {})
        history = model.train(data=DATA).history
        found.append((history[-1].scalars["loss"], {path: array.tobytes() for path, array in model.parameters.items()}))
    assert all(other == found[0] for other in found)
