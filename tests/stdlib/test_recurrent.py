"""Recurrent cells and layers: outputs, masks and gradients against loops in NumPy, in f64, and against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pytest
from differentiation import assert_gradients, gradients
from standard_library import applied

from compiler.errors.diagnostics import SourceError
from compiler.evaluate import evaluate
from compiler.graph.ir import Graph, Role

Array: TypeAlias = np.ndarray[Any, Any]
Tensors: TypeAlias = Mapping[str, Array]

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(3, 5, 4))
H, C = RANDOM.normal(size=(2, 3, 6))
LENGTHS = (5, 2, 4)
MASK = np.array([[place < length for place in range(5)] for length in LENGTHS])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# Cells in NumPy: (tensors, x, states…) to the new states


def simple_rnn(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    return (np.tanh(x @ p["W"] + h @ p["U"] + p.get("b", 0) + p.get("d", 0)),)


def gru_before(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    units = h.shape[1]
    a = x @ p["W"] + p.get("b", 0)
    reset = sigmoid(a[:, :units] + h @ p["U"][:, :units])
    update = sigmoid(a[:, units : 2 * units] + h @ p["U"][:, units:])
    new = np.tanh(a[:, 2 * units :] + (reset * h) @ p["V"])
    return ((1 - update) * h + update * new,)


def gru_after(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    (xr, xz, xn), (hr, hz, hn) = (
        np.split(v, 3, axis=1) for v in (x @ p["W"] + p.get("b", 0), h @ p["U"] + p.get("d", 0))
    )
    update = sigmoid(xz + hz)
    return ((1 - update) * np.tanh(xn + sigmoid(xr + hr) * hn) + update * h,)


def gru_before_old(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    """As Keras has it with `reset_after = False`: z is the share of the old state."""
    (new,) = gru_before({**p, **{name: turned(p[name]) for name in ("W", "U", "b")}}, x, h)
    return (new,)


def gru_after_new(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    (new,) = gru_after({**p, **{name: turned(p[name]) for name in ("W", "U", "b", "d")}}, x, h)
    return (new,)


def turned(p: Array) -> Array:
    """With the weights of z negated, since sigmoid(-a) is 1 - sigmoid(a)."""
    units = H.shape[1]
    return np.concatenate([p[..., :units], -p[..., units : 2 * units], p[..., 2 * units :]], axis=-1)


def lstm(p: Tensors, x: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = np.split(x @ p["W"] + h @ p["U"] + p.get("b", 0) + p.get("d", 0), 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def peephole_lstm(p: Tensors, x: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = np.split(x @ p["W"] + h @ p["U"] + p.get("b", 0), 4, axis=1)
    new = sigmoid(f + p["P"][1] * c) * c + sigmoid(i + p["P"][0] * c) * np.tanh(g)
    return sigmoid(o + p["P"][2] * new) * np.tanh(new), new


Cell: TypeAlias = Callable[..., tuple[Array, ...]]

# Other activations: x sigmoid(x) for tanh, x / (1 + |x|) for sigmoid
OTHERS = "activation = swish, recurrent_activation = softsign"


def swish(x: Array) -> Array:
    return x * sigmoid(x)


def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


def other_gru_before(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    (xr, xz, xn), (ur, uz) = np.split(x @ p["W"] + p["b"], 3, axis=1), np.split(p["U"], 2, axis=1)
    update = softsign(xz + h @ uz)
    return ((1 - update) * h + update * swish(xn + (softsign(xr + h @ ur) * h) @ p["V"]),)


def other_gru_after(p: Tensors, x: Array, h: Array) -> tuple[Array, ...]:
    (xr, xz, xn), (hr, hz, hn) = (np.split(v, 3, axis=1) for v in (x @ p["W"] + p["b"], h @ p["U"] + p["d"]))
    update = softsign(xz + hz)
    return ((1 - update) * swish(xn + softsign(xr + hr) * hn) + update * h,)


def other_lstm(p: Tensors, x: Array, h: Array, c: Array) -> tuple[Array, ...]:
    i, f, g, o = np.split(x @ p["W"] + h @ p["U"] + p["b"], 4, axis=1)
    seen = p.get("P", np.zeros((3, 1)))
    c = softsign(f + seen[1] * c) * c + softsign(i + seen[0] * c) * swish(g)
    return softsign(o + seen[2] * c) * swish(c), c


CELLS: dict[str, tuple[str, str, Cell]] = {
    "simple": ("simple_rnn", "", simple_rnn),
    "simple, two biases": ("simple_rnn", "recurrent_bias = true", simple_rnn),
    "gru": ("gru", "", gru_before),
    "gru without bias": ("gru", "bias = false", gru_before),
    "gru after": ("gru", 'reset = "after"', gru_after),
    "gru after without bias": ("gru", 'reset = "after", bias = false', gru_after),
    "gru, z for the old": ("gru", 'z_weighs = "old"', gru_before_old),
    "gru, z for the new": ("gru", 'z_weighs = "new"', gru_before),
    "gru after, z for the new": ("gru", 'reset = "after", z_weighs = "new"', gru_after_new),
    "lstm": ("lstm", "", lstm),
    "lstm, two biases": ("lstm", "recurrent_bias = true", lstm),
    "lstm without bias": ("lstm", "bias = false", lstm),
    "peephole": ("peephole_lstm", "", peephole_lstm),
    "gru, other activations": ("gru", OTHERS, other_gru_before),
    "gru after, other activations": ("gru", f'reset = "after", {OTHERS}', other_gru_after),
    "lstm, other activations": ("lstm", OTHERS, other_lstm),
    "peephole, other activations": ("peephole_lstm", OTHERS, other_lstm),
}


def states_of(kind: str) -> dict[str, Array]:
    return {"h": H, "c": C} if "lstm" in kind else {"h": H}


def unrolled(cell: Cell, p: Tensors, x: Array, states: tuple[Array, ...], mask: Array) -> tuple[Array, ...]:
    """The outputs of all steps, 0 where the mask is, and the last states."""
    outputs: list[Array] = []
    for t in range(x.shape[1]):
        kept = mask[:, t, None]
        new = cell(p, x[:, t], *states)
        states = tuple(np.where(kept, after, before) for after, before in zip(new, states, strict=True))
        outputs.append(np.where(kept, states[0], 0))
    return (np.stack(outputs, axis=1), *states)


def tensors_of(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(2)
    entries = [i for i in graph.inputs if i.role is Role.PARAMETER]
    return {i.name: random.uniform(-0.9, 0.9, [int(str(n)) for n in i.value.type.shape]) for i in entries}


def named(tensors: Tensors, prefix: str = "") -> dict[str, Array]:
    """The tensors below a path, by their last name."""
    return {path.rsplit(".", 1)[-1]: value for path, value in tensors.items() if path.startswith(prefix)}


def call_of(case: str, suffix: str = "", output: str = "") -> str:
    kind, given, _ = CELLS[case]
    settings = ["6", given, f'output = "{output}"' if output else ""]
    return f"{kind}{suffix}({', '.join(filter(None, settings))})"


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_equals_numpy_with_its_gradients(case: str) -> None:
    kind, _, cell = CELLS[case]
    operands = {"x": X[:, 0], **states_of(kind)}
    graph = applied(f"{call_of(case, '_cell')}({', '.join(operands)})", operands, "layer")
    tensors = tensors_of(graph)
    results = evaluate(graph, {**operands, **tensors}, 1)
    for name, expected in zip(["result", "result1"], cell(named(tensors), *operands.values()), strict=False):
        np.testing.assert_allclose(results[name], expected, rtol=1e-9, atol=1e-12)
        assert_gradients(graph, name, [*operands, *tensors], {**operands, **tensors})


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CELLS)
def test_a_layer_equals_numpy_with_its_gradients(case: str, masked: bool) -> None:
    kind, _, cell = CELLS[case]
    operands = {"x": X, **states_of(kind), **({"m": MASK} if masked else {})}
    given = ", ".join(["x", *states_of(kind), *(["where = m"] if masked else [])])
    graph = applied(f"{call_of(case, output='states')}({given})", operands, "layer")
    tensors = tensors_of(graph)
    results = evaluate(graph, {**operands, **tensors}, 1)
    mask = MASK if masked else np.ones_like(MASK)
    expected = unrolled(cell, named(tensors), X, tuple(states_of(kind).values()), mask)
    assert len(results) == len(expected)
    moving = [*(name for name in operands if name != "m"), *tensors]
    for number, value in enumerate(expected):
        name = f"result{number or ''}"
        np.testing.assert_allclose(results[name], value, rtol=1e-9, atol=1e-12)
        assert_gradients(graph, name, moving, {**operands, **tensors})


@pytest.mark.parametrize("case", ["simple", "gru", "lstm", "peephole"])
def test_masked_steps_repeat_the_state(case: str) -> None:
    kind, _, cell = CELLS[case]
    operands = {"x": X, **states_of(kind), "m": MASK}
    given = ", ".join(["x", *states_of(kind), "where = m"])
    call = call_of(case, output="states").removesuffix(")") + ', masked = "repeat")'
    graph = applied(f"{call}({given})", operands, "layer")
    tensors = tensors_of(graph)
    results = evaluate(graph, {**operands, **tensors}, 1)
    zeros, *last = unrolled(cell, named(tensors), X, tuple(states_of(kind).values()), MASK)
    expected, state = zeros.copy(), H
    for t in range(X.shape[1]):
        expected[:, t] = state = np.where(MASK[:, t, None], zeros[:, t], state)
    for number, value in enumerate((expected, *last)):
        name = f"result{number or ''}"
        np.testing.assert_allclose(results[name], value, rtol=1e-9, atol=1e-12)
        assert_gradients(graph, name, [*(n for n in operands if n != "m"), *tensors], {**operands, **tensors})
    plain = applied(f"{call}({', '.join(['x', *states_of(kind)])})", operands, "layer")
    assert evaluate(plain, {**operands, **tensors}, 1)["result"].shape == expected.shape


@pytest.mark.parametrize("case", CELLS)
def test_states_start_at_0_and_the_last_output_is_a_state(case: str) -> None:
    kind, _, cell = CELLS[case]
    sequence = applied(f"{call_of(case)}(x)", {"x": X}, "layer")
    last = applied(f"{call_of(case, output='last')}(x)", {"x": X}, "layer")
    tensors = tensors_of(sequence)
    start = tuple(np.zeros_like(H) for _ in states_of(kind))
    outputs, final, *_ = unrolled(cell, named(tensors), X, start, np.ones_like(MASK))
    np.testing.assert_allclose(evaluate(sequence, {"x": X, **tensors}, 1)["result"], outputs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(evaluate(last, {"x": X, **tensors}, 1)["result"], final, rtol=1e-9, atol=1e-12)


# Around the cells


def both_ways(tensors: Tensors, x: Array, mask: Array, path: str = "") -> tuple[Array, Array]:
    """The outputs of a gru that goes forward and of one that goes backward."""
    start = (np.zeros_like(H),)
    forward = unrolled(gru_before, named(tensors, f"{path}cell"), x, start, mask)[0]
    backward = unrolled(gru_before, named(tensors, f"{path}back"), x[:, ::-1], start, mask[:, ::-1])[0]
    return forward, backward[:, ::-1]


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_a_bidirectional_layer_turns_its_mask_round(merge: str) -> None:
    operands = {"x": X, "m": MASK}
    graph = applied(f'bidirectional(gru(6), "{merge}")(x, where = m)', operands, "layer")
    tensors = {path.removeprefix("bidirectional."): value for path, value in tensors_of(graph).items()}
    forward, backward = both_ways(tensors, X, MASK)
    expected = forward + backward if merge == "sum" else np.concatenate([forward, backward], axis=-1)
    inputs = {**operands, **tensors_of(graph)}
    np.testing.assert_allclose(evaluate(graph, inputs, 1)["result"], expected, rtol=1e-9, atol=1e-12)
    assert_gradients(graph, "result", ["x", *tensors_of(graph)], inputs)


def test_last_outputs_of_both_directions_stand_side_by_side() -> None:
    graph = applied('bidirectional(gru(6, output = "last"))(x, where = m)', {"x": X, "m": MASK}, "layer")
    tensors = tensors_of(graph)
    forward, backward = both_ways({path.removeprefix("bidirectional."): v for path, v in tensors.items()}, X, MASK)
    last = np.stack([forward[row, length - 1] for row, length in enumerate(LENGTHS)])
    result = evaluate(graph, {"x": X, "m": MASK, **tensors}, 1)["result"]
    np.testing.assert_allclose(result, np.concatenate([last, backward[:, 0]], axis=-1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
def test_stacked_layers_have_weights_of_their_own(residual: bool) -> None:
    graph = applied(f"stacked(gru(6), 3, residual = {str(residual).lower()})(x)", {"x": X}, "layer")
    tensors = tensors_of(graph)
    y = X
    for number in range(3):
        layer = named(tensors, f"stacked.each.{number}.")
        z = unrolled(gru_before, layer, y, (np.zeros_like(H),), np.ones_like(MASK))[0]
        y = y + z if residual and y.shape == z.shape else z
    np.testing.assert_allclose(evaluate(graph, {"x": X, **tensors}, 1)["result"], y, rtol=1e-9, atol=1e-12)
    assert_gradients(graph, "result", ["x", *tensors], {"x": X, **tensors})


CALLS = (
    "simple_rnn(6)(x, where = m)",
    "gru(6)(x, where = m)",
    'gru(6, reset = "after")(x, where = m)',
    "lstm(6)(x, where = m)",
    "peephole_lstm(6)(x, where = m)",
    "stacked(bidirectional(lstm(6)), 2)(x, where = m)",
    'bidirectional(gru(6, output = "last"))(x, where = m)',
)


@pytest.mark.parametrize("call", CALLS)
def test_a_padded_batch_equals_its_rows_without_padding(call: str) -> None:
    graph = applied(call, {"x": X, "m": MASK}, "layer")
    tensors = tensors_of(graph)
    whole = evaluate(graph, {"x": X, "m": MASK, **tensors}, 1)["result"]
    for row, length in enumerate(LENGTHS):
        alone = {"x": X[row : row + 1, :length], "m": np.ones((1, length), bool)}
        single = evaluate(applied(call, alone, "layer"), {**alone, **tensors}, 1)["result"][0]
        kept = whole[row, :length] if single.ndim == 2 else whole[row]
        np.testing.assert_allclose(kept, single, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("call", CALLS)
def test_extreme_inputs_give_finite_outputs_and_gradients(call: str) -> None:
    x = np.array([[[1e30, -1e30, 0, 1e-30]] * 5] * 3, np.float32)
    graph = applied(call, {"x": x, "m": MASK}, "layer", is_double=False)
    tensors = {name: value.astype(np.float32) for name, value in tensors_of(graph).items()}
    result = evaluate(graph, {"x": x, "m": MASK, **tensors}, 1)["result"]
    assert np.isfinite(result).all()
    slopes = gradients(graph, "result", list(tensors), {"x": x, "m": MASK, **tensors}, np.ones_like(result))
    assert all(np.isfinite(slope).all() for slope in slopes)


# Dropout


def drawn(call: str, x: Array, step: int = 0) -> tuple[Array, dict[str, Array]]:
    graph = applied(call, {"x": x}, "layer", training=True)
    tensors = tensors_of(graph)
    scalars = {"seed": np.asarray(1, np.int64), "step": np.asarray(step, np.int64)}
    draws = {i.name: scalars[i.name] for i in graph.inputs if i.name in scalars}
    return evaluate(graph, {"x": x, **tensors, **draws}, 1)["result"], tensors


def test_dropout_has_one_mask_for_all_steps() -> None:
    x = np.repeat(RANDOM.normal(size=(40, 1, 1)), 6, axis=1)
    result, tensors = drawn("simple_rnn(1, bias = false, drop = 0.25)(x)", x)
    h, (w,), (u,) = np.zeros((40, 1)), *(tensors[f"simple_rnn.cell.{name}"] for name in "WU")
    first = result[:, 0]
    dropped = np.abs(first) < 1e-12
    assert 0 < dropped.sum() < 25
    for t in range(6):
        h = np.tanh(np.where(dropped, 0, x[:, t] / 0.75) * w + h * u)
        np.testing.assert_allclose(result[:, t], h, rtol=1e-9)


def test_recurrent_dropout_has_one_mask_for_all_steps_and_spares_the_memory() -> None:
    x = np.ones((40, 6, 1))
    result, tensors = drawn("lstm(1, recurrent_drop = 0.5)(x)", x)
    paths = {name: tensors[f"lstm.cell.{name}"] for name in "WUb"}
    candidates: list[Array] = []
    for keep in (0.0, 2.0):
        scaled = {**paths, "U": paths["U"] * keep}
        start = (np.zeros((40, 1)), np.zeros((40, 1)))
        candidates.append(unrolled(lstm, scaled, x, start, np.ones((40, 6), bool))[0])
    is_kept = np.isclose(result, candidates[1]).all(axis=(1, 2))
    assert np.isclose(result[~is_kept], candidates[0][~is_kept]).all()
    assert 8 < is_kept.sum() < 32


def test_inference_drops_nothing() -> None:
    graph = applied("gru(6, drop = 0.5, recurrent_drop = 0.5)(x)", {"x": X}, "layer")
    assert not [i.name for i in graph.inputs if i.role in (Role.SEED, Role.STEP)]


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('gru(6, z_weighs = "both")(x)', '"both" is none of "new", "old"'),
        ('lstm(6, masked = "last")(x)', '"last" is none of "zeros", "repeat"'),
        ("gru(6)(x, h)", "needs one size for `batch`"),
        ('gru(6, reset = "never")(x)', '"never" is none of "before", "after"'),
        ('lstm(6, output = "all")(x)', '"all" is none of "sequence", "last", "states"'),
        ("lstm(6)(x[:, 0])", "needs `x: [batch, time, n]` with 3 dimensions"),
        ('bidirectional(gru(6, output = "states"))(x)', 'of its layer is "sequence" or "last"'),
        ('bidirectional(lstm(6, output = "states"), "sum")(x, where = m)', "joins one tensor of each direction"),
        ('stacked(gru(6, output = "states"), 2)(x)', '`output` of its layer is "sequence"'),
        ('stacked(gru(6, output = "last"), 2)(x)', "`stacked` gives a layer the outputs of all steps"),
        ("stacked(gru(6), 0)(x)", "`layers` is at least 1, not 0"),
    ],
)
def test_messages(call: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        applied(call, {"x": X, "h": RANDOM.normal(size=(4, 6)), "m": MASK}, "layer")
    assert message in str(caught.value)


# PyTorch


@pytest.mark.parametrize("case", ["simple, two biases", "gru after", "lstm, two biases"])
def test_a_layer_equals_that_of_pytorch_with_all_gradients(case: str) -> None:
    torch = pytest.importorskip("torch")
    kind, _, _ = CELLS[case]
    layer = getattr(torch.nn, {"simple_rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}[kind])(4, 6, batch_first=True)
    layer = layer.double()
    theirs = dict(zip("WUbd", layer.parameters(), strict=True))
    graph = applied(f"{call_of(case)}(x)", {"x": X}, "layer")
    tensors = {f"{kind}.cell.{name}": p.detach().numpy().T for name, p in theirs.items()}
    x = torch.tensor(X, requires_grad=True)
    y, _ = layer(x)
    np.testing.assert_allclose(
        evaluate(graph, {"x": X, **tensors}, 1)["result"], y.detach().numpy(), rtol=1e-9, atol=1e-12
    )
    cotangent = RANDOM.normal(size=y.shape)
    y.backward(torch.tensor(cotangent))
    slopes = gradients(graph, "result", ["x", *tensors], {"x": X, **tensors}, cotangent)
    expected = [x.grad.numpy(), *(p.grad.numpy().T for p in theirs.values())]
    for slope, other in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(slope, other, rtol=1e-8, atol=1e-11)
