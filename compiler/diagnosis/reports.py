"""The reports of the checks of a program."""

from __future__ import annotations

from compiler.errors.diagnostics import Diagnostic, Span
from compiler.support.record import record


@record
class LayerCheck:
    """The derivatives of what belongs to one layer, by its path, in everything that it reads; of the whole program,
    with the path None, in its parameters and inputs. `elements` counts those that were checked one by one.

    The error is relative; `is_right` is None where nothing can be said, since values are not finite.
    """

    path: str | None
    span: Span | None
    error: float
    is_right: bool | None
    elements: int = 0


@record
class GradientReport:
    """`findings` name the lines whose derivatives are wrong; those that the text suppresses are left out."""

    checks: tuple[LayerCheck, ...]
    findings: tuple[Diagnostic, ...]

    @property
    def is_right(self) -> bool:
        return not self.findings


@record
class GradientTextCheck:
    """The gradients of a program that were compared with those of its printed derivative, and those that differ.

    Where there is no text, `refusal` says why.
    """

    gradients: int
    differing: tuple[str, ...]
    refusal: str = ""


@record
class TestResult:
    """One `test`: how many of its lines claim something, and an error for each claim that does not hold."""

    __test__ = False  # pytest takes it for a test of its own

    name: str
    span: Span
    claims: int
    failures: tuple[Diagnostic, ...]


@record
class Site:
    """An operation, or an input by its kind and name, that gave what is not finite: where in the text, in which
    layer, in which direction, at which element, from which operands, and in which steps of scans (`time 5`)."""

    operation: str
    span: Span | None
    path: str
    direction: str
    place: str
    value: float
    operands: tuple[str, ...]
    steps: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """`model.dl:4, forward, in head.dense: log gives -inf at [batch 2 (row 7 of the data), 1]`, and so on."""
        at = f" at {self.place}" if self.place else ""
        if self.span is None:
            return [f"the {self.operation} is {self.value}{at}"]
        where = f"{self.span.source.name}:{self.span.line}, {self.direction}" + (f", in {self.path}" * bool(self.path))
        during = f", in the scan at {' and '.join(self.steps)}" if self.steps else ""
        text = [
            f"{where}: `{self.operation}` gives {self.value}{at}{during}",
            f"    {self.span.source.line(self.span.line).strip()}",
        ]
        return [*text, f"  from {' and '.join(self.operands)}"] if self.operands else text


@record
class NonfiniteReport:
    """The outputs of a step that are not finite, where that was born, and what was infinite before it became NaN."""

    outputs: tuple[str, ...]
    born: Site
    cause: Site | None

    def text(self) -> str:
        lines = self.born.lines()
        if self.cause is not None:
            first, *rest = self.cause.lines()
            lines += [f"the first cause: {first}", *rest]
        return "\n".join(lines)


@record
class LossBounds:
    """A loss where the outputs know nothing, and the least that any outputs reach; both without penalties."""

    guess: float
    floor: float


@record
class WatchedNumber:
    """One number that is watched. `kind`: `dead` or `saturated`, the share of `units` without effect; `gradient`,
    `update` and `weight`, mean squares over the `units` elements of the parameter `path`."""

    name: str
    kind: str
    span: Span | None
    path: str
    units: int
