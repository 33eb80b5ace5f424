"""The tuning of this processor: numbers are tried on small trainings, each beside the usual one in turns.

A number is kept where its own workload becomes faster by more than noise, twice, and no other workload slower. Both
trainings are checked to have the same bits.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from hashlib import sha256
from math import ceil, sqrt
from pathlib import Path

from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import CompilerBug
from compiler.kept_tuning import KeptTuning, keep_tuning, tuning_file
from compiler.support.record import record
from compiler.targets.registry import kernel_target_of
from compiler.tuning import Tuning
from runtime.analysis.made_up_steps import CompiledSteps

_SAMPLE_SECONDS = 0.02
_ROUNDS = 9  # pairs of samples
_LEAST_GAIN = 0.02  # smaller ones are left to those who measure a model of their own
_CERTAIN = 3.0  # standard errors of a median
_CHECKED_STEPS = 2


@record
class Workload:
    """A small training by the text of its model."""

    name: str
    batch: int
    body: str

    @property
    def text(self) -> str:
        return (
            f"model Tuned {{\n    {self.body}\n}}\n\ntrain Tuned {{\n    target wanted: i32[batch] in 0..10\n"
            f"    loss = cross_entropy(y, wanted)\n    optimizer = adam(lr = 1e-3)\n    batch = {self.batch}\n}}\n"
        )


@record
class Candidates:
    """Other values of a number, to be tried on the workload that it matters to; some need several threads."""

    number: str
    workload: str
    values: tuple[int | float, ...]
    needs_threads: bool = False


@record
class Ratio:
    """How many times as fast as the usual a workload is: the median over pairs; `noise` is no difference."""

    value: float
    noise: float

    @property
    def gains(self) -> bool:
        return self.value > 1 + self.noise

    @property
    def loses(self) -> bool:
        return self.value < 1 - self.noise


@record
class Tried:
    """The outcome for one number: the ratio of each value that was tried; `value` is the one in force."""

    choice: Candidates
    usual: int | float
    value: int | float
    ratios: tuple[tuple[int | float, Ratio], ...]
    why: str  # the reason, if the fastest was not kept


@record
class TuningReport:
    """All choices, those without ratios for lack of time, and how much faster each workload became in all.

    Where no number was better, no workload was measured in all.
    """

    tried: tuple[Tried, ...]
    workloads: tuple[tuple[str, Ratio], ...]
    tuning: Tuning
    why: str  # why numbers that were better by themselves are not in `tuning`
    seconds: float


WORKLOADS = (
    Workload(
        "layers", 32, "input x: f32[batch, 64]\n    output y = x |> dense(128) |> relu |> dense(128) |> dense(10)"
    ),
    Workload("products", 256, "input x: f32[batch, 1024]\n    output y = x |> dense(1024) |> relu |> dense(10)"),
    Workload(
        "convolutions",
        16,
        "input x: f32[batch, 3, 24, 24]\n    output y = x |> conv2d(32, 3, padding = 1) |> relu"
        " |> conv2d(48, 3, padding = 1) |> relu |> max_pool(2) |> flatten |> dense(10)",
    ),
    Workload(
        "depthwise",
        16,
        "input x: f32[batch, 64, 24, 24]\n    output y = x |> conv2d(64, 3, padding = 1, groups = 64) |> relu"
        " |> max_pool(2) |> flatten |> dense(10)",
    ),
    Workload(
        "attention",
        8,
        "input x: f32[batch, 64, 96]\n    output y = x |> encoder_block(4, 192, drop = 0.0) |> flatten |> dense(10)",
    ),
)
# By how much they may bring, so that what a short time leaves out matters least.
CHOICES = (
    Candidates("serial_work", "layers", (20_000, 320_000), needs_threads=True),
    Candidates("rows_share", "products", (0.25, 0.75)),
    Candidates("long_sum", "convolutions", (64, 256)),
    Candidates("shards", "attention", (4,), needs_threads=True),
    Candidates("steps_ahead", "products", (4, 16)),
    Candidates("row_columns", "attention", (128, 1024)),
    Candidates("strip_sum", "convolutions", (96, 256)),
    Candidates("copied_sum", "products", (64, 256)),
    Candidates("block_bytes_ahead", "depthwise", (1 << 13, 1 << 17)),
    Candidates("operand_registers", "layers", (2, 4)),
    Candidates("flat_columns", "depthwise", (1024, 8192)),
    Candidates("unrolled_steps", "products", (2, 8)),
    Candidates("near_row_bytes", "depthwise", (1 << 12, 1 << 16)),
    Candidates("copied_share", "products", (0.5,)),
    Candidates("packed_tile_vectors", "layers", (4, 12)),
    Candidates("overwritten_bytes", "attention", (1 << 16, 1 << 20)),
    Candidates("product_items", "products", (128, 1024), needs_threads=True),
    Candidates("strip_vectors", "convolutions", (2, 4)),
    Candidates("near_panel_bytes", "layers", (8 << 10, 32 << 10)),
    Candidates("rows_ahead", "depthwise", (4, 24)),
    Candidates("copying_tiles", "layers", (2, 12)),
    Candidates("stage_in_registers", "attention", (3, 12)),
)


def tuned(
    options: Options,
    seconds: float,
    observe: Callable[[Tried], None],
    choices: Sequence[Candidates] = CHOICES,
    workloads: Sequence[Workload] = WORKLOADS,
) -> TuningReport:
    """Measure for about `seconds`; `observe` is told of each choice as soon as it is made."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dlc-tune-") as folder:
        found = Search(replace(options, tuning=Tuning(), cache=Path(folder)), workloads)
        tried: list[Tried] = []
        for choice in choices:
            if choice.needs_threads and options.threads == 1:
                continue
            is_late = time.perf_counter() - begin > seconds
            tried.append(found.left(choice) if is_late else found.tried(choice))
            observe(tried[-1])
        ratios, why = found.in_all()
    return TuningReport(tuple(tried), ratios, found.tuning, why, time.perf_counter() - begin)


