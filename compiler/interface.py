"""The interface of a compiled program: options in, executables and results out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Protocol

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.tuning import Tuning

FUSIONS = {
    "activation": "a product and elementwise consumers that read nothing else: activations, factors",
    "bias": "a product and consumers that also read one vector for all rows or columns: biases, folded normalisations",
    "residual": "a product and consumers that also read whole tensors: residual sums",
    "slopes": "a product of the backward pass and its consumers: slopes of activations, sums of gradients",
    "update": "a gradient and the update of its parameter",
    "insertions": "a value and its place in a larger one: padded images, concatenations",
    "reductions": "a reduction and its producer",
    "rows": "a reduction and its consumers: softmax, normalisation, statistics in two passes",
    "windows": "elementwise operations on strided views: pools and their gradients, depthwise convolutions",
    "elementwise": "other elementwise operations one after another",
    "siblings": "reductions of the same values: the two gradient sums of a normalisation",
    "shared": "a value that is part of a larger one is read there, and not stored twice",
    "rematerialise_cheap": "cheap values are computed by each kernel that reads them, and not stored",
    "overwrite": "a large result overwrites the operand that is read last",
    "chained": "a thread takes one head of attention, or one image, through several kernels before the next one",
    "rematerialise": "the backward pass computes values again instead of keeping them",
}
"""All that joins kernels or spares memory traffic by it. Without any of them, results are the same bits."""
RENAMED_FUSIONS = {
    "parts": "insertions",
    "again": "rematerialise_cheap",
    "strands": "chained",
    "recompute": "rematerialise",
    "chains": "elementwise",
}
"""By the name that a fusion had, the one that it has; messages point there."""


@record
class Options:
    """How to compile. `batch` is a hint for tile sizes, never for correctness."""

    target: str = "native"  # a name in `TARGETS` of `compiler/targets/registry`
    threads: int = 0  # 0: one for each core that the process may use
    without: tuple[str, ...] = ()  # fusions, by their names in `FUSIONS`, that are not made
    dtype: str = "f32"  # "f64" turns every f32 of the program into f64, for gradient checks
    products: str = "f32"  # "bf16" and "tf32" round the factors of the products of a training step
    batch: int = 32
    cache: Path | None = None  # None: the user's cache folder
    machine: str | None = None  # whose code to make: a name of `compiler/machine`, or a triple; None: the one that runs
    tuning: Tuning = Tuning()
    persistent_loops: bool = False  # on a GPU, a scan is one kernel, whose blocks wait for each other
    verify: bool = False  # check the graph after each pass, and the schedule

    @property
    def arithmetic(self) -> str:
        """For a reader: in which type a program of them computes."""
        return self.dtype if self.products == "f32" else f"{self.dtype}, products in {self.products}"

    def __post_init__(self) -> None:
        for name in self.without:
            if name not in FUSIONS:
                near = RENAMED_FUSIONS.get(name)
                hint = f"did you mean `{near}`?" if near else did_you_mean(name, FUSIONS)
                raise UsageError(f"there is no fusion `{name}`", hint or f"fusions are {', '.join(FUSIONS)}")


@record
class Results:
    """The results of a call of `Executable.run`.

    `scalars`: one f64 for each step, for each scalar output. `arrays`: the batch outputs of all steps, concatenated,
    and of other outputs the value of the last step; `stacks` has these of all steps, one after the other.
    `nonfinite`: the names of outputs or parameters in which a NaN or Inf was seen, with the step.
    """

    scalars: Mapping[str, Array]
    arrays: Mapping[str, Array]
    nonfinite: tuple[tuple[str, int], ...] = ()
    stacks: Mapping[str, Array] = field(default_factory=dict[str, "Array"])


class Tensors(Protocol):
    """The persistent tensors of a model: parameters, states, optimizer states. The arrays are views: read them."""

    def names(self) -> tuple[str, ...]: ...
    def __getitem__(self, name: str) -> Array: ...

    def write(self, name: str, values: Array) -> None:
        """Replace the content of a tensor. Programs keep values derived from tensors until one is written."""
        ...


class Transfer(Protocol):
    """Messages on their way. Their arrays are not to be changed, nor those that are filled read, before it is done."""

    def is_done(self) -> bool:
        """Look, which also lets messages go on."""
        ...


class Peers(Protocol):
    """The processes that make the same steps, each with the whole of data and tensors; this is number `rank`.

    `swap` and `gathered` are answered when all processes have made the same call. `overlaps` says whether another
    thread may begin transfers while this one computes.
    """

    rank: int
    size: int
    overlaps: bool

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> Transfer:
        """As `swap`, without waiting. What one process begins to send another fills its arrays in the order of both."""
        ...

    def swap(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        """Send arrays to each process, and fill those that each sends, which have the same sizes; none to itself."""
        ...

    def gathered(self, value: Any) -> list[Any]:
        """The value of each process, in their order: plain data and arrays."""
        ...

    def shared(self, size: int) -> Mapping[int, Array]:
        """So many bytes of this process, all zero, and those of the others that see each other's, by rank: processes
        of one machine. Each may ask for another size. What a process has written, others see behind a message of it.

        Empty where there is no such memory, for each of those who would see it.
        """
        ...


class Alone:
    """The only process."""

    rank, size, overlaps = 0, 1, False

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> Transfer:
        return self

    def is_done(self) -> bool:
        return True

    def swap(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        pass

    def gathered(self, value: Any) -> list[Any]:
        return [value]

    def shared(self, size: int) -> Mapping[int, Array]:
        return {}


ALONE = Alone()


@record(eq=False)
class Steps:
    """Steps that follow each other: one for each `batch` of consecutive entries of `rows`; the last may be short.

    data: each input and target, all rows, in the declared dtype; each row is dense, and rows may overlap, as windows of
    a series do. `rows` (i64) says which to gather, and is not changed afterwards. `first_step` counts updates made
    before; `settings` has the run-time settings that the program reads. A step that is cut into shards is divided
    among `peers`. Where `data` is `lasting`, its arrays never change, and a device may keep copies of them.
    """

    tensors: Tensors
    data: Mapping[str, Array]
    rows: Array
    batch: int
    first_step: int = 0
    seed: int = 0
    settings: Mapping[str, float] = field(default_factory=dict[str, float])
    peers: Peers = ALONE
    lasting: bool = False

    def each(self) -> Iterator[Steps]:
        """The steps one by one."""
        for step, start in enumerate(range(0, len(self.rows), self.batch), self.first_step):
            yield replace(self, rows=self.rows[start : start + self.batch], first_step=step)


class Executable(Protocol):
    """A compiled program."""

    def run(self, steps: Steps) -> Results:
        """Run the steps and update their tensors in place."""
        ...


@record
class Decoding:
    """Sequences position by position. `tensors` are those of the model and the states that `position` keeps."""

    position: Executable
    tensors: Tensors
