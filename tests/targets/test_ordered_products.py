"""Products under a causal mask: what the mask hides is neither added nor multiplied, and the results stay the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparisons import Array, assert_same
from masked_products import BATCH, HEADS, attention, inputs, masked, numbered
from native import EVERY_KERNEL_PARALLEL, compiled, host

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Role
from compiler.machine import AVX2
from compiler.ops.contraction import Contraction
from compiler.ops.movement import Slice
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.numerics.internal_ops import OrderedContraction
from compiler.types import BatchExtent, DType, TensorType, at_batch


def expected(given: dict[str, Array], forward: bool) -> dict[str, Array]:
    q, k, v = (given[name].astype("f8") for name in "qkv")
    seen = np.tri(q.shape[1], dtype=bool)
    weights = np.where(seen.T if forward else seen, np.exp(np.einsum("bihc,bjhc->bhij", q, k)), 0)
    slopes = np.einsum("bihc,bjhc->bhij", v, k) * weights
    found = {
        "y": np.einsum("bhij,bjhc->bihc", weights, v),
        "dv": np.einsum("bhij,bihc->bjhc", weights, q),
        "dq": np.einsum("bhij,bjhc->bihc", slopes, k),
    }
    return {name: array.astype(given["q"].dtype) for name, array in found.items()}


@pytest.mark.parametrize("forward", [False, True], ids=["backward", "forward"])
@pytest.mark.parametrize(("size", "depth"), [(32, 8), (33, 17), (47, 16), (64, 32), (71, 40)])
def test_masked_products_equal_numpy(size: int, depth: int, forward: bool) -> None:
    graph, given = attention(size, depth, forward), inputs(size, depth)
    exact, first = expected(given, forward), None
    for fuse, machine in ((True, host()), (False, host()), (True, replace(host(), l1_bytes=256, l2_bytes=512))):
        native = compiled(graph, fuse=fuse, batch=EVERY_KERNEL_PARALLEL, machine=machine)
        for threads in (1, 2, 3):
            found = native.executable(threads).call(given, BATCH)
            first = first or found
            for name, array in exact.items():
                assert_same(f"{name} of {size}", found[name], array)
                assert np.array_equal(found[name], first[name]), "fusion, threads or blocks change bits"


@pytest.mark.skipif(
    not (host().triple == AVX2.triple and {"+avx2", "+fma"} <= set(host().features.split(","))), reason="needs AVX2"
)
def test_masked_products_with_few_registers() -> None:
    given = inputs(50, 24)
    found = compiled(attention(50, 24), machine=AVX2).executable(1).call(given, BATCH)
    for name, array in expected(given, False).items():
        assert_same(name, found[name], array)


def test_masked_products_in_f64() -> None:
    given = inputs(45, 20, np.float64)
    found = compiled(attention(45, 20, dtype=DType.F64)).executable(1).call(given, BATCH)
    for name, array in expected(given, False).items():
        assert_same(name, found[name], array)


def test_every_product_of_causal_attention_is_ordered() -> None:
    ops = [node.op for node in fix_numerics(attention(64, 16)).nodes]
    assert sum(isinstance(op, OrderedContraction) for op in ops) == 5
    assert not any(isinstance(op, Contraction) for op in ops)


def test_what_the_mask_hides_is_not_added() -> None:
    """A value that is not a number reaches the queries after it, and no others."""
    given = inputs(70, 16)
    given["v"][:, 40] = np.nan
    found = compiled(attention(70, 16)).executable(1).call(given, BATCH)["y"]
    assert np.isfinite(found[:, :40]).all()
    assert np.isnan(found[:, 40:]).all()


def test_scores_that_are_asked_for_are_whole() -> None:
    builder, size = GraphBuilder("scores"), 40
    q, k = (builder.input(n, Role.DATA, TensorType(DType.F32, (BatchExtent(), size, HEADS, 8))) for n in "qk")
    scores = builder.emit(numbered("bihc,bjhc->bhij"), q, k)
    builder.output("scores", Role.OUTPUT, scores)
    builder.output("masked", Role.OUTPUT, masked(builder, scores, 0.0, False))
    given = inputs(size, 8)
    found = compiled(builder.build()).executable(1).call(given, BATCH)["scores"]
    exact = np.einsum("bihc,bjhc->bhij", given["q"].astype("f8"), given["k"].astype("f8"))
    assert found.shape == at_batch(scores.type.shape, BATCH)
    assert_same("scores", found, exact.astype("f4"))


def test_a_triangle_of_sums_over_two_axes_is_a_whole_product() -> None:
    """The gradient of a weight of which a triangle counts: a sum over the batch and over every other position."""
    builder = GraphBuilder("masked_weight_gradient")
    x, slopes = (
        builder.emit(Slice((0, 0, 0), (BatchExtent(), 3, 48), (1, 2, 1)), value)
        for value in (
            builder.input(name, Role.DATA, TensorType(DType.F32, (BatchExtent(), 5, 48))) for name in ("x", "slopes")
        )
    )
    product = builder.emit(numbered("btm,btn->mn"), x, slopes)
    builder.output("dw", Role.OUTPUT, masked(builder, product, 0.0, False))
    random = np.random.default_rng(3)
    given = {name: random.uniform(-1, 1, (BATCH, 5, 48)).astype("f4") for name in ("x", "slopes")}
    found = compiled(builder.build(), batch=EVERY_KERNEL_PARALLEL).executable(2).call(given, BATCH)
    product = np.einsum("btm,btn->mn", *(array[:, ::2].astype("f8") for array in given.values()))
    assert_same("dw", found["dw"], np.tril(product).astype("f4"))
