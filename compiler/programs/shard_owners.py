"""Which process owns which parameters, or stretches of them, with their gradients and the states of the optimizer.

Gradients are sent in buckets. Each is divided among all processes, so that they all have something to send and to add
up while the backward pass goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from compiler.frontend.program import ParameterSpec, Program
from compiler.frontend.update_rules import Accumulation
from compiler.interface import Executable
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.types import DType, Shape, TensorType, static_elements

LINE = 64  # bytes; stretches begin at whole lines


@record
class Given:
    """A value that the owner of a parameter gives to all processes after the part of its `level`."""

    name: str
    type: TensorType
    path: str
    level: int


@record
class Owned:
    """The number of a tensor's bucket, and the elements that each process owns."""

    bucket: int
    stretches: tuple[range, ...]


@record
class UpdateLayout:
    """How an update is divided. `stretches` has for each parameter the elements that each process owns, in the order
    of `buckets`, which are the parameters whose gradients are sent together, in the order in which these are finished.

    `shapes` are those of the parameters; `states` the parameter of each state of the optimizer, and `followers` of each
    other tensor that its owners make new. `given` is what owners give to all, and there are so many `parts`.
    """

    processes: int
    shapes: Mapping[str, Shape]
    buckets: tuple[tuple[str, ...], ...]
    stretches: Mapping[str, tuple[range, ...]]
    states: Mapping[str, str]
    followers: Mapping[str, str]
    given: tuple[Given, ...]
    parts: int

    @property
    def of_gradients(self) -> Mapping[str, Owned]:
        """The bucket of each gradient and what each process owns of it, by the name of its tensor."""
        numbers = {path: number for number, bucket in enumerate(self.buckets) for path in bucket}
        return {Accumulation.gradient(path): Owned(numbers[path], own) for path, own in self.stretches.items()}

    @property
    def rounds(self) -> list[dict[str, str]]:
        """The tensors that owners give to all when they are new, by the paths of their parameters, round by round."""
        found = [{path: path for path in self.shapes}]
        for name, path in self.followers.items():
            place = next((k for k, names in enumerate(found) if path not in names), len(found))
            found += [{}] if place == len(found) else []
            found[place][path] = name
        return found

    def has_part(self, rank: int, part: int) -> bool:
        """Whether a process computes something in a part: values that it gives, or at the end its share of all."""
        gives = any(one.level == part and self.owner(one.path) == rank for one in self.given)
        return gives or part >= self.parts - 2

    def stretch(self, path: str, rank: int) -> range:
        return self.stretches[path][rank]

    def is_cut(self, path: str) -> bool:
        return self.owner(path) is None

    def owner(self, path: str) -> int | None:
        """The process that owns all of a parameter, if there is one."""
        size = static_elements(self.shapes[path])
        return next((rank for rank, own in enumerate(self.stretches[path]) if len(own) == size), None)


@record(eq=False)
class OwnedUpdate:
    """The update of a process: its parts, before each but the first of which all give what is `given`.

    A part is None where the process has none.
    """

    layout: UpdateLayout
    parts: Sequence[Executable | None]
    given: Sequence[TensorSpec]


def owned_parameters(program: Program) -> list[ParameterSpec]:
    """The parameters that some phase of a training trains, in order."""
    assert program.plan is not None
    ruled = {path for rule in program.plan.every_rule for path in rule.paths}
    return [spec for spec in program.parameters if spec.path in ruled]


def states_of_parameters(program: Program) -> dict[str, str]:
    """The parameter of each state of the optimizer, by the name of the state."""
    assert program.plan is not None
    return {
        f"{rule.parameter}:{state.name}": rule.parameter for rule in program.plan.every_rule for state in rule.states
    }


def owned_tensors(program: Program) -> dict[str, str]:
    """The parameter of each gradient and each state."""
    gradients = {Accumulation.gradient(spec.path): spec.path for spec in owned_parameters(program)}
    return gradients | states_of_parameters(program)


def buckets_of(
    parameters: Sequence[tuple[str, TensorType]], cuttable: Mapping[str, bool], least: int
) -> tuple[tuple[str, ...], ...]:
    """Parameters whose gradients are sent together: of one element type, all or none cuttable, and with at least so
    many bytes but for the last ones. Gradients are finished in the order of `parameters`, in which all stay."""
    opened: dict[tuple[DType, bool], list[str]] = {}
    sizes: dict[tuple[DType, bool], int] = {}
    found: list[tuple[str, ...]] = []
    for path, type_ in parameters:
        kind = type_.dtype, cuttable[path]
        opened.setdefault(kind, []).append(path)
        sizes[kind] = sizes.get(kind, 0) + static_elements(type_.shape) * type_.dtype.size
        if sizes[kind] >= least:
            found.append(tuple(opened.pop(kind)))
            del sizes[kind]
    found += map(tuple, opened.values())
    places = {path: place for place, (path, _) in enumerate(parameters)}
    return tuple(sorted(found, key=lambda bucket: places[bucket[-1]]))


def divided(
    buckets: Sequence[Sequence[str]], types: Mapping[str, TensorType], cuttable: Mapping[str, bool], processes: int
) -> dict[str, tuple[range, ...]]:
    """The stretches of each parameter, in an order in which those of the processes follow one another in each bucket.

    All have about as many lines of a bucket that can be cut; others go to who has the fewest of these so far.
    """
    found: dict[str, tuple[range, ...]] = {}
    lines = [0] * processes
    for bucket in buckets:
        if cuttable[bucket[0]]:
            found |= _cut([(path, static_elements(types[path].shape)) for path in bucket], types, processes)
            continue
        owners: dict[str, int] = {}
        for path in bucket:
            owners[path] = min(range(processes), key=lambda rank: lines[rank])
            lines[owners[path]] += _lines_of(types[path])
        for path in sorted(bucket, key=lambda path: owners[path]):
            size = static_elements(types[path].shape)
            found[path] = tuple(
                range(size if rank > owners[path] else 0, size if rank >= owners[path] else 0)
                for rank in range(processes)
            )
    return found


def _lines_of(type_: TensorType) -> int:
    return max(1, -(-static_elements(type_.shape) * type_.dtype.size // LINE))


def _cut(
    bucket: Sequence[tuple[str, int]], types: Mapping[str, TensorType], processes: int
) -> dict[str, tuple[range, ...]]:
    lines = [_lines_of(types[path]) for path, _ in bucket]
    cuts = [sum(lines) * rank // processes for rank in range(processes + 1)]
    found: dict[str, tuple[range, ...]] = {}
    begin = 0
    for (path, size), count in zip(bucket, lines, strict=True):
        line = LINE // types[path].dtype.size
        ends = [min(size, line * min(max(cut - begin, 0), count)) for cut in cuts]
        found[path] = tuple(range(low, high) for low, high in pairwise(ends))
        begin += count
    return found
