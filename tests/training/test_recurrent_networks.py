"""Recurrent networks train natively as on the reference target: masks, directions, dropout, states, truncation."""

from __future__ import annotations

import numpy as np
import pytest

import dlc

RANDOM = np.random.default_rng(0)
LENGTHS = np.array([7, 2, 5, 1, 7, 3, 4, 6, 7])
DATA = {
    "x": RANDOM.normal(size=(9, 7, 4)).astype(np.float32),
    "m": np.arange(7) < LENGTHS[:, None],
    "t": RANDOM.normal(size=9).astype(np.float32),
}
NETWORKS = {
    "gru with masks, both ways": "bidirectional(gru(6))(x, where = m)",
    "two layers of lstm, with dropout": "stacked(lstm(6, recurrent_drop = 0.25), 2, drop = 0.25)(x, where = m)",
    "the last output of gru after": 'gru(6, reset = "after", output = "last")(x, where = m)[:, None]',
    "truncated": "truncated(x)",
    "batch normalisation in each step": "normalised(x)",
}
PROGRAM = """
layer truncated(x: [batch, time, n]) {{
    cell = peephole_lstm_cell(5)
    hs, _, _ = scan a in x over time reverse = true truncate = 3 carry h = zeros(batch, 5), c = zeros(batch, 5) {{
        h, c = cell(a, h, c)
        emit h
    }}
    return hs
}}
layer normalised(x: [batch, time, n]) {{
    norm = batch_norm()
    mix = dense(3, bias = false)
    hs, _ = scan a in x over time carry h = zeros(batch, 3) {{
        h = tanh(norm(mix(concat(a, h, axis = -1))))
        emit h
    }}
    return hs
}}
model M {{
    input x: f32[batch, 7, 4]
    input m: bool[batch, 7]
    y = {network}
    output estimate = sum(y * y, axis = [1, 2]) + 0 * sum(m, axis = 1)
}}
train M {{
    target t: f32[batch]
    loss = mse(estimate, t)
    optimizer = adam(lr = 0.01)
    batch = 4
    steps = 5
}}
"""


@pytest.mark.parametrize("case", NETWORKS)
def test_training_equals_the_reference(case: str) -> None:
    text = PROGRAM.format(network=NETWORKS[case])
    models = [dlc.loads(text, target=target) for target in ("native", "reference")]
    for model in models:
        model.train(data=DATA)
    native, reference = (model.parameters for model in models)
    for path, expected in reference.items():
        np.testing.assert_allclose(native[path], expected, rtol=1e-4, atol=1e-5, err_msg=path)
    losses = [model.evaluate(DATA)["loss"] for model in models]
    np.testing.assert_allclose(*losses, rtol=1e-4)
