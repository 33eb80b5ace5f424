"""Which process owns which parameters, or stretches of them, with their gradients and the states of the optimizer."""

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
class UpdateLayout:
    """How an update is divided. `stretches` has for each parameter the elements that each process owns.

    `shapes` are those of the parameters; `states` the parameter of each state of the optimizer, and `followers` of each
    other tensor that its owners make new. `given` is what owners give to all, and there are so many `parts`.
    """

    processes: int
    shapes: Mapping[str, Shape]
    stretches: Mapping[str, tuple[range, ...]]
    states: Mapping[str, str]
    followers: Mapping[str, str]
    given: tuple[Given, ...]
    parts: int

    @property
    def of_gradients(self) -> Mapping[str, tuple[range, ...]]:
        """The elements of each gradient that each process owns, by the name of its tensor."""
        return {Accumulation.gradient(path): own for path, own in self.stretches.items()}

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


def divided(
    parameters: Sequence[tuple[str, TensorType]], cuttable: Mapping[str, bool], processes: int
) -> dict[str, tuple[range, ...]]:
    """The stretches of each parameter, so that processes have about as many lines of each element type.

    Parameters follow one another; a cut through one that cannot be cut moves to its nearer end.
    """
    found: dict[str, tuple[range, ...]] = {}
    for dtype in dict.fromkeys(type_.dtype for _, type_ in parameters):
        own = [(path, static_elements(type_.shape)) for path, type_ in parameters if type_.dtype is dtype]
        found |= _divided(own, cuttable, processes, dtype)
    return found


def _divided(
    parameters: Sequence[tuple[str, int]], cuttable: Mapping[str, bool], processes: int, dtype: DType
) -> dict[str, tuple[range, ...]]:
    line = LINE // dtype.size
    lines = [max(1, -(-size // line)) for _, size in parameters]
    begins = [sum(lines[:place]) for place in range(len(lines))]
    cuts = [sum(lines) * rank // processes for rank in range(processes + 1)]
    for (path, _), begin, count in zip(parameters, begins, lines, strict=True):
        if not cuttable[path]:
            middle, end = begin + count / 2, begin + count
            cuts = [(begin if cut <= middle else end) if begin < cut < end else cut for cut in cuts]
    found: dict[str, tuple[range, ...]] = {}
    for (path, size), begin, count in zip(parameters, begins, lines, strict=True):
        ends = [min(size, line * min(max(cut - begin, 0), count)) for cut in cuts]
        found[path] = tuple(range(low, high) for low, high in pairwise(ends))
    return found
