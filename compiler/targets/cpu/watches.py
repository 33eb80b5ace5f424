"""Finite checks of a kernel's stores: a NaN or Inf sets the byte of its store.

`x - x` is NaN exactly where x is not finite. As a rule nothing is wrong, so what is stored at one place of a row is
checked together, behind the last store, and a branch that is hardly ever taken finds out which it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compiler.loops.ir import Instruction, Store
from compiler.record import record
from compiler.targets.cpu.text import REGISTER, Text, literal


@record
class _Difference:
    """x - x of what was stored, in the lanes of a mask."""

    flag: str
    type_: str
    name: str
    mask: str | None


class Watches:
    """The checks of one kernel, whose vectors have so many lanes.

    `flags` are the pointers to the bytes, by the stores that are watched.
    """

    def __init__(self, text: Text, lanes: int) -> None:
        self._text, self._lanes = text, lanes
        self._flags: dict[int, str] = {}
        self._last: set[int] = set()
        self._open: list[_Difference] = []

    def add(self, statements: Iterable[Instruction], flags: Sequence[str]) -> None:
        """Watch the stores among statements that run one after the other."""
        found = list(watched_stores(statements))
        self._flags.update(zip(map(id, found), flags, strict=True))
        self._last.update(id(store) for store in found[-1:])

    def scalar(self, store: Store, value: str) -> None:
        """Check a scalar, if its store is watched."""
        if id(store) not in self._flags:
            return
        type_ = REGISTER[store.dtype]
        difference = self._text.let(f"fsub {type_} {value}, {value}")
        bad = self._text.let(f"fcmp uno {type_} {difference}, {literal(0, store.dtype)}")
        self._text.when(bad, lambda: self._raise(self._flags[id(store)]), is_rare=True)

    def vector(self, store: Store, value: str, mask: str | None, more: bool = False) -> None:
        """Check the elements of a vector, if their store is watched: at once, or with what is still to be stored there.

        `more`: the same store has further elements to come.
        """
        if id(store) not in self._flags:
            return
        type_ = f"<{self._lanes} x {REGISTER[store.dtype]}>"
        difference = self._text.let(f"fsub {type_} {value}, {value}")
        self._open.append(_Difference(self._flags[id(store)], type_, difference, mask))
        if id(store) in self._last and not more:
            together, self._open = self._open, []
            self._text.when(self._any_bad(together), lambda: self._tell_apart(together), is_rare=True)

    def _any_bad(self, differences: Sequence[_Difference]) -> str:
        text = self._text
        sums: dict[tuple[str, str | None], str] = {}
        for one in differences:
            key = one.type_, one.mask
            sums[key] = text.let(f"fadd {one.type_} {sums[key]}, {one.name}") if key in sums else one.name
        found = ""
        for (type_, mask), total in sums.items():
            bad = text.let(f"fcmp uno {type_} {total}, zeroinitializer")
            if mask is not None:
                bad = text.let(f"and <{self._lanes} x i1> {bad}, {mask}")
            found = text.let(f"or <{self._lanes} x i1> {found}, {bad}") if found else bad
        bits = text.let(f"bitcast <{self._lanes} x i1> {found} to i{self._lanes}")
        return text.let(f"icmp ne i{self._lanes} {bits}, 0")

    def _tell_apart(self, differences: Sequence[_Difference]) -> None:
        if len(differences) == 1:
            self._raise(differences[0].flag)
            return
        for one in differences:
            self._text.when(self._any_bad([one]), lambda flag=one.flag: self._raise(flag))

    def _raise(self, flag: str) -> None:
        self._text.line(f"store i8 1, ptr {flag}, align 1")


def watched_stores(statements: Iterable[Instruction]) -> Iterable[Store]:
    return (i for i in statements if isinstance(i, Store) and i.watch is not None)
