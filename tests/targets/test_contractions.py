"""Products of every pattern of labels and at the edges of tiles, against NumPy, on each instruction set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from comparisons import Array, assert_same
from native import EVERY_KERNEL_PARALLEL, Native, compiled, host

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.machine import AVX2, AVX512, NEON, Machine
from compiler.ops.contraction import Contraction
from compiler.schedule.build import schedule
from compiler.targets.cpu.lower import lower
from compiler.targets.cpu.runner import PARALLEL
from compiler.targets.llvm.jit import assembly
from compiler.targets.memory import TensorStore
from compiler.types import BatchExtent, DType, TensorType, at_batch

EDGES = (1, 2, 15, 16, 17, 31, 33)
BATCHES = (1, 2, 15, 16, 17, 33)
TYPES = {DType.F32: np.float32, DType.F64: np.float64}

# In these the label b is the batch; the other labels take all of the sizes below in turn.
PATTERNS = (
    "bk,kn->bn",  # dense, forward
    "bn,kn->bk",  # the gradient of its input: the right operand is transposed
    "bk,bn->kn",  # the gradient of its weight: the batch is summed
    "kn,bk->bn",  # the operands swapped
    "bk,kn->nb",  # the result transposed
    "bk,nk->nb",
    "mk,kn->mn",  # no batch
    "km,kn->mn",
    "mk,nk->mn",
    "km,nk->nm",
    "bmk,kn->bmn",  # rows of the batch and of time
    "bmk,bkn->bmn",  # scores times values: a product for each row of the batch
    "bmk,bnk->bmn",
    "bmk,bnk->bnm",
    "mbk,kn->mbn",  # the batch is not outermost
    "hmk,hkn->hmn",  # a static batch label
    "bhmk,bhnk->bhmn",
    "bhk,hkn->bhn",  # a weight for each head
    "bmk,bmn->kn",  # two labels summed, one of them the batch
    "bmk,mkn->bn",  # two labels summed
    "bkm,mkn->bn",  # in the other order
    "bk,k->b",
    "bk,b->k",
    "bk,bk->b",  # no product is left, only sums
    "bk,bk->k",
    "bk,bk->",
    "b,n->bn",  # nothing is summed
    "m,n->nm",
)


ALL_TURNS, SOME_TURNS = range(len(EDGES)), (1, 4, 6)


def settings() -> list[tuple[Machine, DType, Sequence[int]]]:
    """Machines whose code this process can run, the element type, and the turns of the sizes."""
    found: list[tuple[Machine, DType, Sequence[int]]] = [
        (host(), DType.F32, ALL_TURNS),
        (host(), DType.F64, SOME_TURNS),
    ]
    if host().triple == AVX2.triple and {"+avx2", "+fma"} <= set(host().features.split(",")):
        found.append((AVX2, DType.F32, SOME_TURNS))
    return found


def labels(pattern: str) -> tuple[str, str, str]:
    operands, result = pattern.split("->")
    left, right = operands.split(",")
    return left, right, result


def sizes(pattern: str, turn: int) -> dict[str, int | BatchExtent]:
    """Label number n of the pattern has the edge `turn * n` places on, so that all differ and each meets each edge."""
    names = sorted(set(pattern) & set("hkmn"))
    strides = (1, 2, 3, 4)
    found: dict[str, int | BatchExtent] = {
        name: EDGES[(turn * stride + stride) % len(EDGES)] for name, stride in zip(names, strides, strict=False)
    }
    found["b"] = BatchExtent()
    return found


def products(pattern: str, dtype: DType, turns: Sequence[int]) -> Graph:
    """One graph with the product for each turn of the sizes."""
    builder = GraphBuilder(pattern)
    left, right, result = labels(pattern)
    for turn in turns:
        extents = sizes(pattern, turn)
        x, y = (
            builder.input(f"{side}{turn}", Role.DATA, TensorType(dtype, tuple(extents[name] for name in names)))
            for side, names in (("x", left), ("y", right))
        )
        numbered = Contraction(*(tuple(map(ord, names)) for names in (left, right, result)))
        builder.output(f"z{turn}", Role.OUTPUT, builder.emit(numbered, x, y))
    return builder.build()


def inputs_of(graph: Graph, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(7)
    return {
        entry.name: random.uniform(-1, 1, at_batch(entry.value.type.shape, batch)).astype(TYPES[entry.value.type.dtype])
        for entry in graph.inputs
    }


@pytest.mark.parametrize(("machine", "dtype", "turns"), settings(), ids=lambda argument: getattr(argument, "name", ""))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_products_equal_numpy(pattern: str, machine: Machine, dtype: DType, turns: Sequence[int]) -> None:
    check(pattern, compiled(products(pattern, dtype, turns), machine=machine), dtype, turns, 1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_products_that_exceed_the_cache(pattern: str) -> None:
    """With a cache of few bytes, every product is walked in blocks, and panels are shared between threads."""
    tiny = replace(host(), l1_bytes=256, l2_bytes=512)
    graph = products(pattern, DType.F32, SOME_TURNS)
    check(pattern, compiled(graph, machine=tiny, batch=EVERY_KERNEL_PARALLEL), DType.F32, SOME_TURNS, 2)


def check(pattern: str, native: Native, dtype: DType, turns: Sequence[int], threads: int) -> None:
    graph, executable = products(pattern, dtype, turns), native.executable(threads)
    for batch in BATCHES if "b" in pattern else (1,):
        inputs = inputs_of(graph, batch)
        found = executable.call(inputs, batch)
        for turn in turns:
            exact = np.einsum(pattern, *(inputs[f"{side}{turn}"].astype("f8") for side in "xy"))
            assert_same(f"z{turn} of {pattern} at {batch}", found[f"z{turn}"], exact.astype(TYPES[dtype]))


@pytest.mark.parametrize(
    ("pattern", "m", "k", "n"),
    [
        ("mk,kn->mn", 300, 33, 100),
        ("mk,kn->mn", 1000, 130, 10),  # a tile has more rows than a vector has lanes
        ("mk,nk->mn", 301, 47, 97),
        ("km,kn->mn", 300, 33, 100),
        ("km,nk->mn", 129, 77, 65),
        ("bk,kn->bn", 300, 33, 100),
        ("bk,nk->bn", 300, 47, 97),
        ("bm,bn->mn", 200, 33, 100),
        ("bm,bn->mn", 810, 33, 430),  # several blocks of rows, and more panels than are multiplied together
        ("mk,kn->mn", 70, 1300, 128),  # several blocks of the sum, and tiles that end in registers
        ("mk,kn->mn", 71, 1301, 130),
        ("mk,nk->mn", 45, 1301, 97),
        ("km,kn->mn", 61, 1303, 100),
        ("bk,kn->bn", 61, 1303, 100),
        ("mk,kn->mn", 71, 1301, 400),  # enough panels for copying rows
        ("km,nk->mn", 169, 1301, 400),  # rows side by side, which are not copied
    ],
)
def test_large_products_on_several_threads(pattern: str, m: int, k: int, n: int) -> None:
    """Large for a cache of 2 KiB: panels are packed by all threads and used by all."""
    batch = 1500 if pattern == "bm,bn->mn" else 67  # a sum of several blocks
    graph = product(pattern, m, k, n, Role.DATA)
    native = compiled(graph, machine=cramped(), batch=EVERY_KERNEL_PARALLEL)
    assert any(entry.flags & PARALLEL for entry in native.lowered.manifest.entries)
    inputs = inputs_of(graph, batch)
    exact = np.einsum(pattern, *(inputs[name].astype("f8") for name in ("x0", "y0"))).astype("f4")
    for threads in (1, 3):
        executable = native.executable(threads)
        for _ in range(5):
            assert_same(pattern, executable.call(inputs, batch)["z0"], exact)


def cramped() -> Machine:
    """For which a few kilobytes are large, and rows of a tile always compete for lines."""
    return replace(host(), l1_bytes=256, l1_ways=4, l2_bytes=2048)


def product(pattern: str, m: int, k: int, n: int, role: Role) -> Graph:
    """A single product, whose right operand has the `role`."""
    builder = GraphBuilder(pattern)
    left, right, result = labels(pattern)
    extents = {"m": m, "k": k, "n": n, "b": BatchExtent()}
    x, y = (
        builder.input(name, of, TensorType(DType.F32, tuple(extents[label] for label in names)))
        for name, of, names in (("x0", Role.DATA, left), ("y0", role, right))
    )
    numbered = Contraction(*(tuple(map(ord, names)) for names in (left, right, result)))
    builder.output("z0", Role.OUTPUT, builder.emit(numbered, x, y))
    return builder.build()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("pattern", "k", "n"), [("bk,kn->bn", 130, 100), ("bk,kn->bn", 1301, 400), ("bk,nk->bn", 1301, 397)]
)
def test_panels_of_large_products_last(pattern: str, k: int, n: int, threads: int) -> None:
    """Threads then share rows and panels, at any batch; the bits are those of panels that are packed at each call."""
    usual = compiled(product(pattern, 0, k, n, Role.DATA), machine=cramped(), batch=300).executable()
    lasting = compiled(product(pattern, 0, k, n, Role.PARAMETER), machine=cramped(), batch=300).executable(threads)
    assert lasting.manifest.once, "packing them is not part of each call"
    assert max(entry.chunk for entry in lasting.manifest.entries) > 16, "an item is one tile, not a block of them"
    tensors = TensorStore(lasting.manifest.tensors)
    for batch in (300, 1, 67, 511):
        inputs = inputs_of(product(pattern, 0, k, n, Role.DATA), batch)
        tensors.write("y0", inputs["y0"])
        found = lasting.call({"x0": inputs["x0"]}, batch, tensors)["z0"]
        assert np.array_equal(found, usual.call(inputs, batch)["z0"])


def test_threads_share_the_rows_of_large_products_equally() -> None:
    graph = product("mk,kn->mn", 2048, 2048, 2048, Role.PARAMETER)
    manifest = lower(graph, schedule(graph, (), 32), AVX512, 32).manifest
    extent, chunk = next((e.extent, e.chunk) for e in manifest.entries if e.chunk > 1)
    assert isinstance(extent, int)
    assert chunk > 16, "an item is one tile, not a block of them"
    assert -(-extent // chunk) % 2 == 0, "two threads have equally many blocks"


@pytest.mark.parametrize("role", [Role.DATA, Role.PARAMETER])
def test_tiles_of_large_products_ask_for_what_the_next_ones_read(role: Role) -> None:
    """Beside the next sums, two lines of the next panel, and a line of each of the next rows."""
    graph = product("mk,kn->mn", 2048, 2048, 2048, role)
    texts = lower(graph, schedule(graph, (), 32), AVX512, 32).texts.values()
    near = max(text.count("i32 0, i32 2, i32 1)") for text in texts)
    assert near == 2 + 2 + 13


def dense(dtype: DType) -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", Role.DATA, TensorType(dtype, (BatchExtent(), 64)))
    w = builder.input("w", Role.DATA, TensorType(dtype, (64, 48)))
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), x, w))
    return builder.build()


def dense_assembly(machine: Machine, dtype: DType) -> str:
    graph = dense(dtype)
    lowered = lower(graph, schedule(graph, batch=32), machine, 32)
    (text,) = lowered.texts.values()
    return assembly(text, machine)


@pytest.mark.parametrize(
    ("machine", "instruction"),
    [(AVX2, r"vfmadd\d+ps\s.*%ymm"), (NEON, r"fmla\s+v\d+\.4s")],
    ids=lambda argument: getattr(argument, "name", ""),
)
def test_products_use_vector_fma_in_registers(machine: Machine, instruction: str) -> None:
    code = dense_assembly(machine, DType.F32)
    assert len(re.findall(instruction, code)) >= 12
    assert not re.search(r"\b(callq?|bl)\b.*fma", code), "a product calls a function for its multiply-adds"


def test_f64_products_use_vector_fma() -> None:
    assert re.search(r"vfmadd\d+pd\s.*%ymm", dense_assembly(AVX2, DType.F64))
    assert re.search(r"fmla\s+v\d+\.2d", dense_assembly(NEON, DType.F64))
