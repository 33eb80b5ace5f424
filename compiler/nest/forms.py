"""Integers of a nest as polynomials over the batch and numbers with bounds, and proofs that one is never negative.

A number (an index of a loop, a quotient, a minimum) is bounded by forms of numbers that were there before it. A proof
replaces the last number of a form by a bound of it, until a constant is left: a bound of every value for every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, gcd
from typing import TypeAlias

Coefficient: TypeAlias = int | Fraction
Monomial: TypeAlias = tuple[int, ...]  # the numbers of a product, the last first
MOST_STEPS = 4000  # of a proof
MOST_ENDS = 24
_LESS_THAN_ONE = Fraction(999_999, 1_000_000)


class Form:
    """A sum of products of numbers, each with a coefficient."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: dict[Monomial, Coefficient]) -> None:
        self.terms = terms
        self._hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.terms == other.terms

    def __add__(self, other: Form | Coefficient) -> Form:
        found = dict(self.terms)
        for monomial, coefficient in as_form(other).terms.items():
            total = found.get(monomial, 0) + coefficient
            if total:
                found[monomial] = total
            else:
                found.pop(monomial, None)
        return Form(found)

    def __sub__(self, other: Form | Coefficient) -> Form:
        return self + as_form(other).times(-1)

    def __mul__(self, other: Form) -> Form:
        total = Form({})
        for left, coefficient in self.terms.items():
            products = {
                tuple(sorted((*left, *right), reverse=True)): coefficient * by for right, by in other.terms.items()
            }
            total = total + Form(products)
        return total

    def times(self, factor: Coefficient) -> Form:
        return Form({monomial: c * factor for monomial, c in self.terms.items()} if factor else {})

    @property
    def constant(self) -> Coefficient | None:
        """Its value, where it depends on nothing."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @property
    def last(self) -> int:
        """The number that was made last."""
        return max((monomial[0] for monomial in self.terms if monomial), default=-1)

    def split(self, number: int) -> tuple[Form, Form]:
        """What the number is multiplied with, and the rest."""
        factor: dict[Monomial, Coefficient] = {}
        rest: dict[Monomial, Coefficient] = {}
        for monomial, coefficient in self.terms.items():
            if number in monomial:
                place = monomial.index(number)
                factor[monomial[:place] + monomial[place + 1 :]] = coefficient
            else:
                rest[monomial] = coefficient
        return Form(factor), Form(rest)


def as_form(value: Form | Coefficient) -> Form:
    return value if isinstance(value, Form) else Form({(): value} if value else {})


Bound: TypeAlias = tuple[Form, ...]  # one of these is a bound, and which one is not known


@dataclass(slots=True)
class Number:
    """Each entry of `lower`, and of `upper`, is a bound."""

    lower: list[Bound]
    upper: list[Bound]


BATCH = Form({(0,): 1})


@dataclass(slots=True)
class Forms:
    """The numbers of a nest. Equal quotients are one number."""

    numbers: list[Number] = field(default_factory=lambda: [Number([(as_form(1),)], [])])
    known: dict[tuple[object, ...], Form] = field(default_factory=dict[tuple[object, ...], Form])
    proofs: dict[Form, bool] = field(default_factory=dict[Form, bool])
    facts: list[Form] = field(default_factory=list[Form])  # that hold where the nest is read
    quotients: dict[int, tuple[Form, Form]] = field(default_factory=dict[int, tuple[Form, Form]])
    steps: int = 0

    @contextmanager
    def where(self, facts: Sequence[Form]) -> Iterator[bool]:
        """Within, the facts hold too, and what is found there may rest on them. Whether they can hold at all."""
        before, known = len(self.facts), dict(self.known)
        self.learn(facts)
        yield not any(fact.constant is not None and fact.constant < 0 for fact in self.facts[before:])
        if len(self.facts) > before:
            self.known = known
        del self.facts[before:]

    def learn(self, facts: Sequence[Form], depth: int = 2) -> None:
        """Note forms that are not negative, and what follows from them for whole numbers."""
        for fact in facts:
            self.facts.append(_tightened(fact))
            for number in {n for monomial in fact.terms for n in monomial} if depth else ():
                factor, rest = fact.split(number)
                if (sign := factor.constant) is None:
                    continue
                known = self.numbers[number]
                bounds, others = (known.upper, known.lower) if sign > 0 else (known.lower, known.upper)
                for bound in bounds:
                    wide = factor * bound[0] + rest
                    if len(bound) == 1 and (bound in others or _tightened(wide) != wide):
                        self.learn([wide], depth - 1)

    def fresh(self, lower: Sequence[Bound] = (), upper: Sequence[Bound] = ()) -> Form:
        """A number within bounds."""
        self.numbers.append(Number(list(lower), list(upper)))
        return Form({(len(self.numbers) - 1,): 1})

    def between(self, low: Form | int, high: Form | int) -> Form:
        return self.fresh([(as_form(low),)], [(as_form(high),)])

    def once(self, key: tuple[object, ...], make: Callable[[], Form]) -> Form:
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    # arithmetic

    def minimum(self, left: Form, right: Form) -> Form:
        if self.is_never_negative(right - left):
            return left
        if self.is_never_negative(left - right):
            return right
        return self.once(("min", left, right), lambda: self.fresh([(left, right)], [(left,), (right,)]))

    def difference(self, left: Form, right: Form) -> Form:
        """`left - right`. That of two quotients by the same divisor is at most what their numbers are apart allows."""
        found = left - right
        parts = [self.quotients.get(form.last) for form in (left, right) if list(form.terms.values()) == [1]]
        if len(parts) == 2 and parts[0] is not None and parts[1] is not None and parts[0][1] == parts[1][1]:
            apart, divisor = parts[0][0] - parts[1][0], parts[0][1]
            _, most = self.quotients.get(divisor.last, (None, as_form(1)))
            bounds = [(most,)] if self.is_never_negative(most * divisor - apart) else []
            if self.is_never_negative(apart):
                return self.fresh([(as_form(0),), (found,)], [(found,), *bounds])
        if found.constant is None and not self._holds(found):
            for least in (1, 0):
                if self.is_never_negative(found - least):
                    return self.fresh([(as_form(least),), (found,)], [(found,)])
        return found

    def maximum(self, left: Form, right: Form) -> Form:
        return self.minimum(left.times(-1), right.times(-1)).times(-1)

    def quotient(self, form: Form, divisor: Form) -> Form:
        """`form // divisor`, rounded down, of a divisor above 0."""
        whole, rest = self._divided(form, divisor)
        return whole + (0 if rest is None else self._part(rest, divisor))

    def remainder(self, form: Form, divisor: Form) -> Form:
        _, rest = self._divided(form, divisor)
        if rest is None:
            return form - divisor * self.quotient(form, divisor)
        same = rest - divisor * self._part(rest, divisor)
        bounds = [(divisor - 1,), (same,), *([(rest,)] if self.is_never_negative(rest) else [])]
        return self.once(("%", rest, divisor), lambda: self.fresh([(as_form(0),), (same,)], bounds))

    def _divided(self, form: Form, divisor: Form) -> tuple[Form, Form | None]:
        """What divides without rest, and what is left to divide: None where that, too, has a known quotient."""
        whole, rest = Form({}), form
        if len(divisor.terms) == 1:
            ((unit, size),) = divisor.terms.items()
            multiples = {m: c // size for m, c in form.terms.items() if not unit and m and c % size == 0}
            if unit:
                multiples = {_without(m, unit): c // size for m, c in form.terms.items() if _has(m, unit) and c % size == 0}
            elif () in form.terms:
                multiples[()] = form.terms[()] // size
            whole = Form({m: c for m, c in multiples.items() if c})
            rest = form - whole * divisor
        for shift in (0, -1, 1):
            if self.is_never_negative(rest - divisor.times(shift)) and self.is_never_negative(
                divisor.times(shift + 1) - rest - 1
            ):
                return whole + shift, None
        return whole, rest

    def _part(self, rest: Form, divisor: Form) -> Form:
        def make() -> Form:
            lower, upper = list[Bound](), list[Bound]()
            if isinstance(size := divisor.constant, int):
                lower.append(((rest - (size - 1)).times(Fraction(1, size)),))
                upper.append((rest.times(Fraction(1, size)),))
                lower += [(as_form(-end // size),) for end in self.constants(rest.times(-1))[:1]]
            lower += [(as_form(k),) for k in (1, 0) if self.is_never_negative(rest - divisor.times(k))][:1]
            for bound in self.ends(rest):
                whole, left = self._divided(bound, divisor)
                if left is None or (whole.terms and self.is_never_negative(left.times(-1))):
                    upper.append((whole,))
            if divisor.constant is None:
                most = {a // b for a in self.constants(rest) for b in self.constants(divisor) if b > 0}
                upper += [(as_form(k),) for k in most if self.is_never_negative(divisor.times(k + 1) - rest - 1)]
            found = self.fresh(lower, upper)
            self.quotients[found.last] = rest, divisor
            return found

        return self.once(("//", rest, divisor), make)

    def ends(self, form: Form) -> list[Form]:
        """Upper bounds, from itself to constants."""
        number = form.last
        if number < 0:
            return [form]
        factor, rest = form.split(number)
        if self.is_never_negative(factor):
            bounds = self.numbers[number].upper
        elif self.is_never_negative(factor.times(-1)):
            bounds = self.numbers[number].lower
        else:
            return [form]
        found = [form]
        for bound in bounds:
            if len(bound) == 1 and len(found) < MOST_ENDS:
                found += self.ends(factor * bound[0] + rest)
        return found

    def constants(self, form: Form) -> list[int]:
        """Constants that it does not exceed."""
        return [floor(end.constant) for end in self.ends(form) if end.constant is not None]

    def rounds(self, start: Form, stop: Form, step: int) -> Form:
        """How many rounds of a loop were before this one."""
        reach = stop - start - 1
        whole, rest = self._divided(reach, as_form(step))
        if rest is None:
            return self.between(0, whole)
        bounds = [reach.times(Fraction(1, step)) if step > 1 else reach]
        for end in self.ends(reach):
            whole, rest = self._divided(end, as_form(step))
            bounds += [whole] if rest is None else []
        return self.fresh([(as_form(0),)], [(bound,) for bound in bounds])

    # proofs

    def is_never_negative(self, form: Form, facts: Sequence[Form] = ()) -> bool:
        """Whether a proof was found, from the facts and those given here."""
        self.steps = 0
        if all(type(coefficient) is int for coefficient in form.terms.values()):
            form = form + _LESS_THAN_ONE  # an integer that is more than -1
        return self._follows(form, (*map(_tightened, facts), *self.facts))

    def _follows(self, form: Form, facts: tuple[Form, ...]) -> bool:
        """Whether a form without facts, or less a multiple of one, by which they have a product less in common, holds."""
        if self._holds(form):
            return True
        self.steps += 50
        if self.steps > MOST_STEPS:
            return False
        for place, fact in enumerate(facts):
            shares = {form.terms.get(monomial, 0) / Fraction(by) for monomial, by in fact.terms.items() if monomial}
            for share in shares:
                if share > 0 and self._follows(form - fact.times(share), facts[:place] + facts[place + 1 :]):
                    return True
        for number in sorted({n for monomial in form.terms for n in monomial}, reverse=True) if facts else ():
            factor, rest = form.split(number)
            if (sign := factor.constant) is None:
                continue
            known = self.numbers[number]
            bounds, others = (known.lower, known.upper) if sign > 0 else (known.upper, known.lower)
            for bound in bounds:
                if (len(bound) > 1 or bound in others) and all(self._follows(factor * e + rest, facts) for e in bound):
                    return True
        return False

    def _holds(self, form: Form) -> bool:
        constant = form.constant
        if constant is not None:
            return constant >= 0
        found = self.proofs.get(form)
        if found is None:
            self.steps += 1
            if self.steps > MOST_STEPS:
                return False
            self.proofs[form] = False
            found = self.proofs[form] = self._proved(form)
        return found

    def _proved(self, form: Form) -> bool:
        number = form.last
        factor, rest = form.split(number)
        if number == 0 and all(coefficient >= 0 for coefficient in _from_one(form)):
            return True
        if self._holds(factor):
            bounds = self.numbers[number].lower
        elif self._holds(factor.times(-1)):
            bounds = self.numbers[number].upper
        else:
            return False
        return any(all(self._holds(factor * end + rest) for end in bound) for bound in bounds)


def _tightened(fact: Form) -> Form:
    """A form of integers that is not negative, with the least constant."""
    common = gcd(*(int(c) for monomial, c in fact.terms.items() if monomial))
    return fact - _constant(fact) % common if common > 1 else fact


def _constant(form: Form) -> Coefficient:
    return form.terms.get((), 0)


def _has(monomial: Monomial, unit: Monomial) -> bool:
    return all(monomial.count(number) >= unit.count(number) for number in unit)


def _without(monomial: Monomial, unit: Monomial) -> Monomial:
    left = list(monomial)
    for number in unit:
        left.remove(number)
    return tuple(left)


def _from_one(form: Form) -> list[Coefficient]:
    """The coefficients of a polynomial of the batch, counted from a batch of one row on."""
    found = [form.terms.get((0,) * power, 0) for power in range(max(map(len, form.terms)) + 1)]
    for first in range(len(found) - 1):
        for power in range(len(found) - 2, first - 1, -1):
            found[power] += found[power + 1]
    return found
