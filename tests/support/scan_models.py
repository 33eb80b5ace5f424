"""Models with scans of every kind, as texts with a training on rows of a `width`."""

from __future__ import annotations

import numpy as np
from comparisons import Array

from compiler import driver
from compiler.driver import Options
from compiler.interface import Results, Steps
from compiler.programs.kinds import TRAINING
from runtime.inference.model import runtime_settings

_TRAIN = """
train M {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 48
}
"""
LSTM = """model M {
    input x: f32[batch, 6, 5]
    output y = x |> lstm(24, output = "last") |> dense(3)
}
"""
NESTED = """model M {
    input x: f32[batch, 6, 5]
    mix = dense(20)
    into = dense(20)
    ends, _ = scan i in 0..4 over 1 carry h = zeros(batch, 20) {
        kept, h = scan k in 0..3 over 1 carry h = h {
            h = tanh(mix(h) + into(x[:, 2, :]) + 0.1 * cast(k, f32))
            emit h
        }
        h = h * 0.9
        emit h + kept[:, 1, :]
    }
    output y = ends[:, 3, :] |> dense(3)
}
"""
UNTIL = """model M {
    input x: f32[batch, 6, 5]
    a = 1.5 + sigmoid(x[:, 0, :] |> dense(3))
    root = scan i in 0..12 over 1 carry root = a until all(abs(root * root - a) <= 1e-3 * a, axis = 1) {
        root = 0.5 * (root + a / root)
    }
    output y = root + 0.1 * dense(3)(root)
}
"""
TRANSLATION = """model M {
    input x: f32[batch, 6, 5]
    cell = gru_cell(16)
    attend = bahdanau(16)
    both = dense(16)
    memory = bidirectional(gru(16))(x)
    states, _ = scan word in x over 1 carry s = tanh(both(memory[:, 0, :])) {
        context, _ = attend(s, memory, ones_like(x[:, :, 0]) > 0)
        s = cell(concat(word, context, axis = -1), s)
        emit concat(s, context, axis = -1)
    }
    output y = states[:, 5, :] |> dropout(0.2) |> dense(3)
}
"""
MODELS = {"lstm": LSTM, "nested": NESTED, "until": UNTIL, "translation": TRANSLATION}
ROWS = 80  # a batch of 48, and one of 32


def data() -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = {"x": (ROWS, 6, 5), "t": (ROWS, 3)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def program_of(text: str) -> driver.Program:
    return driver.load_text(text + _TRAIN, "m.dl")


def trained(text: str, options: Options, calls: int = 1) -> tuple[dict[str, bytes], list[Results]]:
    """The tensors behind some calls of two steps, and what these gave."""
    program = program_of(text)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 3, Options("native", threads=1, cache=options.cache))
    step = driver.compile_program(program, TRAINING, options)
    settings, given = runtime_settings(program), data()
    results = [
        step.run(Steps(tensors, given, np.arange(ROWS), 48, 2 * call, 5, settings, lasting=True))
        for call in range(calls)
    ]
    return {name: tensors[name].tobytes() for name in tensors.names()}, results
