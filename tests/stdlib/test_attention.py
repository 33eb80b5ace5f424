"""Attention and the blocks of Transformers equal NumPy, head by head; masks, extreme scores, rotations, tied heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pytest
from differentiation import assert_gradients, gradients
from standard_library import applied

from compiler.errors.diagnostics import SourceError
from compiler.evaluate import evaluate
from compiler.graph.ir import Graph, Role
from compiler.types import at_batch

Array: TypeAlias = np.ndarray[Any, Any]

BATCH, QUERIES, KEYS, WIDTH, OTHER = 3, 4, 5, 8, 6
_RANDOM = np.random.default_rng(4)
X = _RANDOM.normal(size=(BATCH, QUERIES, WIDTH))
MEMORY = _RANDOM.normal(size=(BATCH, KEYS, OTHER))
S = _RANDOM.normal(size=(BATCH, WIDTH))
HS = _RANDOM.normal(size=(BATCH, KEYS, WIDTH))
# The first row is whole, the second has gaps, the third is empty.
QUERY_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
KEY_MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)


def weights_of(scores: Array, keep: Array) -> Array:
    """Softmax of one vector over what is kept; nothing where nothing is."""
    weights = np.zeros_like(scores)
    if keep.any():
        e = np.exp(scores[keep] - scores[keep].max())
        weights[keep] = e / e.sum()
    return weights


class Steps:
    """Layers one after the other, each taking its tensors from the list in the order in which they are made."""

    def __init__(self, tensors: list[Array], biased: bool = True) -> None:
        self.tensors: Iterator[Array] = iter(tensors)
        self.biased = biased

    def dense(self, x: Array) -> Array:
        y = x @ next(self.tensors)
        return y + next(self.tensors) if self.biased else y

    def projection(self, x: Array) -> Array:
        return x @ next(self.tensors)

    def normalise(self, x: Array) -> Array:
        y = next(self.tensors) * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y + next(self.tensors) if self.biased else y

    def attention(
        self,
        q: Array,
        k: Array,
        heads: int,
        causal: bool = False,
        where: Array | None = None,
        turn: Callable[[Array], Array] = lambda x: x,
        sharing: int = 1,
    ) -> Array:
        """Query by query and head by head; the values are those of `k`, each head of them for `sharing` of queries."""
        queries, keys, values = self.dense(q), self.dense(k), self.dense(k)
        found = np.zeros_like(queries)
        size = queries.shape[-1] // heads
        for row, head in np.ndindex(len(q), heads):
            part = slice(head * size, (head + 1) * size)
            shared = slice(head // sharing * size, (head // sharing + 1) * size)
            turned_queries, turned_keys = turn(queries[row, :, part]), turn(keys[row, :, shared])
            for i in range(q.shape[1]):
                keep = np.ones(k.shape[1], bool) if where is None else where[row].copy()
                if causal:
                    keep[i + 1 :] = False
                scores = turned_keys @ turned_queries[i] / np.sqrt(size)
                found[row, i, part] = weights_of(scores, keep) @ values[row, :, shared]
        return self.dense(found)

    def feed_forward(self, x: Array, activation: Callable[[Array], Array] = lambda x: np.maximum(x, 0)) -> Array:
        return self.dense(activation(self.dense(x)))


def turned(base: float, halves: bool) -> Callable[[Array], Array]:
    """Pairs of features as complex numbers, times e^(i angle)."""

    def turn(x: Array) -> Array:
        n, d = x.shape
        angle = np.arange(n)[:, None] * base ** (-2 * np.arange(d // 2) / d)
        first, second = (slice(0, d // 2), slice(d // 2, d)) if halves else (slice(0, d, 2), slice(1, d, 2))
        numbers = (x[:, first] + 1j * x[:, second]) * np.exp(1j * angle)
        y = np.empty_like(x)
        y[:, first], y[:, second] = numbers.real, numbers.imag
        return y

    return turn


def tanh_gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def encoder_block(s: Steps, x: Array, where: Array | None = None, causal: bool = False) -> Array:
    y = s.attention(x, x, 2, causal, where)
    x = s.normalise(x + y)
    return s.normalise(x + s.feed_forward(x))


def encoder_block_before(s: Steps, x: Array, where: Array | None = None) -> Array:
    y = s.normalise(x)
    x = x + s.attention(y, y, 2, True, where)
    return x + s.feed_forward(s.normalise(x), tanh_gelu)


def decoder_block(s: Steps, x: Array, m: Array, xs: Array | None = None, ms: Array | None = None) -> Array:
    x = s.normalise(x + s.attention(x, x, 2, True, xs))
    x = s.normalise(x + s.attention(x, m, 2, False, ms))
    return s.normalise(x + s.feed_forward(x))


def decoder_block_before(s: Steps, x: Array, m: Array, xs: Array | None = None, ms: Array | None = None) -> Array:
    y = s.normalise(x)
    x = x + s.attention(y, y, 2, True, xs)
    x = x + s.attention(s.normalise(x), m, 2, False, ms)
    return x + s.feed_forward(s.normalise(x))


def looked_at(scores: Array, hs: Array, where: Array | None) -> tuple[Array, Array]:
    """The mean of hs and the weights, for scores [batch, …, time]."""
    keep = np.ones(hs.shape[:2], bool) if where is None else where
    weights = np.array([np.apply_along_axis(weights_of, -1, row, kept) for row, kept in zip(scores, keep, strict=True)])
    return np.einsum("b...t,bte->b...e", weights, hs), weights


def additive(s: Steps, x: Array, hs: Array, biased: bool) -> Array:
    """Of dense layers on both sides; the layer makes the one of `x` first where it has a bias (Bahdanau)."""
    if biased:
        left = s.projection(x)
        right = s.dense(hs)
    else:
        right = s.projection(hs)
        left = s.projection(x)
    right = right if x.ndim == 2 else right[:, None]
    return s.projection(np.tanh(left[..., None, :] + right))[..., 0]


def general(s: Steps, x: Array, hs: Array) -> Array:
    return np.einsum("b...d,btd->b...t", x, s.projection(hs))


@dataclass(frozen=True, slots=True)
class Case:
    call: str
    operands: dict[str, Array]
    expected: Callable[..., Any]
    biased: bool = True


def _attention_cases() -> Iterator[Case]:
    yield Case("attention(2)(x, x, x)", {"x": X}, lambda s, x: s.attention(x, x, 2))
    yield Case("attention(1, causal = true)(x, x, x)", {"x": X}, lambda s, x: s.attention(x, x, 1, True))
    yield Case("attention(4)(x, m, m)", {"x": X, "m": MEMORY}, lambda s, x, m: s.attention(x, m, 4))
    yield Case(
        "attention(2, bias = false)(x, m, m, where = keep)",
        {"x": X, "m": MEMORY, "keep": KEY_MASK},
        lambda s, x, m, keep: s.attention(x, m, 2, False, keep),
        biased=False,
    )
    yield Case(
        "attention(2, causal = true)(x, x, x, where = keep)",
        {"x": X, "keep": QUERY_MASK},
        lambda s, x, keep: s.attention(x, x, 2, True, keep),
    )
    yield Case(
        "attention(4, key_heads = 2)(x, m, m)", {"x": X, "m": MEMORY}, lambda s, x, m: s.attention(x, m, 4, sharing=2)
    )
    yield Case(
        "attention(2, causal = true, key_heads = 1)(x, x, x)",
        {"x": X},
        lambda s, x: s.attention(x, x, 2, True, sharing=2),
    )
    for halves in (False, True):
        yield Case(
            f"attention(2, rotate = rotary(100.0, {str(halves).lower()}))(x, m, m)",
            {"x": X, "m": MEMORY},
            lambda s, x, m, halves=halves: s.attention(x, m, 2, turn=turned(100.0, halves)),
        )
    yield Case("feed_forward(5)(x)", {"x": X}, Steps.feed_forward)
    yield Case("feed_forward(5, tanh, bias = false)(x)", {"x": X}, lambda s, x: s.feed_forward(x, np.tanh), False)


def _block_cases() -> Iterator[Case]:
    yield Case("encoder_block(2, 5, drop = 0)(x)", {"x": X}, encoder_block)
    yield Case("encoder_block(2, 5, drop = 0)(x, where = keep)", {"x": X, "keep": QUERY_MASK}, encoder_block)
    yield Case(
        "encoder_block(2, 5, causal = true, pre_norm = true, activation = gelu(approximate = true), drop = 0, "
        "bias = false)(x)",
        {"x": X},
        encoder_block_before,
        biased=False,
    )
    both = {"x": X, "m": MEMORY}
    masked = both | {"xs": QUERY_MASK, "ms": KEY_MASK}
    for setting, block in (("false", decoder_block), ("true", decoder_block_before)):
        call = f"decoder_block(2, 5, pre_norm = {setting}, drop = 0)"
        yield Case(f"{call}(x, m)", both, block)
        yield Case(f"{call}(x, m, where = xs, memory_where = ms)", masked, block)


def _recurrent_cases() -> Iterator[Case]:
    for keep in (None, KEY_MASK):
        mask = {} if keep is None else {"keep": keep}
        given = "" if keep is None else ", where = keep"
        yield Case(
            f"bahdanau(3)(s, m{given})",
            {"s": S, "m": MEMORY, **mask},
            lambda s, x, m, keep=None: looked_at(additive(s, x, m, True), m, keep),
        )
        for x in (S, X):
            yield Case(
                f'luong("dot")(s, hs{given})',
                {"s": x, "hs": HS, **mask},
                lambda s, x, hs, keep=None: looked_at(np.einsum("b...d,btd->b...t", x, hs), hs, keep),
            )
            yield Case(
                f"luong(s, m{given})",
                {"s": x, "m": MEMORY, **mask},
                lambda s, x, m, keep=None: looked_at(general(s, x, m), m, keep),
            )
            yield Case(
                f'luong("concat", 3)(s, m{given})',
                {"s": x, "m": MEMORY, **mask},
                lambda s, x, m, keep=None: looked_at(additive(s, x, m, False), m, keep),
            )


CASES = (*_attention_cases(), *_block_cases(), *_recurrent_cases())


def identity(case: Case) -> str:
    return f"{case.call}:{next(iter(case.operands.values())).ndim}"


def graph_of(case: Case, call: str = "") -> Graph:
    return applied(call or case.call, case.operands, "layer", training=True)


def tensors_of(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(3)
    owned = [i for i in graph.inputs if i.role is Role.PARAMETER]
    return {i.name: random.uniform(-0.7, 0.9, at_batch(i.value.type.shape, 1)) for i in owned}


def result_names(graph: Graph) -> list[str]:
    return [o.name for o in graph.outputs if o.role is Role.OUTPUT]


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_it_equals_numpy(case: Case) -> None:
    graph = graph_of(case)
    tensors = tensors_of(graph)
    steps = Steps(list(tensors.values()), case.biased)
    expected = case.expected(steps, *case.operands.values())
    assert next(steps.tensors, None) is None
    results = evaluate(graph, {**case.operands, **tensors}, 1)
    for name, value in zip(result_names(graph), expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(results[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_the_gradient_equals_a_difference(case: Case) -> None:
    graph = graph_of(case)
    tensors = tensors_of(graph)
    moving = [*tensors, *(name for name, array in case.operands.items() if array.dtype != bool)]
    for name in result_names(graph):
        assert_gradients(graph, name, moving, {**case.operands, **tensors})


# Masks


def evaluated(call: str, operands: dict[str, Array], tensors: dict[str, Array] | None = None) -> Array:
    """The first result; all parameters as in `tensors_of` unless given."""
    graph = applied(call, operands, "layer")
    results = evaluate(graph, {**operands, **(tensors_of(graph) if tensors is None else tensors)}, 1)
    return results[result_names(graph)[0]]


@pytest.mark.parametrize("causal", ["true", "false"])
@pytest.mark.parametrize("pre_norm", ["true", "false"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_padded_rows_equal_those_without_padding(causal: str, pre_norm: str, length: int) -> None:
    call = f"encoder_block(2, 5, causal = {causal}, pre_norm = {pre_norm})(x"
    keep = np.zeros((BATCH, QUERIES), bool)
    keep[:, :length] = True
    junk = np.where(keep[:, :, None], X, 1e6)
    padded = evaluated(f"{call}, where = keep)", {"x": junk, "keep": keep})
    plain = evaluated(f"{call})", {"x": X[:, :length]})
    np.testing.assert_allclose(padded[:, :length], plain, rtol=1e-9)


@pytest.mark.parametrize("layer", ["bahdanau(3)", "luong", 'luong("dot")', 'luong("concat")'])
def test_padded_memory_equals_that_without_padding(layer: str) -> None:
    keep = np.arange(KEYS) < np.array([[3], [3], [3]])
    junk = np.where(keep[:, :, None], HS, -1e6)
    padded = evaluated(f"{layer}(s, hs, where = keep)", {"s": S, "hs": junk, "keep": keep})
    np.testing.assert_allclose(padded, evaluated(f"{layer}(s, hs)", {"s": S, "hs": HS[:, :3]}), rtol=1e-9)


@pytest.mark.parametrize("call", ["attention(2, bias = false)(x, x, x, where = keep)", "luong(x, x, where = keep)"])
def test_where_nothing_is_kept_attention_gives_zero_and_takes_no_gradient(call: str) -> None:
    operands = {"x": X, "keep": np.zeros((BATCH, QUERIES), bool)}
    graph = applied(call, operands, "layer")
    name = result_names(graph)[0]
    tensors = tensors_of(graph)
    np.testing.assert_array_equal(evaluate(graph, {**operands, **tensors}, 1)[name], np.zeros_like(X))
    for slope in gradients(graph, name, ["x", *tensors], {**operands, **tensors}, np.ones_like(X)):
        np.testing.assert_array_equal(slope, np.zeros_like(slope))


def test_what_comes_later_does_not_change_what_a_causal_block_gives() -> None:
    call = "encoder_block(2, 5, causal = true)(x)"
    later = X.copy()
    later[:, 2:] += 10
    before, after = evaluated(call, {"x": X}), evaluated(call, {"x": later})
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2:] != after[:, 2:]).all()


# Numbers at the edge


@pytest.mark.parametrize("size", [1e-30, 1e4, 1e15])
@pytest.mark.parametrize("call", ["attention(2, causal = true)(x, x, x, where = keep)", "attention(2)(x, x, x)"])
def test_scores_of_any_size_give_finite_results_and_gradients(call: str, size: float) -> None:
    x = (X * size).astype(np.float32)
    operands = {"x": x} | ({"keep": QUERY_MASK} if "keep" in call else {})
    graph = applied(call, operands, "layer", is_double=False)
    tensors = {name: value.astype(np.float32) for name, value in tensors_of(graph).items()}
    result = evaluate(graph, {**operands, **tensors}, 1)["result"]
    assert np.isfinite(result).all()
    slopes = gradients(graph, "result", ["x", *tensors], {**operands, **tensors}, np.ones_like(result))
    assert all(np.isfinite(slope).all() for slope in slopes)


# Positions and tokens


@pytest.mark.parametrize("halves", [False, True])
def test_products_of_turned_vectors_depend_on_their_distance(halves: bool) -> None:
    q, k = _RANDOM.normal(size=(2, 8))
    call = f"rotary(x, halves = {str(halves).lower()})"
    repeated = [np.tile(vector, (6, 1)) for vector in (q, k)]
    queries, keys = (evaluate(applied(call, {"x": x}), {"x": x}, 1)["result"] for x in repeated)
    products = queries @ keys.T
    for distance in range(-5, 6):
        np.testing.assert_allclose(np.ptp(np.diagonal(products, distance)), 0, atol=1e-12)
    assert abs(products[0, 1] - products[0, 0]) > 1e-3


def test_an_embedding_may_be_the_head_too() -> None:
    tokens = np.array([[1, 4, 0], [2, 2, 3]], np.int32)
    source = {"tokens": tokens}
    graph = applied("tied(tokens)", source, "layer", declarations=TIED)
    (path,) = (i.name for i in graph.inputs if i.role is Role.PARAMETER)
    table = _RANDOM.normal(size=(5, 3))
    result = evaluate(graph, {**source, path: table}, 1)["result"]
    np.testing.assert_allclose(result, np.tanh(table[tokens]) @ table.T, rtol=1e-12)
    assert_gradients(graph, "result", [path], {**source, path: table})


TIED = """
layer tied(tokens) {
    embed = embedding(5, 3)
    return embed(tanh(embed(tokens)))
}
"""


# Dropout


def test_dropout_falls_on_the_weights_and_rate_zero_draws_nothing() -> None:
    tensors = {"seed": np.asarray(1, np.int64), "step": np.asarray(0, np.int64)}
    values = np.ones((64, 16, 4))
    graph = applied("attention(2, bias = false, drop = 0.25)(x, x, x)", {"x": values}, "layer", training=True)
    weights = {i.name: np.eye(4) for i in graph.inputs if i.role is Role.PARAMETER}
    result = evaluate(graph, {"x": values, **weights, **tensors}, 1)["result"]
    # Sixteen weights of 1 / 16 / 0.75, of which a quarter is missing.
    np.testing.assert_allclose(result * 12, np.round(result * 12), atol=1e-9)
    assert abs(result.mean() - 1) < 0.02
    assert 0.1 < result.std() < 0.2
    without = applied("encoder_block(2, 4, drop = 0)(x)", {"x": values}, "layer", training=True)
    assert not [i.name for i in without.inputs if i.role in (Role.SEED, Role.STEP)]


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("attention(3)(x, x, x)", "a width of 8 cannot be cut into 3 heads"),
        ("attention(0)(x, x, x)", "cannot be cut into 0 heads"),
        ("attention(2)(x, m, x)", "needs one size for `j`, but it is 5 first"),
        ('luong("sum")(x, x)', '"sum" is none of "dot", "general", "concat"'),
        ('luong("dot")(x, m)', "takes states as wide as `hs`, not 8 and 6"),
        ("embedding(5, 7)(x)", "the last axis of the left side, 8, and the next-to-last axis of the right side, 7"),
        ("learned_positions(3)(x)", "there are vectors for 3 positions, and the input has 4"),
        ("rotary(m[:, :, 0:5])", "a width of 5 is odd"),
        ("sinusoidal_positions(m[:, :, 0:5])", "a width of 5 is odd"),
    ],
)
def test_messages(call: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        applied(call, {"x": X, "m": MEMORY}, "layer")
    assert message in str(caught.value)
