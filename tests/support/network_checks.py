"""What must hold of any program with a training: the bits however it is run, and the numbers of the reference target.

A `Way` is a way to compile and run a program that must not change a bit. Those that are `lowered` are compiled with a
tuning of thresholds so low, and for caches so small, that small tensors take the paths of large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeAlias
from unittest.mock import patch

import numpy as np
from native import Native, compiled, host

from compiler import driver
from compiler.driver import EPOCH_NUMBER, FUSIONS, SAMPLE_NUMBERS, Executable, Options, Program
from compiler.graph.ir import Graph, Role
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Steps
from compiler.machine import AVX2, Machine
from compiler.programs.executables import graphs_of_step, joined
from compiler.programs.kinds import EVALUATION, INITIALISATION, PREDICTION, TRAINING, GraphKind
from compiler.programs.load import complete
from compiler.programs.stages import graph_of, prepared
from compiler.programs.steps import training_step
from compiler.support import numerics
from compiler.targets import memory
from compiler.targets.cpu import executable as executables
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.llvm.llvm import OPTIMISATION_LEVEL
from compiler.targets.memory import TensorStore
from compiler.targets.reference import ReferenceExecutable
from compiler.tuning import Tuning
from compiler.types import DType, at_batch, numpy_dtype
from runtime.inference.model import runtime_settings, training_of

Array: TypeAlias = np.ndarray[Any, Any]

Compiled: TypeAlias = Callable[[int], Executable]  # for a number of threads

WAYS = ("without fusions", "lowered", "lowered without some")  # of compiling a training, with the same bits
USES = ("resumed", "predictions", "training in f64", "evaluation")
VARIANTS = (*WAYS, *USES)
"""What may be checked of a network beside its bits with several threads."""

STEPS = 3
UNUSED = 0xFF  # what memory holds that nobody has written: NaN as floats
# How many times the effect of other last places, of tensors or in f32 of every value, rounding may have, and how much
# it may have besides.
_AMPLIFIED = {"f32": 30, "f64": 1000}
_RELATIVE = {"f32": 2e-4, "f64": 1e-9}
_LAST_PLACES = {"f32": 3e-7, "f64": 1e-13}

# Values to choose from, so that small tensors take the paths of large ones.
OF_TUNING: Mapping[str, tuple[Any, ...]] = {
    "serial_work": (0,),
    "largest_group": (120, 6),
    "overwritten_bytes": (0,),
    **{"spared_bytes": (0,), "spared_value_bytes": (0,), "spared_beside": (2, 16), "spared_sum": (64, 4)},
    "spared_near": (3, 0),
    **{"shard_rows": (15,), "shards": (1,)},  # a tile takes 2 shards of 14 rows
    "sibling_share": (1, 16),
    **{"again_share": (1, 2, 16), "again_depth": (4, 20)},
    **{"flat_columns": (16, 64, 2048), "row_columns": (1, 16, 256), "product_rows": (1, 12, 64)},
    "window_reads": (1, 4),
    "streamed_caches": (0,),
    **{"near_panel_bytes": (0, 16 << 10), "copying_tiles": (0, 1, 6), "stage_in_registers": (0, 6, 40)},
    "tile_ahead_sum": (4, 64),
    **{"block_sum": (16, 640), "near_block_sum": (8,), "block_panels": (2,), "copied_rows_panels": (1, 12)},
    **{"copied_sum": (8, 16, 128), "copied_share": (0.01, 0.1, 1.0)},
    **{"long_sum": (8, 128), "long_sum_items": (1, 4, 16), "long_sum_tiles": (1, 4)},
    **{"strip_sum": (8, 160), "strip_sums_share": (0.001, 0.375), "strip_vectors": (1, 3), "strip_waste": (1.1, 9.0)},
    **{"tile_vectors": (2, 16), "packed_tile_vectors": (1, 8), "tile_rows": (1, 4, 28)},
    **{"shared_reads": (1, 4), "near_row_bytes": (0, 1 << 14), "rows_ahead": (1, 12), "streamed_rows": (0, 4, 28)},
}
# They decide the order of additions, so that all ways of a program have the same.
_OF_NUMERICS: Mapping[str, tuple[Any, ...]] = {
    **{"LONG_ROW": (4, 16), "LONG_SUM": (2, 64), "LONG_STRETCH": (8, 2**22), "FEW_RESULTS": (2, 8)},
    **{"STRIP": (2, 4), "MOST_IN_STRIPS": (0, 9, 25), "FEWEST_SUMS": (2, 4), "FEWEST_ORDERED": (1, 4, 32)},
    **{"MOST_TAPS": (4, 64), "MOST_CHANNELS": (8, 32), "FEWEST_IN_LANES": (1, 6), "FEWEST_SUMMED": (1, 16)},
    "EVEN": (1.25, 16.0),
}


@dataclass(frozen=True)
class Way:
    name: str
    threads: int = 1
    without: tuple[str, ...] = ()
    lowered: bool = False
    nominal: int | None = None  # the batch that tiles are chosen for, instead of the program's
    poisoned: bool = False


@dataclass(frozen=True)
class Trained:
    """What a training came to: its scalars step by step, and every tensor."""

    scalars: Mapping[str, Array]
    tensors: Mapping[str, Array]

    def difference(self, other: Trained) -> str:
        """The names of what has other bits."""
        mine, theirs = {**self.scalars, **self.tensors}, {**other.scalars, **other.tensors}
        return ", ".join(n for n in mine if mine[n].tobytes() != theirs[n].tobytes())


class Network:
    """A program with data, and everything that is decided about it by the seed."""

    def __init__(self, text: str, seed: int, level: int = OPTIMISATION_LEVEL) -> None:
        self.level = level  # of LLVM, for what is compared with the training or beside the reference
        self.program: Program = driver.load_text(text, "network.dl")
        self.random = Random(seed)
        self.usual = training_of(self.program).usual_rows
        self.batch = training_of(self.program).batch or self.usual
        self.settings = {"steps_per_epoch": 0.0, **runtime_settings(self.program)}  # later phases begin at once
        plan = training_of(self.program)
        counts = plan.accumulation is not None
        self.training = replace(TRAINING, phase=int(bool(plan.phases) and not counts and self.random.random() < 0.5))
        available = STEPS * self.usual + 3
        self.data = _data(self.program, available, np.random.default_rng(seed))
        last = self.random.randint(1, self.usual)
        self.rows = np.random.default_rng(seed).permutation(available)[: (STEPS - 1) * self.usual + last]
        changed = self.random.random() < 0.5
        self.numerics = {n: self.random.choice(values) for n, values in _OF_NUMERICS.items()} if changed else {}
        self.tuning = Tuning(**{name: self.random.choice(values) for name, values in OF_TUNING.items()})
        some = tuple(name for name in FUSIONS if self.random.random() < 0.3)
        nominal = self.random.choice((1, 7, 64, 4096)), self.random.choice((1, 300))
        self.ways = {
            "without fusions": Way("without fusions", 2, tuple(FUSIONS), poisoned=True),
            "lowered": Way("lowered", 3, lowered=True, nominal=nominal[0], poisoned=True),
            "lowered without some": Way(f"lowered without {','.join(some)}", 2, some, True, nominal[1], True),
        }
        self.way_in_f64 = replace(self.ways["lowered"], lowered=self.random.random() < 0.5)
        self.ready: dict[tuple[GraphKind, str], Graph] = {}  # optimised graphs by kind and element type
        self.made: dict[tuple[GraphKind, str, Way], Native] = {}
        initialisation = ReferenceExecutable(graph_of(self.program, INITIALISATION))
        store = driver.allocate(self.program, Options())
        initialisation.run(Steps(store, {}, np.zeros(1, np.int64), 1, seed=seed))
        self.start = {name: store[name].copy() for name in store.names()}

    # Programs

    def executable(self, kind: GraphKind, way: Way, dtype: str = "f32") -> Compiled:
        """A program of some kind, for numbers of threads."""
        with patch.dict(vars(numerics), self.numerics):
            parts = {
                part: self.native(part, way, dtype) for part in graphs_of_step(self.program, kind, Options(dtype=dtype))
            }
        return lambda threads: joined(
            self.program, {part: made(threads) for part, made in parts.items()}, Options(dtype=dtype, threads=threads)
        )

    def native(self, kind: GraphKind, way: Way, dtype: str) -> Callable[[int], NativeExecutable]:
        key = (kind, dtype, replace(way, threads=1, poisoned=False))  # these two are decided when it runs
        if key not in self.made:
            machine = replace(_small(), tuning=self.tuning) if way.lowered else host()
            nominal = way.nominal or self.batch
            level = OPTIMISATION_LEVEL if (kind, key[-1]) == (self.training, Way("plain")) else self.level
            graph = self.optimised(kind, dtype)
            self.made[key] = compiled(graph, without=way.without, batch=nominal, machine=machine, level=level)

        def executable(threads: int) -> NativeExecutable:
            with _poisoned_memory(way.poisoned):
                made = self.made[key].executable(threads)
            made._control[:] = 0  # pyright: ignore[reportPrivateUsage]
            return made

        return executable

    def optimised(self, kind: GraphKind, dtype: str = "f32") -> Graph:
        if (kind, dtype) not in self.ready:
            options = Options(dtype=dtype, verify=True)
            self.ready[kind, dtype] = prepared(graph_of(self.program, kind, options), options)
        return self.ready[kind, dtype]

    def graphs(self) -> tuple[Graph, ...]:
        """The training as it is written, without its gradients, and what was optimised."""
        return complete(self.program).training_graph, *self.ready.values()

    # Runs

    def tensors(self, dtype: str = "f32", poisoned: bool = False) -> TensorStore:
        with _poisoned_memory(poisoned):
            store = driver.allocate(self.program, Options(dtype=dtype))
        assert isinstance(store, TensorStore)
        for name, values in self.start.items():
            store.write(name, values)
        return store

    def trained(
        self, step: Executable, store: TensorStore, first: int = 0, stop: int = STEPS, dtype: str = "f32"
    ) -> Trained:
        rows = self.rows[first * self.usual : stop * self.usual]
        data = {
            n: a.astype(np.float64) if dtype == "f64" and a.dtype == np.float32 else a for n, a in self.data.items()
        }
        scalars = step.run(Steps(store, data, rows, self.usual, first, 7, self.settings)).scalars
        return Trained(dict(scalars), {name: store[name].copy() for name in store.names()})

    def faults(self, variants: Collection[str] = VARIANTS) -> Iterator[str]:
        """What does not hold, one line each."""
        base = Way("plain")
        plain = self.trained(self.executable(self.training, base)(1), self.tensors())
        for threads in (2, 3):
            way = replace(base, threads=threads, poisoned=True)
            yield from self.same(plain, self.executable(self.training, way), way)
        for name in (name for name in WAYS if name in variants):
            yield from self.same(plain, self.executable(self.training, self.ways[name]), self.ways[name])
        if "resumed" in variants:
            yield from self.resumed(plain, self.executable(self.training, base), self.executable(PREDICTION, base))
        if "predictions" in variants:
            ways = {"plain": base, "lowered": self.ways["lowered"]}
            yield from self.predictions(plain, {name: self.executable(PREDICTION, ways[name]) for name in ways})
        if "training in f64" in variants:
            yield from self.near_reference(self.training, "f64", self.way_in_f64)
        if "evaluation" in variants:
            yield from self.near_reference(EVALUATION, "f32", base)

    def same(self, plain: Trained, executable: Compiled, way: Way) -> Iterator[str]:
        with _poisoned_memory(way.poisoned):
            found = self.trained(executable(way.threads), self.tensors(poisoned=way.poisoned))
        if different := found.difference(plain):
            yield f"{way}: other bits in {different}"

    def resumed(self, plain: Trained, training: Compiled, prediction: Compiled) -> Iterator[str]:
        """A training that was interrupted before its last step, by predictions in the same memory and for good."""
        store = self.tensors()
        step, other = training(1), prediction(1)
        parts = [self.trained(step, store, first, first + 1) for first in range(STEPS - 1)]
        other.run(Steps(store, self.data, self.rows, self.usual, 0, 7, self.settings))
        again = self.tensors()
        for name in store.names():
            again.write(name, store[name])
        for program, tensors in ((step, store), (training(2), again)):
            last = self.trained(program, tensors, STEPS - 1)
            joined = {name: np.concatenate([part.scalars[name] for part in (*parts, last)]) for name in last.scalars}
            if different := Trained(joined, last.tensors).difference(plain):
                yield f"resumed in {'its' if tensors is store else 'other'} memory: other bits in {different}"

    def predictions(self, plain: Trained, ways: Mapping[str, Compiled]) -> Iterator[str]:
        """Rows have the same bits whatever the batch, and whether they are gathered or read where they lie."""
        stores = [self.tensors(), self.tensors(poisoned=True)]
        for name, values in plain.tensors.items():
            stores[0].write(name, values)
            stores[1].write(name, values)
        dense = {name: array[self.rows] if array.ndim else array for name, array in self.data.items()}
        count = len(self.rows)
        calls = [(self.data, self.rows, rows) for rows in (self.usual, 1, 2, 7)]
        calls += [(dense, np.arange(count), count), (dense, np.arange(count), self.usual)]
        wanted: dict[str, Array] = {}
        for name, executable in ways.items():
            for threads, store in zip((1, 3), stores, strict=True):
                with _poisoned_memory(threads > 1):
                    program = executable(threads)
                    for data, chosen, rows in calls:
                        found = program.run(Steps(store, data, chosen, rows, 0, 7, self.settings)).arrays
                        wanted = wanted or dict(found)
                        if different := [n for n in wanted if wanted[n].tobytes() != found[n].tobytes()]:
                            yield f"prediction, {name}, batches of {rows}, {threads} threads: other bits in {different}"

    def near_reference(self, kind: GraphKind, dtype: str, way: Way) -> Iterator[str]:
        """In f64, a training is that of the graph as it is before any pass; in f32, an evaluation is."""
        parts = graphs_of_step(self.program, kind, Options(dtype=dtype))
        with patch.object(training_step, "prepare_for_gradients", _as_it_is):  # nothing is computed ahead
            graphs = {part: graph_of(self.program, part) for part in parts}
        made = {part: ReferenceExecutable(to_dtype(graph, DType.F64)) for part, graph in graphs.items()}
        reference = joined(self.program, made, Options(dtype="f64", target="reference"))
        wanted = self.trained(reference, self.tensors("f64"), dtype="f64")
        moved = [self.trained(reference, self.shaken(seed, dtype), dtype="f64") for seed in range(2)]
        if dtype == "f32":
            moved.append(self.trained(ReferenceExecutable(graph_of(self.program, kind)), self.tensors()))
        native = self.executable(kind, way, dtype)(2)
        found = self.trained(native, self.tensors(dtype), dtype=dtype)
        for part in ("scalars", "tensors"):
            for name, values in getattr(wanted, part).items():
                others = [np.abs(getattr(other, part)[name] - values) for other in moved]
                scale = np.max(np.abs(values), initial=0.0)
                allowed = _RELATIVE[dtype] * max(scale, 1e-3) + _AMPLIFIED[dtype] * np.max(others, initial=0.0)
                error = np.max(np.abs(getattr(found, part)[name] - values), initial=0.0)
                if not error <= allowed and np.isfinite(values).all():
                    yield f"{kind} in {dtype}: {name} differs by {error:.3g} from the reference, of {scale:.3g}"

    def shaken(self, seed: int, dtype: str) -> TensorStore:
        """The start with other last places."""
        store, random = self.tensors("f64"), np.random.default_rng(seed)
        for spec in store.specs:
            if spec.role is Role.PARAMETER:
                values = self.start[spec.name]
                signs = random.choice((-1.0, 1.0), values.shape)
                store.write(spec.name, values + _LAST_PLACES[dtype] * np.maximum(np.abs(values), 0.1) * signs)
        return store


def _data(program: Program, rows: int, random: np.random.Generator) -> dict[str, Array]:
    """Rows of every input and target, and of what an augmentation reads."""
    data: dict[str, Array] = {}
    for spec in program.inputs:
        shape = (rows, *at_batch(spec.type.shape, 1)[1:])
        dtype = numpy_dtype(spec.type.dtype)
        if spec.mask_of is not None:
            data[spec.name] = np.arange(shape[1]) < random.integers(0 if rows > 9 else 1, shape[1] + 1, (rows, 1))
        elif dtype.kind == "f":
            data[spec.name] = random.normal(0, 1, shape).astype(dtype)
        else:
            data[spec.name] = random.integers(spec.low or 0, spec.high or 256, shape).astype(dtype)
    for spec in program.inputs:
        if spec.mask_of is not None:
            data[spec.mask_of] = np.where(data[spec.name], data[spec.mask_of], 0).astype(data[spec.mask_of].dtype)
    return {**data, SAMPLE_NUMBERS: np.arange(rows, dtype=np.int64), EPOCH_NUMBER: np.array(1, np.int64)}


@contextmanager
def _poisoned_memory(poisoned: bool) -> Generator[None]:
    """Memory that is reserved holds NaN, not zeros."""
    reserve = memory.reserve

    def filled(size: int) -> Array:
        block = reserve(size)
        block[:] = UNUSED
        return block

    if not poisoned or reserve.__name__ == filled.__name__:
        yield
        return
    with patch.object(memory, "reserve", filled), patch.object(executables, "reserve", filled):
        yield


def _as_it_is(graph: Graph, becomes_double: bool = False) -> Graph:
    return graph


def _small() -> Machine:
    """The machine at hand with small caches, and with short registers where it has long ones."""
    narrow = (
        {"name": "avx2", "vector_bits": AVX2.vector_bits, "registers": AVX2.registers}
        if host().name == "avx512"
        else {}
    )
    return replace(host(), l1_bytes=4 << 10, l2_bytes=16 << 10, **narrow)  # type: ignore[arg-type]
