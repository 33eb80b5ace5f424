"""The names that are bound at one place of a declaration, and those that are bound only on some ways to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum, auto

from compiler.errors.diagnostics import Span
from compiler.support.record import mutable_record


class NameKind(Enum):
    """What a local name is."""

    SETTING = auto()
    DIMENSION = auto()
    LOOP = auto()
    TENSOR = auto()
    VARIABLE = auto()
    STATE = auto()
    INPUT = auto()
    OUTPUT = auto()


FIXED: Mapping[NameKind | None, str] = {
    NameKind.SETTING: "setting",
    NameKind.DIMENSION: "dimension",
    NameKind.LOOP: "loop variable",
}
"""The kinds of names that keep their value, with the words for them."""


@mutable_record
class Environment:
    """`kinds` and `places` of the bound names; `partial` says of the others why they are not bound."""

    kinds: dict[str, NameKind] = field(default_factory=dict[str, NameKind])
    places: dict[str, Span] = field(default_factory=dict[str, Span])
    partial: dict[str, str] = field(default_factory=dict[str, str])
    used: set[str] = field(default_factory=set[str])
    ever: dict[str, tuple[NameKind, Span]] = field(default_factory=dict[str, "tuple[NameKind, Span]"])

    def __contains__(self, name: str) -> bool:
        return name in self.kinds

    def bind(self, name: str, kind: NameKind, place: Span) -> None:
        self.kinds[name] = kind
        self.places.setdefault(name, place)
        self.partial.pop(name, None)
        self.ever.setdefault(name, (kind, place))

    def copy(self) -> Environment:
        """For a branch or a loop: the same bindings to add to, the same record of uses."""
        return Environment(dict(self.kinds), dict(self.places), dict(self.partial), self.used, self.ever)

    def merge(self, branches: Sequence[Environment], reason: str) -> None:
        """After an `if`: a name is bound if every branch that goes on bound it."""
        if not branches:
            return
        common = {name for name in branches[0].kinds if all(name in branch.kinds for branch in branches)}
        for branch in branches:
            for name, kind in branch.kinds.items():
                if name in common:
                    self.kinds.setdefault(name, kind)
                    self.places.setdefault(name, branch.places[name])
                    self.partial.pop(name, None)
                else:
                    self.partial.setdefault(name, reason)
            for name, why in branch.partial.items():
                if name not in self.kinds:
                    self.partial.setdefault(name, why)

    def end_round(self, inside: Environment, reason: str) -> None:
        """After a `for`: what its body bound first ends with the round."""
        for name in inside.kinds:
            if name not in self.kinds:
                self.partial.setdefault(name, reason)
