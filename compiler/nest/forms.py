"""Integers of a nest as polynomials of the batch and of numbers with bounds, and proofs that one is never negative.

A number (an index of a loop, a quotient, a minimum) has forms of numbers that were there before it as bounds. A proof
puts such a bound in place of the last number of a form, until a constant is left, which holds for every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import gcd
from typing import TypeAlias

from compiler.support.record import record

Monomial: TypeAlias = tuple[int, ...]  # the numbers of a product, the last first
MOST_STEPS = 20000  # of a proof
STEPS_OF_FACT = 50  # that are taken for a fact that is tried
MOST_ENDS = 24  # bounds of a form that are looked at


class Form:
    """A sum of products of numbers, each with a coefficient."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: dict[Monomial, int]) -> None:
        self.terms = terms
        self._hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.terms == other.terms

    def __add__(self, other: Form | int) -> Form:
        found = dict(self.terms)
        for monomial, coefficient in as_form(other).terms.items():
            total = found.get(monomial, 0) + coefficient
            if total:
                found[monomial] = total
            else:
                found.pop(monomial, None)
        return Form(found)

    def __sub__(self, other: Form | int) -> Form:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, other: Form | int) -> Form:
        if isinstance(other, int):
            return Form({monomial: c * other for monomial, c in self.terms.items()} if other else {})
        total = Form({})
        for left, size in self.terms.items():
            total += Form({tuple(sorted((*left, *right), reverse=True)): size * c for right, c in other.terms.items()})
        return total

    @property
    def constant(self) -> int | None:
        """Its value, where it depends on nothing."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @property
    def numbers(self) -> list[int]:
        """The numbers that it depends on, the last first."""
        return sorted({number for monomial in self.terms for number in monomial}, reverse=True)

    def split(self, number: int) -> tuple[Form, Form]:
        """The factor of a number, and the rest."""
        factor: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for monomial, coefficient in self.terms.items():
            if number in monomial:
                place = monomial.index(number)
                factor[monomial[:place] + monomial[place + 1 :]] = coefficient
            else:
                rest[monomial] = coefficient
        return Form(factor), Form(rest)


def as_form(value: Form | int) -> Form:
    return value if isinstance(value, Form) else Form({(): value} if value else {})


BATCH = Form({(0,): 1})


@record
class Bound:
    """`scale` times a number is at least, or at most, one of the forms; which one is not known."""

    forms: tuple[Form, ...]
    scale: int = 1

    def mentions(self, form: Form) -> bool:
        return any(form.numbers[0] in each.numbers for each in self.forms)

    def replaced(self, form: Form, other: Form) -> Bound:
        """With another form for one that is a number."""
        parts = [each.split(form.numbers[0]) for each in self.forms]
        return Bound(tuple(factor * other + rest for factor, rest in parts), self.scale)

    def put(self, factor: Form, rest: Form) -> list[Form]:
        """`factor * number + rest`, times the scale, with each of the forms for the number."""
        return [factor * form + rest * self.scale for form in self.forms]


@dataclass(slots=True)
class Number:
    """A number by its bounds from below and from above."""

    lower: list[Bound]
    upper: list[Bound]


@dataclass(slots=True)
class Forms:
    """The numbers of a nest, of which the batch is the first. Equal quotients are one number."""

    numbers: list[Number] = field(default_factory=lambda: [Number([Bound((as_form(1),))], [])])
    known: dict[tuple[object, ...], Form] = field(default_factory=dict[tuple[object, ...], Form])
    proofs: dict[Form, bool] = field(default_factory=dict[Form, bool])
    divided: dict[int, Form] = field(default_factory=dict[int, Form])  # numbers as quotient times divisor, and the rest
    sizes: dict[Form, list[int]] = field(default_factory=dict[Form, list[int]])  # by which quotients were divided
    unknown: dict[int, set[int]] = field(default_factory=dict[int, set[int]])  # the numbers behind one without bounds
    facts: list[Form] = field(default_factory=list[Form])  # that are not negative where the nest is read
    steps: int = 0

    def fresh(self, lower: Sequence[Form] = (), upper: Sequence[Form] = ()) -> Form:
        """A number within bounds."""
        return self.bounded([Bound((form,)) for form in lower], [Bound((form,)) for form in upper])

    def of_unknown(self, *forms: Form) -> Form:
        """A number that depends on forms in a way of which nothing is known."""
        self.unknown[len(self.numbers)] = {number for form in forms for number in form.numbers}
        return self.fresh()

    def bounded(self, lower: list[Bound], upper: list[Bound]) -> Form:
        self.numbers.append(Number(lower, upper))
        return Form({(len(self.numbers) - 1,): 1})

    def between(self, low: Form | int, high: Form | int) -> Form:
        return self.fresh([as_form(low)], [as_form(high)])

    def once(self, key: tuple[object, ...], make: Callable[[], Form]) -> Form:
        """The number that was made for a key before, if there is one."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def equate(self, one: Form, other: Form) -> None:
        """From here on, two numbers are the same: bounds by the later of them hold by the other too."""
        if one.numbers and other.numbers:
            early, late = sorted((one, other), key=lambda form: form.numbers[0])
            for number in self.numbers:
                for bounds in (number.lower, number.upper):
                    bounds += [bound.replaced(late, early) for bound in bounds if bound.mentions(late)]

    # arithmetic

    def either(self, one: Form, other: Form) -> Form:
        """A number that is one of two."""
        return self.bounded([Bound((one, other))], [Bound((one, other))])

    def least(self, left: Form, right: Form) -> Form:
        """The smaller one of two."""
        upper = [Bound((left,)), Bound((right,))]
        return self.once(("min", left, right), lambda: self.bounded([Bound((left, right))], upper))

    def quotient(self, form: Form, divisor: Form) -> Form:
        """`form // divisor`, rounded down, of a divisor above 0."""
        whole, rest = self._divided(form, divisor)
        if rest is None:
            return whole
        return whole + (self._part(rest, divisor) if divisor.constant else self._next_part(rest, divisor))

    def named(self, form: Form) -> Form:
        """A number that is a form: products with it grow where it is known to be never negative."""
        if len(form.terms) < 2:
            return form

        def make() -> Form:
            most = [*self._with_facts(form), *map(as_form, sorted(self._constants(form))[:1])]
            least = [as_form(k) for k in (1, 0) if self.is_never_negative(form - k)][:1]
            return self.fresh([form, *least], [form, *most])

        return self.once(("is", form), make)

    def _with_facts(self, form: Form) -> list[Form]:
        """Forms of fewer numbers that a form does not exceed, by a fact."""
        shares = ((fact, c, fact.terms.get(m, 0)) for fact in self.facts for m, c in form.terms.items() if m)
        more = [form + fact * (-c // by) for fact, c, by in shares if c * by < 0 and c % by == 0]
        return [end for end in more if len(end.numbers) < len(form.numbers)]

    def remainder(self, form: Form, divisor: Form) -> Form:
        whole, rest = self._divided(form, divisor)
        if rest is None:
            return form - divisor * whole
        same = rest - divisor * self._part(rest, divisor)
        upper = [divisor - 1, same, *([rest] if self.is_never_negative(rest) else [])]
        return self.once(("rem", rest, divisor), lambda: self.fresh([as_form(0), same], upper))

    def rounds(self, start: Form, stop: Form, step: int) -> Form:
        """How many rounds of a loop were before this one."""
        reach = stop - start - 1
        return self.bounded([Bound((as_form(0),))], self._most(reach, as_form(step)))

    def trips(self, start: Form, stop: Form, step: int) -> Form:
        """How many rounds a loop has."""
        count = self.quotient(stop - start + (step - 1), as_form(step))
        return count if self.is_never_negative(count) else self.least(count * -1, as_form(0)) * -1

    def behind(self, number: int) -> set[int]:
        """The numbers by which one is bounded."""
        known = self.numbers[number]
        found = self.unknown.get(number, set[int]())
        return found | {n for bound in (*known.lower, *known.upper) for form in bound.forms for n in form.numbers}

    def _divided(self, form: Form, divisor: Form) -> tuple[Form, Form | None]:
        """The part that divides without rest, and the rest: None where the quotient of that is known too."""
        whole = Form({})
        if len(divisor.terms) == 1:
            ((unit, size),) = divisor.terms.items()
            multiples = {_without(m, unit): c // size for m, c in form.terms.items() if _has(m, unit) and not c % size}
            if not unit:
                multiples[()] = form.terms.get((), 0) // size
            whole = Form({monomial: c for monomial, c in multiples.items() if c})
        rest = form - whole * divisor
        for shift in (0, -1, 1):
            over = rest - divisor * shift
            if self.is_never_negative(over) and self.is_never_negative(divisor - over - 1):
                return whole + shift, None
        return whole, rest

    def _part(self, rest: Form, divisor: Form) -> Form:
        """A quotient that is not known as a form."""

        def make() -> Form:
            lower = [Bound((as_form(k),)) for k in (1, 0) if self.is_never_negative(rest - divisor * k)][:1]
            if (size := divisor.constant) is not None:
                lower.append(Bound((rest - (size - 1),), size))
            quotient = self.bounded(lower, self._most(rest, divisor))
            if size is not None:
                self.sizes.setdefault(quotient, []).append(size)
            if size is not None and len(rest.terms) == 1 and rest == Form({(number := rest.numbers[0],): 1}):
                self.divided[number] = quotient * size + self.between(0, size - 1)
            return quotient

        return self.once(("div", rest, divisor), make)

    def _next_part(self, rest: Form, divisor: Form) -> Form:
        """The quotient by a divisor g that only the run knows: that of a number less by d, and a step.

        The step is at most m where d <= m * g. With g = (d + m - 1) // m, these are shares of equal size.
        """
        for key, before in [*self.known.items()]:
            if key[0] != "div" or key[2] != divisor or not isinstance(key[1], Form):
                continue
            more = rest - key[1]
            if more.numbers and self.is_never_negative(more):
                most = [as_form(k) for k in self.sizes.get(divisor, ()) if self.is_never_negative(divisor * k - more)]
                step = self.fresh([as_form(0)], most)
                self.learn([end - before - step for end in islice(self._whole_ends(rest, divisor), 1)])
                return before + step
        return self._part(rest, divisor)

    def _most(self, form: Form, divisor: Form) -> list[Bound]:
        """Bounds of a quotient from above."""
        size, found = divisor.constant, [*self._whole_ends(form, divisor)]
        if size is None:
            ends = self._constants(form), self._constants(divisor)
            most = {a // b for a in ends[0] for b in ends[1] if b > 0}
            found += [as_form(k) for k in most if self.is_never_negative(divisor * (k + 1) - form - 1)]
        bounds = [Bound((least,)) for least in self._least(found)]
        if size is None or any(self._is_positive(form - bound.forms[0] * size + 1) for bound in bounds):
            return bounds
        return [Bound((form,), size), *bounds]

    def _whole_ends(self, form: Form, divisor: Form) -> Iterator[Form]:
        """Forms that a quotient does not exceed."""
        self.steps = 0
        for scale, end in self._ends(form, 1):
            whole, left = self._divided(end, divisor * scale)
            if left is None or (whole.terms and self.is_never_negative(left * -1)):
                yield whole

    def _least(self, forms: Sequence[Form]) -> list[Form]:
        """Without those that are never below another."""
        found: list[Form] = []
        for form in forms:
            if not any(self._is_positive(form - other + 1) for other in found):
                found = [other for other in found if not self._is_positive(other - form + 1)] + [form]
        return found

    def _constants(self, form: Form) -> list[int]:
        """Constants that a form does not exceed."""
        return [c // scale for scale, end in self._ends(form, 1) if (c := end.constant) is not None]

    def _ends(self, form: Form, scale: int) -> list[tuple[int, Form]]:
        """Forms that a form, times a scale, does not exceed: from itself to constants."""
        found, numbers = [(scale, form)], form.numbers
        if numbers:
            factor, rest = form.split(numbers[0])
            for bound in self._bounds(numbers[0], factor)[1]:
                if len(bound.forms) == 1 and len(found) < MOST_ENDS:
                    found += self._ends(bound.put(factor, rest)[0], scale * bound.scale)
        return found

    # proofs

    @contextmanager
    def where(self, facts: Sequence[Form]) -> Generator[bool]:
        """Within, the facts hold too, and what is found there may rest on them. Whether they can hold at all."""
        before, known = len(self.facts), dict(self.known)
        self.learn(facts)
        yield not any(fact.constant is not None and fact.constant < 0 for fact in self.facts[before:])
        if len(self.facts) > before:
            self.known = known
        del self.facts[before:]

    def learn(self, facts: Sequence[Form]) -> None:
        """Note forms that are not negative from here on."""
        self.facts += map(_tightened, facts)

    def is_never_negative(self, form: Form, facts: Sequence[Form] = ()) -> bool:
        """Whether a proof was found, from the facts and those given here."""
        self.steps = 0
        known = (*map(_tightened, facts), *self.facts)
        return any(self._follows(one + 1, known) for one in (form, *self._with_rests(form)))

    def _with_rests(self, form: Form) -> Iterator[Form]:
        """The form with a number that it has beside its quotient as that quotient times the divisor, and the rest."""
        for number in form.numbers:
            whole = self.divided.get(number)
            if whole is not None and {*whole.numbers} & {*form.numbers}:
                factor, others = form.split(number)
                yield factor * whole + others

    def _follows(self, form: Form, facts: tuple[Form, ...]) -> bool:
        """Whether a form is positive, or one that it exceeds: it less a fact, which is to take a product away."""
        if self._is_positive(form):
            return True
        self.steps += STEPS_OF_FACT
        if self.steps > MOST_STEPS or not facts:
            return False
        for place, fact in enumerate(facts):
            shares = {(form.terms[m], by) for m, by in fact.terms.items() if m and form.terms.get(m, 0) * by > 0}
            for share, by in shares:
                less = form * abs(by) - fact * abs(share)
                if self._follows(less, facts[:place] + facts[place + 1 :]):
                    return True
        return False

    def _is_positive(self, form: Form) -> bool:
        """Whether a form is above 0 whatever the facts."""
        constant = form.constant
        if constant is not None:
            return constant > 0
        found = self.proofs.get(form)
        if found is None:
            self.steps += 1
            if self.steps > MOST_STEPS:
                return False
            self.proofs[form] = False
            found = self.proofs[form] = self._is_proved(form)
        return found

    def _is_proved(self, form: Form) -> bool:
        number = form.numbers[0]
        if number == 0:
            first, *others = _from_one(form)
            return first > 0 and all(coefficient >= 0 for coefficient in others)
        factor, rest = form.split(number)
        return any(all(map(self._is_positive, bound.put(factor, rest))) for bound in self._bounds(number, factor)[0])

    def _bounds(self, number: int, factor: Form) -> tuple[list[Bound], list[Bound]]:
        """The bounds of a number times a factor from below and from above; none where the factor's sign is unknown."""
        if self._is_positive(factor + 1):
            return self.numbers[number].lower, self.numbers[number].upper
        is_negative = self._is_positive(factor * -1 + 1)
        return (self.numbers[number].upper, self.numbers[number].lower) if is_negative else ([], [])


def _common(form: Form) -> int:
    """The greatest divisor of a form but for its constant."""
    return gcd(*(c for monomial, c in form.terms.items() if monomial)) or 1


def _tightened(fact: Form) -> Form:
    """A form of whole numbers that is not negative, with the least coefficients."""
    common = _common(fact)
    return Form({m: c // common for m, c in fact.terms.items() if c // common}) if common > 1 else fact


def _has(monomial: Monomial, unit: Monomial) -> bool:
    return all(monomial.count(number) >= unit.count(number) for number in unit) and (unit != () or monomial != ())


def _without(monomial: Monomial, unit: Monomial) -> Monomial:
    left = list(monomial)
    for number in unit:
        left.remove(number)
    return tuple(left)


def _from_one(form: Form) -> list[int]:
    """The coefficients of a polynomial of the batch, counted from a batch of one row on."""
    found = [form.terms.get((0,) * power, 0) for power in range(max(map(len, form.terms)) + 1)]
    for first in range(len(found) - 1):
        for power in range(len(found) - 2, first - 1, -1):
            found[power] += found[power + 1]
    return found
