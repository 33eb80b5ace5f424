"""Numbers of a nest as terms of Presburger arithmetic over the rounds of its loops, of which isl decides questions.

A product of two numbers, a quotient by one and a number from memory are no terms: each is a dimension of its own, of
which bounds are known. Items that are numbered by digits have a dimension for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import gcd
from typing import Literal, TypeAlias

import islpy as isl
from islpy import PwAff

from compiler.nest import ir
from compiler.nest.call import Call
from compiler.support.record import record
from compiler.types import BatchExtent, Extent

DIM = isl.dim_type
CALL = 4  # dimensions that say which items a call does
MOST_QUOTIENT = 16  # by a number that no constant gives
MOST_SPLITS = 5  # of digits, which take two dimensions each
USUAL_ROWS = 1 << 16  # of a batch, up to which numbers are asked for bounds
MOST_LOADED = 4  # numbers from memory that have a dimension at once


@record(eq=False)
class Digits:
    """A number below `size` times the chunks of the items."""

    size: int


@record(eq=False)
class Product:
    """A product of two numbers that is no term."""

    left: PwAff
    right: PwAff


@record(eq=False)
class Loaded:
    """A number from memory, or one computed of such numbers: nothing is known of it."""


Content: TypeAlias = PwAff | Digits | Product | Loaded


@record(eq=False)
class Share:
    """Stretches from `first` to before `stop`, one behind the other, which are numbered by `number`."""

    number: PwAff
    first: PwAff
    stop: PwAff
    loops: int  # around it, with which the stretches may change
    whole: tuple[PwAff, PwAff] | None  # a number that so many stretches divide, from 0 on
    scope: isl.Set  # where it is known


class UnknownError(Exception):
    """A number of which nothing is known, where something must be."""


class Terms:
    """The dimensions of a nest with so many loops inside of each other, and `room` for others."""

    def __init__(self, call: Call, depth: int, room: int, is_cut: bool) -> None:
        self.call, self.depth, self.is_cut, self._room = call, depth, is_cut, room
        names = ["first", "skipped", "last", "taken", *(f"t{k}" for k in range(depth)), *(f"f{k}" for k in range(room))]
        self.space = isl.Space.create_from_names(isl.DEFAULT_CONTEXT, set=[*names, "lane", "byte"], params=["batch"])
        self._local = isl.LocalSpace.from_space(self.space)
        self.batch = PwAff.from_aff(isl.Aff.var_on_domain(self._local, DIM.param, 0))
        self.halves = [self.dimension(k) for k in range(4)]  # quotients and rests of begin and end
        self.begin, self.end = (q.scale_val(call.factor).add(r) for q, r in (self.halves[:2], self.halves[2:]))
        self.lane, self.byte = self.dimension(len(names)), self.dimension(len(names) + 1)
        self.chunks = self.extent(call.extent).add_constant_val(call.chunk - 1).scale_down_val(call.chunk).floor()
        self.items = self.chunks.scale_val(call.factor)
        self.always: isl.Set = self.batch.ge_set(self.number(1)) & self.lane.ge_set(
            self.number(0)
        )  # what holds of all dimensions
        self.within: isl.Set = self.always  # where the walk is
        self.added = isl.Set.universe(self.space)  # what is known of that since the body of the innermost loop began
        self.facts = isl.Set.universe(self.space)  # about boundaries that are known there
        self.scope = isl.Set.universe(self.space)  # for which rectangle
        self.loops = list[ir.Loop]()
        self.shares: list[Share] = []
        self.of_data: set[int] = set()  # dimensions of numbers from memory
        self.of_shares: set[int] = set()  # dimensions of boundaries between shares
        self.of_items: set[int] = set()  # dimensions of items and of their digits
        self.seen: set[int] = set()  # boundaries that are known where the walk is
        self.free = 0
        self.boundaries: dict[tuple[str, str], list[tuple[PwAff, PwAff]]] = {}
        self.loaded: dict[Loaded, int] = {}  # the dimensions of those that have one, the oldest first
        self._digits: dict[tuple[int, int], PwAff] = {}  # by the sizes before and behind a division; (n, 0): the number
        self._splits: dict[int, tuple[int, int, int]] = {}  # a digit by a size: its quotient and its rest
        self._bound_items()

    def _bound_items(self) -> None:
        if self.is_cut:
            zero, size = self.number(0), self.number(self.call.factor)
            self.always &= self.begin.ge_set(zero) & self.begin.lt_set(self.end) & self.end.le_set(self.items)
            for rest in self.halves[1::2]:
                self.always &= self.between(rest, 0, size)
        else:
            for half in self.halves:
                self.always &= half.eq_set(self.number(0))
        self.within = self.always

    def end_dimensions(self) -> None:
        """Give a dimension to what tells items apart and no address asks for; dimensions that are not used are 0."""
        self._end_digits()
        first = CALL + self.depth
        for k in {*range(first + self.free, first + self._room)} - self.of_data:
            self.always &= self.dimension(k).eq_set(self.number(0))

    def _end_digits(self) -> None:
        """Give a dimension to the digit of an item that no address asks for, or to the item itself."""
        size = self.call.factor
        while not self.is_cut and (size, 0) not in self._digits:
            smaller = [to for of, to in self._digits if of == size]
            if not smaller:
                self.known(Digits(size))
            elif len(smaller) > 1:
                raise UnknownError("items that are divided in two ways")
            else:
                size = smaller[0]

    @cached_property
    def loops_of_shares(self) -> frozenset[int]:
        """The dimensions of loops that number shares, once all of these are known."""
        loops = range(CALL, CALL + self.depth)
        return frozenset(k for k in loops if any(share.number.is_equal(self.dimension(k)) for share in self.shares))

    def dimension(self, k: int) -> PwAff:
        return PwAff.from_aff(isl.Aff.var_on_domain(self._local, DIM.set, k))

    def number(self, value: int) -> PwAff:
        return PwAff.from_aff(isl.Aff.zero_on_domain(self._local).add_constant_val(value))

    def extent(self, extent: Extent) -> PwAff:
        return self.batch.scale_val(extent.multiple) if isinstance(extent, BatchExtent) else self.number(extent)

    def between(self, value: PwAff, low: PwAff | int, high: PwAff) -> isl.Set:
        """Where a number is at least `low` and below `high`."""
        return value.ge_set(self.number(low) if isinstance(low, int) else low) & value.lt_set(high)

    def may_be(self, where: isl.Set) -> bool:
        """Whether there may be such a round here."""
        return not (where & self.within & self.always).is_empty()

    def _fresh(self, *kinds: set[int]) -> PwAff:
        """A dimension that is no round of a loop, noted in these sets."""
        if self.free == self._room - MOST_LOADED:
            raise UnknownError("numbers that are no terms, too many of them")
        place = CALL + self.depth + self.free
        self.free += 1
        for kind in kinds:
            kind.add(place)
        return self.dimension(place)

    def known(self, content: object) -> PwAff | None:
        """A content as a term."""
        match content:
            case Digits(size=size):
                if size == 1 and (self.chunks.sub(self.number(1))).eq_set(self.number(0)).is_equal(
                    isl.Set.universe(self.space)
                ):
                    self._digits.setdefault((1, 0), self.number(0))
                if (size, 0) not in self._digits:
                    self._digits[size, 0] = found = self._fresh(self.of_items)
                    self.always &= self.between(found, 0, self.chunks.scale_val(size))
                return self._digits[size, 0]
            case Product(left=left, right=right):
                found, other = self._part(left, right), self._part(right, left)
                if found is not None and other is not None:
                    self._learn(found.eq_set(other))
                return other if found is None else found
            case Loaded():
                if content not in self.loaded:
                    end = CALL + self.depth + self._room
                    free = {*range(end - MOST_LOADED, end)}.difference(self.loaded.values())
                    if not free:
                        return None  # an address that asks for it has no proof
                    self.loaded[content] = max(free)
                    self.of_data.add(max(free))
                return self.dimension(self.loaded[content])
            case PwAff():
                return content
            case _:
                return None

    def is_endless(self, number: PwAff) -> bool:
        """Whether a number depends on one from memory and has no bounds, in a batch of usual size."""
        if not any(number.involves_dims(DIM.in_, k, 1) for k in self.of_data):
            return False
        here = number.intersect_domain(self.within & self.always & self.batch.le_set(self.number(USUAL_ROWS)))
        return not (here.domain().is_empty() or (here.min_val().is_int() and here.max_val().is_int()))

    def decides(self, k: int) -> bool:
        """Whether more than a number depends on a dimension: the rounds where the walk is, or shares."""
        boundaries = (number for members in self.boundaries.values() for pair in members for number in pair)
        shares = (number for share in self.shares for number in (share.number, share.first, share.stop))
        return any(number.involves_dims(DIM.in_, k, 1) for number in (*boundaries, *shares)) or any(
            where.involves_dims(DIM.set, k, 1) for where in (self.within, self.added, self.facts, self.always)
        )

    def _part(self, number: PwAff, size: PwAff) -> PwAff | None:
        """The begin of stretch number so and so, all of them of one size."""
        here = self.within & self.always
        most, largest = (_value(n.intersect_domain(here).max_val()) for n in (number, size))
        if most is None or self.may_be(number.lt_set(self.number(0)) | size.lt_set(self.number(0))):
            return None
        if not most:
            return self.number(0)
        found = self._boundary(number, ("", str(size)), size, None)
        self._learn(found.ge_set(self.number(0)) & found.le_set(size.scale_val(most)))
        if largest is not None:
            self._learn(found.le_set(number.scale_val(largest)))
        self._note(number, found, found.add(size))
        return found

    def quotient(self, product: Product, groups: PwAff, most: int | None) -> PwAff | None:
        """`count * number // groups`: the begin of a share, of which `most` is the largest size."""
        for number, count in ((product.right, product.left), (product.left, product.right)):
            outside = number.lt_set(self.number(0)) | number.gt_set(groups) | groups.lt_set(self.number(1))
            if not self.may_be(outside):
                size = constant_of(groups)
                largest = (
                    self.number(most or 0)
                    if size is None
                    else count.add_constant_val(size - 1).scale_down_val(size).floor()
                )
                found = self._boundary(number, (str(count), str(groups)), None, largest, (count, groups))
                self._learn(self.between(found, 0, count.add_constant_val(1)))
                return found
        return None

    def floor_of(self, number: PwAff, divisor: int) -> PwAff:
        """A quotient by a constant, without terms that are known to be less than what the others are multiples of."""
        found: PwAff | None = None
        for where, term in self.in_digits(number).get_pieces():
            part = self._floor(term, divisor, where & self.within & self.always).intersect_domain(where)
            found = part if found is None else found.union_add(part)
        return number if found is None else found.coalesce()

    def _floor(self, term: isl.Aff, divisor: int, where: isl.Set) -> PwAff:
        """floor((group * a + rest) / divisor) is floor(a / (divisor / group)) for a rest below the group."""
        places = [(kind, k) for kind in (DIM.in_, DIM.param, DIM.div) for k in range(term.dim(kind))]
        factors = [(at, value) for at in places if not (value := term.get_coefficient_val(*at)).is_zero()]
        if all(value.is_int() for _, value in factors):
            groups = {gcd(value.to_python(), divisor) for _, value in factors} - {1}
            for group in sorted(groups, reverse=True):
                rest = term.set_constant_val(term.get_constant_val().mod(group))
                for at, value in factors:
                    rest = rest if value.to_python() % group else rest.set_coefficient_val(*at, 0)
                if (where - self.between(PwAff.from_aff(rest), 0, self.number(group))).is_empty():
                    return self._digit_of(term.sub(rest).scale_down_val(group), divisor // group)
        return self._digit_of(term, divisor)

    def _digit_of(self, term: isl.Aff, size: int) -> PwAff:
        """A quotient by a constant; that of a digit of an item is a digit, and so is the rest."""
        number, digits = PwAff.from_aff(term), (*self.of_items, *(q for _, q, _ in self._splits.values()))
        place = next((k for k in digits if number.is_equal(self.dimension(k))), -1)
        is_free = not self.is_cut and len(self._splits) < MOST_SPLITS and self.free + 2 <= self._room - MOST_LOADED
        if place >= 0 and place not in self._splits and size > 1 and is_free:
            first = CALL + self.depth + self.free
            self._splits[place] = size, first, first + 1
            q, r = self._fresh(), self._fresh()
            self.always &= self.dimension(place).eq_set(q.scale_val(size).add(r))
            self.always &= self.between(r, 0, self.number(size))
        made, quotient, _ = self._splits.get(place, (0, 0, 0))
        return self.dimension(quotient) if made == size else number.scale_down_val(size).floor()

    def in_digits(self, number: PwAff) -> PwAff:
        """The same number, with the quotients and rests of digits that were divided."""
        for place, (size, quotient, rest) in self._splits.items():
            if number.involves_dims(DIM.in_, place, 1):
                term = isl.Aff.var_on_domain(self._local, DIM.set, quotient).scale_val(size)
                term = term.add(isl.Aff.var_on_domain(self._local, DIM.set, rest))
                here = isl.MultiAff.identity_on_domain_space(self.space)
                number = number.pullback_multi_aff(here.set_aff(place, term))
        return number

    def small_quotient(self, number: PwAff, divisor: PwAff, is_rest: bool) -> PwAff | None:
        """A quotient that is one of a few numbers, or its rest: where it is which of them are terms."""
        if self.may_be(number.lt_set(self.number(0)) | divisor.lt_set(self.number(1))):
            return None
        found: PwAff | None = None
        for quotient in range(MOST_QUOTIENT):
            most = divisor.scale_val(quotient)
            if not self.may_be(number.ge_set(most)):
                return found
            part = number.sub(most) if is_rest else self.number(quotient)
            part = part.intersect_domain(self.between(number, most, most.add(divisor)))
            found = part if found is None else found.union_add(part)
        return None

    def _boundary(
        self,
        number: PwAff,
        family: tuple[str, str],
        least: PwAff | None,
        most: PwAff | None,
        whole: tuple[PwAff, PwAff] | None = None,
    ) -> PwAff:
        """A number that grows with `number`, by a size between bounds for each one that this is more."""
        others = self.boundaries.setdefault(family, [])
        for other, place in others:
            if other.is_equal(number):
                return place
        found = self._fresh(self.seen, self.of_shares)
        for other, place in others:
            if (apart := constant_of(number.sub(other))) is not None:
                first, last, rounds = (place, found, apart) if apart > 0 else (found, place, -apart)
                self._learn(first.le_set(last))
                if most is not None:
                    self._learn(last.le_set(first.add(most.scale_val(rounds))))
                if rounds == 1 and least is None:
                    self._note(other if apart > 0 else number, first, last, whole)
            else:
                less, more = (a.add(least or self.number(0)).le_set(b) for a, b in ((place, found), (found, place)))
                equal = other.eq_set(number) & place.eq_set(found)
                self._learn((other.lt_set(number) & less) | equal | (other.gt_set(number) & more))
        others.append((number, found))
        return found

    def _learn(self, fact: isl.Set) -> None:
        """What holds of boundaries wherever they are known."""
        self.within &= fact
        self.added &= fact
        self.facts &= fact

    def _note(self, number: PwAff, first: PwAff, stop: PwAff, whole: tuple[PwAff, PwAff] | None = None) -> None:
        if not any(share.scope is self.scope and share.first.is_equal(first) for share in self.shares):
            self.shares.append(Share(number, first, stop, len(self.loops), whole, self.scope))

    def among(self, number: PwAff, stretches: Sequence[tuple[int, int]]) -> isl.Set:
        """Where a number lies in one of the stretches, which are in order."""
        found, joined = isl.Set.empty(self.space), list[tuple[int, int]]()
        for first, stop in stretches:
            before = joined.pop() if joined and joined[-1][1] == first else (first, stop)
            joined.append((before[0], stop))
        for first, stop in joined:
            found |= self.between(number, first, self.number(stop))
        return found

    def listed(self, values: tuple[int, ...]) -> PwAff:
        """The elements of a constant vector."""
        first, second = (*values, *values)[:2]
        if all(value == first + (second - first) * k for k, value in enumerate(values)):
            return self.lane.scale_val(second - first).add_constant_val(first)
        parts = [self.number(v).intersect_domain(self.lane.eq_set(self.number(k))) for k, v in enumerate(values)]
        found = parts[0]
        for part in parts[1:]:
            found = found.union_add(part)
        return found

    def joined(self, op: str, left: isl.Set | None, right: isl.Set | None) -> isl.Set | None:
        if left is None or right is None:
            return None
        return left & right if op == "and" else left | right if op == "or" else (left - right) | (right - left)

    def compared(self, relation: ir.Relation, left: PwAff | None, right: PwAff | None) -> isl.Set | None:
        if left is None or right is None:
            return None
        match relation:
            case "lt":
                return left.lt_set(right)
            case "le":
                return left.le_set(right)
            case "gt":
                return left.gt_set(right)
            case "ge":
                return left.ge_set(right)
            case "eq":
                return left.eq_set(right)
            case "ne":
                return left.ne_set(right)
            case "below":
                return self.between(left, 0, right)
            case "unordered":
                return None

    def extreme(self, left: PwAff, right: PwAff, op: Literal["min", "max"]) -> PwAff:
        """The smaller or the larger of two numbers, which is one of them where that is known."""
        small, large = (left, right) if op == "min" else (right, left)
        if not self.may_be(small.gt_set(large)):
            return left
        if not self.may_be(small.lt_set(large)):
            return right
        return left.min(right) if op == "min" else left.max(right)

    def either(self, truth: isl.Set, yes: PwAff, no: PwAff) -> PwAff:
        return yes.intersect_domain(truth).union_add(no.subtract_domain(truth)).coalesce()

    def digit(self, of: Digits, divisor: PwAff, is_quotient: bool) -> Content | None:
        """A digit of the number of an item, which the chunks of the items divide."""
        sizes = (n for n in range(1, of.size + 1) if of.size % n == 0)
        size = next((n for n in sizes if divisor.is_equal(self.chunks.scale_val(n))), None)
        if size is None or size == of.size:
            return None if size is None else self.number(0) if is_quotient else of
        if (of.size, size) not in self._digits:
            self._digits[of.size, size] = digit = self._fresh(self.of_items)
            self.always &= self.between(digit, 0, self.number(of.size // size))
        return self._digits[of.size, size] if is_quotient else Digits(size)


def product_of(left: PwAff, right: PwAff) -> PwAff | Product:
    if (size := constant_of(left)) is not None:
        return right.scale_val(size)
    size = constant_of(right)
    return Product(left, right) if size is None else left.scale_val(size)


def constant_of(number: PwAff) -> int | None:
    """The value of a number that depends on nothing."""
    if not number.is_cst() or not number.domain().plain_is_universe():
        return None
    return _value(number.max_val())


def _value(found: isl.Val) -> int | None:
    return found.to_python() if found.is_int() else None
