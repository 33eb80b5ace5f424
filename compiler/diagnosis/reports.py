"""What the checks of a program report."""

from __future__ import annotations

from compiler.diagnostics import Diagnostic, Span
from compiler.record import record


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
    """`findings` name the lines whose derivatives are wrong; those that the text waives are left out."""

    checks: tuple[LayerCheck, ...]
    findings: tuple[Diagnostic, ...]

    @property
    def is_right(self) -> bool:
        return not self.findings


@record
class TestResult:
    """One `test`: how many of its lines claim something, and an error for each claim that does not hold."""

    __test__ = False  # pytest takes it for a test of its own

    name: str
    span: Span
    claims: int
    failures: tuple[Diagnostic, ...]
