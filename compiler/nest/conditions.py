"""Conditions of a nest as facts: forms that are not negative where they hold, and where they do not."""

from __future__ import annotations

from compiler.nest import ir
from compiler.nest.forms import Form, Forms, as_form
from compiler.nest.ir import Constant, Operand
from compiler.support.record import record


@record
class Truth:
    """The forms that are not negative where it holds, and where it does not, as far as they are known."""

    yes: tuple[Form, ...] = ()
    no: tuple[Form, ...] = ()


IMPOSSIBLE = as_form(-1)
TRUE, FALSE = Truth(no=(IMPOSSIBLE,)), Truth(yes=(IMPOSSIBLE,))


def joined(op: ir.Arithmetic, left: Truth, right: Truth, other: Operand) -> Truth:
    """The facts of two conditions, or of the opposite of one."""
    if op == "and":
        return Truth((*left.yes, *right.yes))
    if op == "or":
        yes = right.yes if IMPOSSIBLE in left.yes else left.yes if IMPOSSIBLE in right.yes else ()
        return Truth(yes, (*left.no, *right.no))
    return Truth(left.no, left.yes) if isinstance(other, Constant) and other.value is True else Truth()


def compared(relation: ir.Relation, left: Form, right: Form, forms: Forms) -> Truth:
    match relation:
        case "lt" | "ge" | "le" | "gt":
            less = right - left - (1 if relation in ("lt", "ge") else 0)
            more = less * -1 - 1
            return Truth((less,), (more,)) if relation in ("lt", "le") else Truth((more,), (less,))
        case "eq":
            no = (right - left - 1,) if forms.is_never_negative(right - left) else ()
            return Truth((left - right, right - left), no)
        case "ne":
            return Truth((), (left - right, right - left))
        case "below":
            return Truth((left, right - left - 1))
        case "unordered":
            return Truth()