def keep(report: TuningReport, options: Options) -> KeptTuning:
    """Keep what was found for the processor, with the gains that its numbers had. Raises DataError."""
    changes = report.tuning.changes
    gains = {t.choice.number: dict(t.ratios)[t.value].value for t in report.tried if t.choice.number in changes}
    file = tuning_file(kernel_target_of(options).machine(options), options.cache)
    found = KeptTuning(file, report.tuning, date.today().isoformat(), options.threads, gains)
    keep_tuning(found)
    return found


class Search:
    """The numbers that are in force so far, and the training of each workload with them and with the usual ones."""

    def __init__(self, options: Options, workloads: Sequence[Workload]) -> None:
        self.options, self.tuning = options, options.tuning
        self.programs = {w.name: driver.load_text(w.text, f"{w.name}.dl") for w in workloads}
        self.rows = {w.name: w.batch for w in workloads}
        self.made: dict[tuple[str, Tuning], CompiledSteps] = {}
        self.bits: dict[str, bytes] = {}

    def left(self, choice: Candidates) -> Tried:
        value = getattr(self.tuning, choice.number)
        return Tried(choice, value, value, (), "there was no time for it")

    def tried(self, choice: Candidates) -> Tried:
        """Try each value of a choice, and take the fastest where that is no chance."""
        usual = getattr(self.tuning, choice.number)
        ratios: list[tuple[int | float, Ratio]] = []
        for value in choice.values:
            ratios.append((value, self.ratio(choice.workload, replace(self.tuning, **{choice.number: value}))))
        value, best = max(ratios, key=lambda pair: pair[1].value)
        if not best.gains:
            return Tried(choice, usual, usual, tuple(ratios), "no gain beyond noise")
        other = replace(self.tuning, **{choice.number: value})
        again = self.ratio(choice.workload, other, 2 * _ROUNDS)  # the best of several was partly lucky
        ratios = [(v, again if v == value else ratio) for v, ratio in ratios]
        if not again.gains:
            return Tried(choice, usual, usual, tuple(ratios), "its gain did not come again")
        for name in self.programs:
            if name != choice.workload and self.ratio(name, other).loses:
                return Tried(choice, usual, usual, tuple(ratios), f"{name} becomes slower")
        self.tuning = other
        self.made = {key: steps for key, steps in self.made.items() if key[1] in (other, self.options.tuning)}
        return Tried(choice, usual, value, tuple(ratios), "")

    def in_all(self) -> tuple[tuple[tuple[str, Ratio], ...], str]:
        """How much faster each workload is with all numbers, and why none of them is kept: one is slower with all."""
        usual = self.options.tuning
        if self.tuning == usual:
            return (), ""
        found = tuple((name, self.ratio(name, self.tuning, _ROUNDS, usual)) for name in self.programs)
        slower = [name for name, ratio in found if ratio.loses]
        if slower:
            self.tuning = usual
        return found, f"with all of them together {', '.join(slower)} is slower" if slower else ""

    def ratio(self, name: str, tuning: Tuning, rounds: int = _ROUNDS, beside: Tuning | None = None) -> Ratio:
        """A workload with a tuning beside that with another, by default the one in force."""
        usual, other = self.steps(name, beside or self.tuning), self.steps(name, tuning)
        return Ratio(1.0, _LEAST_GAIN) if usual is other else compared(usual, other, rounds)

    def steps(self, name: str, tuning: Tuning) -> CompiledSteps:
        """The training of a workload. Raises CompilerBug where it has other bits than with the usual numbers."""
        if (name, tuning) not in self.made:
            steps = CompiledSteps(self.programs[name], "train", self.rows[name], replace(self.options, tuning=tuning))
            steps(_CHECKED_STEPS)
            digest = sha256(b"".join(steps.tensors[n].tobytes() for n in sorted(steps.tensors.names()))).digest()
            if self.bits.setdefault(name, digest) != digest:
                raise CompilerBug("tuning", f"{name} has other bits with {tuning.changes}")
            self.made[name, tuning] = steps
        return self.made[name, tuning]


def compared(usual: Callable[[int], object], other: Callable[[int], object], rounds: int) -> Ratio:
    """The ratio of their times, in turns that each of them begins as often as the other."""
    begin = time.perf_counter()
    usual(1)
    other(1)
    steps = max(1, ceil(2 * _SAMPLE_SECONDS / (time.perf_counter() - begin)))
    gc.collect()
    ratios: list[float] = []
    for number in range(rounds):
        pair = [_seconds(run, steps) for run in ((usual, other) if number % 2 else (other, usual))]
        first, second = pair if number % 2 else reversed(pair)
        ratios.append(first / second)
    median = statistics.median(ratios)
    spread = 1.4826 * statistics.median(abs(ratio - median) for ratio in ratios)  # as of a normal distribution
    error = 1.2533 * spread / sqrt(rounds)  # of its median
    return Ratio(median, max(_LEAST_GAIN, _CERTAIN * error))


def _seconds(run: Callable[[int], object], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start
