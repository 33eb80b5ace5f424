"""Which groups come before which: bitsets by the numbers of groups, kept up to date as groups are joined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from graphlib import TopologicalSorter

from compiler.schedule.fusion.index import GroupIndex
from compiler.support.record import mutable_record


@mutable_record
class Ancestry:
    """`above` has for each group a bitset of those that it needs, directly or not; `used` is all of these as one."""

    above: dict[int, int] = field(default_factory=dict[int, int])
    used: int = 0

    @classmethod
    def of(cls, index: GroupIndex) -> Ancestry:
        """That of all groups, however they stand."""
        direct = {group.number: index.direct_needs(group) for group in index.groups.values()}
        found = cls()
        for number in TopologicalSorter(direct).static_order():
            found.add(number, direct[number])
        return found

    def add(self, number: int, direct: Iterable[int]) -> None:
        """A group that needs those of `direct`, which are known."""
        bits = 0
        for other in direct:
            bits |= self.above[other] | 1 << other
        self.above[number] = bits
        self.used |= bits

    def needs(self, number: int, other: int) -> bool:
        return bool(self.above[number] >> other & 1)

    def join(self, kept: int, gone: int) -> None:
        """The group `gone` becomes part of the group `kept`."""
        before, either = self.above[kept], 1 << kept | 1 << gone
        gained = (self.above.pop(gone) | before) & ~either
        self.above[kept] = gained
        if self.used & (either if gained != before else 1 << gone):  # or nothing changes for those below
            for number, above in self.above.items():
                if above & either and number != kept:
                    self.above[number] = (above & ~(1 << gone)) | 1 << kept | gained
            self.used |= 1 << kept
        self.used |= gained

    def put_before(self, first: int, second: int) -> None:
        """The group `first` comes before the group `second`."""
        gained = self.above[first] | 1 << first
        if self.used >> second & 1:  # mostly an update of a parameter, behind which there is nothing
            for number, above in self.above.items():
                if above >> second & 1:
                    self.above[number] = above | gained
        self.above[second] |= gained
        self.used |= gained
