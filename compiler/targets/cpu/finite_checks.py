"""Finite checks of a kernel's stores: a NaN or Inf sets the byte of its store.

`x - x` is NaN exactly where x is not finite. As a rule nothing is wrong, so what is stored at one place of a row is
checked together, behind the last store, and a branch that is hardly ever taken finds out which it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compiler.loops.ir import Instruction, Store
from compiler.nest.builder import Builder
from compiler.nest.ir import Constant, Operand, Type, Value, Zeros, dtype_of, type_of, vector
from compiler.support.record import record
from compiler.types import DType


@record
class _Difference:
    """x - x of what was stored, in the lanes of a mask."""

    flag: Value
    value: Value
    mask: Operand | None


class FiniteChecks:
    """The checks of one kernel. `flags` are the pointers to the bytes, by the stores that are checked."""

    def __init__(self, nest: Builder) -> None:
        self._nest = nest
        self._flags: dict[int, Value] = {}
        self._last: set[int] = set()
        self._open: list[_Difference] = []

    def add(self, statements: Iterable[Instruction], flags: Sequence[Value]) -> None:
        """Check the stores among statements that run one after the other."""
        found = list(checked_stores(statements))
        self._flags.update(zip(map(id, found), flags, strict=True))
        self._last.update(id(store) for store in found[-1:])

    def scalar(self, store: Store, value: Operand) -> None:
        """Check a scalar, if its store is checked."""
        if id(store) not in self._flags:
            return
        difference = self._difference(value)
        bad = self._nest.compare("unordered", difference, Constant(difference.type, 0.0))
        with self._nest.when(bad, is_rare=True):
            self._raise(self._flags[id(store)])

    def vector(self, store: Store, value: Operand, mask: Operand | None, more: bool = False) -> None:
        """Check the elements of a vector, if their store is checked: at once, or with what is still to be stored there.

        `more`: the same store has further elements to come.
        """
        if id(store) not in self._flags:
            return
        difference = self._difference(value)
        self._open.append(_Difference(self._flags[id(store)], difference, mask))
        if id(store) in self._last and not more:
            differences, self._open = self._open, []
            with self._nest.when(self._any_bad(differences), is_rare=True):
                self._tell_apart(differences)

    def _difference(self, value: Operand) -> Value:
        if dtype_of(value) is DType.F16:
            value = self._nest.converted(value, DType.F32)
        return self._nest.binary("sub", value, value, type_of(value))

    def _any_bad(self, differences: Sequence[_Difference]) -> Value:
        nest = self._nest
        sums: dict[tuple[Type, Operand | None], Value] = {}
        for one in differences:
            key = one.value.type, one.mask
            sums[key] = nest.binary("add", sums[key], one.value, one.value.type) if key in sums else one.value
        found: Value | None = None
        for (type_, mask), total in sums.items():
            bad = nest.compare("unordered", total, Zeros(type_))
            truths = vector(DType.BOOL, type_.lanes)
            if mask is not None:
                bad = nest.binary("and", bad, mask, truths)
            found = bad if found is None else nest.binary("or", found, bad, truths)
        assert found is not None
        return nest.any(found)

    def _tell_apart(self, differences: Sequence[_Difference]) -> None:
        if len(differences) == 1:
            self._raise(differences[0].flag)
            return
        for one in differences:
            with self._nest.when(self._any_bad([one])):
                self._raise(one.flag)

    def _raise(self, flag: Value) -> None:
        self._nest.store(Constant(vector(DType.U8, 1), 1), flag, 1)


def checked_stores(statements: Iterable[Instruction]) -> Iterable[Store]:
    return (i for i in statements if isinstance(i, Store) and i.check is not None)
