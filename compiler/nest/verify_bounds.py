"""Checks, for every batch and every share of the items, that no access of a nest leaves its memory.

Indices of loops, sums, products, quotients and minima are forms (`nest/forms`), guards and masks facts about them. An
index that is data is bounded by its clamp. Of nests that cut their range of items into rectangles (`cuts_items`), each
rectangle is walked by itself, in each case of the conditions that say where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from compiler.errors.diagnostics import CompilerBug
from compiler.nest import ir
from compiler.nest.call import Access, Call, Memory, cuts_items, form_of
from compiler.nest.conditions import FALSE, TRUE, Truth, compared, joined
from compiler.nest.forms import BATCH, Form, Forms, as_form
from compiler.nest.ir import ADDRESS, BEGIN, END, INDEX, Constant, Nest, Operand, Statement, Value, Zeros
from compiler.nest.printer import name_of, print_nest
from compiler.support.record import record
from compiler.tuning import MOST_TILE_ROWS, READABLE_BEHIND
from compiler.types import BatchExtent, DType

BEHIND_SCRATCH = 64  # bytes behind a stretch of scratch memory that belong to it, so that whole vectors may be read
MOST_RECTANGLES = 3  # into which a range of items is cut
MOST_CHOICES = 3  # minima and conditions that are taken one way, then the other
OF_GRAPH: Mapping[str, ir.Arithmetic] = {  # of integers that are not negative
    **{"add": "add", "sub": "sub", "mul": "mul", "floordiv": "div", "mod": "rem", "minimum": "min", "maximum": "max"},
}
FOLDED: Mapping[str, Callable[[int, int], int]] = {
    **{"add": int.__add__, "mul": int.__mul__, "div": int.__floordiv__, "rem": int.__mod__},
}
INTEGERS = (DType.I64, DType.I32, DType.U8)


@record
class _Place:
    """A byte behind an address, where all the facts hold."""

    of: ir.Given | ir.Scratch | None
    offset: Form
    facts: tuple[Form, ...] = ()


_Content: TypeAlias = Form | Truth | tuple[_Place, ...]


def verify_bounds(nest: Nest, call: Call) -> None:
    """Raise `CompilerBug` unless each access is proved to lie in its room."""
    found = unproved(nest, call)
    if found:
        ways = {ir.Load: "read", ir.Gather: "read", ir.Store: "written", ir.Scatter: "written"}
        what = "; ".join(f"{name_of(s.address)} is {ways[type(s)]}" for s in found[:3])
        raise CompilerBug("verify_bounds", f"{what}, which is not proved to stay inside", print_nest(nest))


def unproved(nest: Nest, call: Call) -> list[Access]:
    """The accesses for which no proof was found.

    Of a range of items that is cut into rectangles, the conditions that say which of these there are have two cases.
    """
    cuts = [s.result.number for s in nest.body if isinstance(s, ir.Compare)] if cuts_items(nest.body) else []
    found: dict[int, Access] = {}
    no_piece = [(False, *sides) for sides in product((True, False), repeat=len(cuts) - 1)] if cuts else []
    for sides in [(True,) * min(len(cuts), 1), *no_piece]:
        found |= _Bounds(nest, call, dict(zip(cuts, sides, strict=False)), is_cut=bool(cuts)).failures(MOST_CHOICES)
    return [*found.values()]


@dataclass(slots=True)
class _Bounds:
    """A walk over a nest. `choices` decide values, by number, one way or the other; only accesses of `only` count."""

    nest: Nest
    call: Call
    choices: Mapping[int, bool] = field(default_factory=dict[int, bool])
    only: Mapping[int, Access] | None = None
    is_cut: bool = False
    forms: Forms = field(default_factory=Forms)
    content: dict[int, _Content] = field(default_factory=dict[int, _Content])
    made: dict[int, Statement] = field(default_factory=dict[int, Statement])
    carrying: dict[int, tuple[ir.Loop, int]] = field(default_factory=dict[int, tuple[ir.Loop, int]])
    vectors: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])  # that are constant
    loaded: set[int] = field(default_factory=set[int])  # numbers of forms that are i64 in memory
    open: dict[int, int] = field(default_factory=dict[int, int])  # by number of a form, the value to decide
    failed: dict[int, tuple[Access, int | None]] = field(default_factory=dict[int, tuple[Access, int | None]])
    proved: dict[tuple[object, ...], int] = field(default_factory=dict[tuple[object, ...], int])  # the least constant

    def failures(self, most: int) -> dict[int, Access]:
        """The accesses without a proof, by their `id`, where so many values may be decided both ways."""
        self.collect(self.nest.body)
        self.content[END.number] = end = self.forms.between(1, self.items())
        self.content[BEGIN.number] = self.forms.between(0, end - 1)
        self.statements(self.nest.body)
        by_choice: dict[int | None, dict[int, Access]] = {}
        for number, (access, undecided) in self.failed.items():
            by_choice.setdefault(undecided if most else None, {})[number] = access
        found = by_choice.pop(None, {})
        for undecided, some in by_choice.items():
            for choice in (True, False):
                part = _Bounds(self.nest, self.call, {**self.choices, undecided: choice}, some, self.is_cut)  # type: ignore[dict-item]
                found |= part.failures(most - 1)
        return found

    def items(self) -> Form:
        chunk = self.call.chunk
        return self.forms.quotient(form_of(self.call.extent) + (chunk - 1), as_form(chunk)) * self.call.factor

    def collect(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, ir.Loop | ir.Guard):
                if isinstance(statement, ir.Loop):
                    self.carrying |= {value.number: (statement, k) for k, value in enumerate(statement.carried)}
                self.collect(statement.body)
            elif isinstance(statement, ir.Address | ir.Binary):
                self.made[statement.result.number] = statement

    # statements

    def statements(self, body: Sequence[Statement]) -> None:
        for statement in body:
            match statement:
                case ir.Loop():
                    self.loop(statement)
                case ir.Guard(condition=condition, body=inside):
                    self.within(self.truth(condition).yes, inside)
                case ir.Load() | ir.Gather():
                    self.access(statement, statement.result.type)
                    self.define(statement.result, None)
                    if statement.result.type.dtype is DType.I64:
                        self.loaded.update(self.form(statement.result).numbers)
                case ir.Store() | ir.Scatter():
                    self.access(statement, ir.type_of(statement.value))
                case ir.Prefetch() | ir.LoadFence() | ir.StoreFence() | ir.DrawKey():
                    pass
                case _:
                    self.define(statement.result, self.computed(statement))
                    self.fold(statement)

    def within(self, facts: Sequence[Form], body: Sequence[Statement]) -> None:
        with self.forms.where(facts) as may_hold:
            if may_hold:
                self.statements(body)

    def loop(self, loop: ir.Loop) -> None:
        if self.is_cut and loop in self.nest.body and (rounds := _few_rounds(loop)):
            for number in rounds:  # one for each rectangle
                self.define(loop.index, as_form(number))
                self.within((), loop.body)
            return
        start, stop = self.form(loop.start), self.form(loop.stop)
        if loop.over_items:
            rounds = index = self.forms.between(start, stop - 1)
        else:
            rounds = self.forms.rounds(start, stop, loop.step)
            index = start + rounds * loop.step
        steps = [
            None if loop.over_items else self.step_of(following, value)
            for value, following in zip(loop.carried, loop.following, strict=True)
        ]
        for value, initial, step in zip(loop.carried, loop.initial, steps, strict=True):
            self.define(value, self.moved(initial, step, rounds))
        self.define(loop.index, index)
        self.within((stop - start - 1,), loop.body)
        for value, initial, step in zip(loop.carried, loop.initial, steps, strict=True):
            self.define(value, self.moved(initial, step, self.forms.trips(start, stop, loop.step)))

    def moved(self, initial: Operand, step: Form | None, rounds: Form) -> _Content | None:
        """A carried value that so many rounds moved by a step each."""
        before = self.get(initial)
        if isinstance(before, Form):
            return None if step is None else before + step * rounds
        if isinstance(before, tuple):
            return tuple(_Place(p.of, self.forms.fresh() if step is None else p.offset + step * rounds) for p in before)
        return None

    def step_of(self, operand: Operand, carried: Value) -> Form | None:
        """By how much a carried value grows, as the same number in each round."""
        if operand is carried:
            return as_form(0)
        if not isinstance(operand, Value) or operand.type not in (ADDRESS, INDEX):
            return None
        match self.made.get(operand.number):
            case ir.Address(base=base, index=index, dtype=dtype):
                return self.sum_of(self.step_of(base, carried), self.before(index), dtype.size)
            case ir.Binary(op="add", left=left, right=right):
                found = self.sum_of(self.step_of(left, carried), self.before(right))
                return self.sum_of(self.step_of(right, carried), self.before(left)) if found is None else found
            case None if operand.number in self.carrying:
                loop, k = self.carrying[operand.number]
                each, start, stop = self.step_of(loop.following[k], operand), *map(self.before, (loop.start, loop.stop))
                if each is None or start is None or stop is None:
                    return None
                trips = self.forms.trips(start, stop, loop.step)
                return self.sum_of(self.step_of(loop.initial[k], carried), each * trips)
            case _:
                return None

    def sum_of(self, step: Form | None, more: Form | None, size: int = 1) -> Form | None:
        return None if step is None or more is None else step + more * size

    def before(self, operand: Operand) -> Form | None:
        """An index that is known before a loop begins."""
        found = self.get(operand)
        return found if isinstance(found, Form) else None

    # values

    def define(self, value: Value, content: _Content | None) -> None:
        if content is None and value.type is ADDRESS:
            content = (_Place(None, self.forms.fresh()),)
        elif content is None and value.type.dtype in INTEGERS:
            content = self.forms.fresh()
        if content is not None:
            self.content[value.number] = content

    def get(self, operand: Operand) -> _Content | None:
        match operand:
            case Value():
                return self.content.get(operand.number)
            case int():
                return as_form(operand)
            case Zeros(type=type_):
                return as_form(0) if type_.dtype in INTEGERS else None
            case Constant():
                values = self.vector(operand)
                return None if values is None else self.listed(values)

    def listed(self, values: tuple[int, ...]) -> Form:
        """An element of a constant vector."""
        first, second = (*values, *values)[:2]
        if all(value == first + (second - first) * k for k, value in enumerate(values)):
            return self.lane(len(values)) * (second - first) + first
        return self.forms.once(values, lambda: self.forms.between(min(values), max(values)))

    def vector(self, operand: Operand) -> tuple[int, ...] | None:
        """The elements of a constant vector of integers."""
        match operand:
            case Value():
                return self.vectors.get(operand.number)
            case Constant(type=type_, value=int(value)) if type_.dtype in INTEGERS:
                return (value,) * type_.lanes
            case Constant(type=type_, value=tuple(values)) if type_.dtype in INTEGERS:
                return values
            case _:
                return None

    def fold(self, statement: Statement) -> None:
        """Note a vector that is made of constant ones."""
        if isinstance(statement, ir.Binary):
            left, right = self.vector(statement.left), self.vector(statement.right)
            compute = FOLDED.get(statement.op)
            if left and right and compute and (min(right) > 0 or statement.op in ("add", "mul")):
                self.vectors[statement.result.number] = tuple(map(compute, left, right))

    def lane(self, lanes: int) -> Form:
        return self.forms.once(("lane", lanes), lambda: self.forms.between(0, lanes - 1))

    def form(self, operand: Operand) -> Form:
        found = self.get(operand)
        return found if isinstance(found, Form) else self.forms.fresh()

    def truth(self, operand: Operand) -> Truth:
        if isinstance(operand, Constant) and isinstance(operand.value, tuple):
            kept = [k for k, is_kept in enumerate(operand.value) if is_kept]
            lane = self.lane(len(operand.value))
            return Truth((lane - kept[0], as_form(kept[-1]) - lane) if kept else (as_form(-1),))
        found = self.get(operand)
        return found if isinstance(found, Truth) else Truth()

    def computed(self, statement: ir.Definition) -> _Content | None:
        match statement:
            case ir.Given(slot=slot):
                argument = self.call.arguments[slot]
                return (_Place(statement, as_form(0)),) if isinstance(argument, Memory) else form_of(argument)
            case ir.Scratch():
                return (_Place(statement, as_form(0)),)
            case ir.Address(base=base, index=index, dtype=dtype):
                by, places = self.form(index) * dtype.size, self.get(base)
                assert isinstance(places, tuple)
                return tuple(_Place(place.of, place.offset + by, place.facts) for place in places)
            case ir.Broadcast(scalar=value) | ir.Lane(vector=value):
                return self.get(value)
            case ir.Convert(value=value):
                found = self.get(value)
                return self.number_of(found) if isinstance(found, Truth) else found
            case ir.Binary(op=op, left=left, right=right) if statement.result.type.dtype is DType.BOOL:
                return joined(op, self.truth(left), self.truth(right), right)
            case ir.Binary(op="shift", left=left, right=right):
                return self.shifted(left, self.form(right).constant)
            case ir.Binary(op=op) if statement.result.type.dtype in INTEGERS:
                return self.arithmetic(op, statement.result, self.form(statement.left), self.form(statement.right))
            case ir.Elementwise(op=op, operands=(left, right)) if statement.result.type.dtype in INTEGERS:
                return self.arithmetic(OF_GRAPH.get(op.name), statement.result, self.form(left), self.form(right))
            case ir.Compare(relation=relation, left=left, right=right) if ir.type_of(left).dtype in INTEGERS:
                truth = compared(relation, one := self.form(left), other := self.form(right), self.forms)
                if (side := self.choices.get(statement.result.number)) is None:
                    return truth
                if side and relation == "eq":
                    self.forms.equate(one, other)
                return self.decided(truth, side)
            case ir.Select():
                return self.select(statement)
            case _:
                return None

    def decided(self, truth: Truth, side: bool) -> Truth:
        """A condition, of which one case is looked at."""
        for fact in truth.yes if side else truth.no:
            self.forms.learn((fact, *self.rounded(fact)))
        return TRUE if side else FALSE

    def rounded(self, fact: Form) -> Iterator[Form]:
        """Facts of whole numbers: where `end <= 24 * n`, `end % 24 > 0` says that `end // 24 < n`."""
        if not fact.numbers or (fact.split(fact.numbers[0])[0].constant or 0) < 0:
            return
        for bound in self.forms.numbers[fact.numbers[0]].upper:
            more = bound.put(*fact.split(fact.numbers[0]))
            factor, rest = more[0].split(self.form(END).numbers[0])
            if len(more) == 1 and (factor.constant or 0) > 0:
                yield factor * self.items() + rest

    def number_of(self, truth: Truth) -> Form:
        """1 where it holds, and 0 where it does not."""
        if self.is_excluded(truth.yes):
            return as_form(0)
        return as_form(1) if self.is_excluded(truth.no) else self.forms.between(0, 1)

    def arithmetic(self, op: ir.Arithmetic | None, result: Value, left: Form, right: Form) -> Form | None:
        forms, size = self.forms, right.constant
        match op:
            case "add":
                return left + right
            case "sub":
                return forms.named(left - right) if self.is_cut else left - right
            case "mul":
                return left * right
            case "min" | "max":
                sign = 1 if op == "min" else -1
                truth = compared("le" if op == "min" else "ge", left, right, forms)
                return self.chosen(result, truth, left, right, forms.least(left * sign, right * sign) * sign)
            case "and" if size is not None and size < 0 and -size & (-size - 1) == 0:  # down to a multiple
                return forms.quotient(left, as_form(-size)) * -size
            case "div" | "rem" if forms.is_never_negative(left) and forms.is_never_negative(right - 1):
                return forms.quotient(left, right) if op == "div" else forms.remainder(left, right)
            case _:
                found = forms.of_unknown(left, right)
                if not self.loaded.isdisjoint((*left.numbers, *right.numbers)):
                    self.loaded.update(found.numbers)
                return found

    def shifted(self, product: Operand, shift: int | None) -> Form | None:
        """A product that is shifted is a quotient where its factor is 2^shift / divisor, rounded up."""
        made = self.made.get(product.number) if isinstance(product, Value) else None
        factor = self.form(made.right).constant if isinstance(made, ir.Binary) and made.op == "mul" else None
        if shift is None or factor is None or factor <= 0 or not isinstance(made, ir.Binary):
            return None
        divisor = -(-(1 << shift) // factor)
        is_exact = -(-(1 << shift) // divisor) == factor
        return self.forms.quotient(self.form(made.left), as_form(divisor)) if is_exact else None

    def select(self, select: ir.Select) -> _Content | None:
        yes, no, truth = self.get(select.yes), self.get(select.no), self.truth(select.condition)
        if isinstance(yes, tuple) and isinstance(no, tuple):
            sides = (yes, truth.yes), (no, truth.no)
            may_be = [(p, facts) for side, facts in sides for p in side if not self.is_excluded(facts, p.facts)]
            return tuple(_Place(place.of, place.offset, (*place.facts, *facts)) for place, facts in may_be)
        if isinstance(yes, Form) and isinstance(no, Form) and isinstance(select.condition, Value):
            return self.chosen(select.condition, truth, yes, no, self.forms.either(yes, no))
        return None

    def chosen(self, value: Value, truth: Truth, yes: Form, no: Form, either: Form) -> Form:
        """One of two, each where its facts hold."""
        if (truth.yes and all(map(self.forms.is_never_negative, truth.yes))) or self.is_excluded(truth.no):
            return yes
        if self.is_excluded(truth.yes):
            return no
        choice = self.choices.get(value.number)
        if choice is not None:
            self.forms.learn(truth.yes if choice else truth.no)
            return yes if choice else no
        self.open[either.numbers[0]] = value.number
        return either

    def is_excluded(self, facts: Sequence[Form], others: Sequence[Form] = ()) -> bool:
        """Whether facts contradict others, or what is known."""
        return any(self.forms.is_never_negative(as_form(-1) - fact, others) for fact in facts)

    # accesses

    def access(self, access: Access, type_: ir.Type) -> None:
        if self.only is not None and id(access) not in self.only:
            return
        assert type_.dtype is not None
        mask = None if isinstance(access, ir.Load) else access.mask
        size, places = type_.dtype.size, self.get(access.address)
        assert isinstance(places, tuple)
        shift, length = as_form(0), size * type_.lanes
        if isinstance(access, ir.Gather | ir.Scatter) or mask is not None:
            lane = self.lane(type_.lanes) if isinstance(access, ir.Load | ir.Store) else self.form(access.places)
            vector = self.vector(access.places) if isinstance(access, ir.Gather | ir.Scatter) else None
            if vector is not None and isinstance(mask, Constant):
                kept = [v for v, is_kept in zip(vector, _truths(mask), strict=True) if is_kept]
                lane = self.forms.between(min(kept, default=0), max(kept, default=0))
            shift, length = lane * size, size
        facts = () if mask is None else self.truth(mask).yes
        for place in places:
            first = place.offset + shift
            if not self.loaded.isdisjoint(first.numbers):
                continue  # an index of the program's making: that no data is one, `loops/verify_elements` checks
            is_store = isinstance(access, ir.Store | ir.Scatter)
            if not self.is_inside(place.of, first, length, (*place.facts, *facts), is_store):
                self.failed[id(access)] = access, self.undecided(first)

    def is_inside(
        self, of: ir.Given | ir.Scratch | None, first: Form, length: int, facts: tuple[Form, ...], is_store: bool
    ) -> bool:
        """Whether so many bytes lie in the room of an address; the same without their constant are proved once."""
        if of is None:
            return False
        low, high = self.room(of, is_store)
        known = (id(of), is_store, facts, *self.forms.facts)
        for form in (first - low, high - first - length):
            constant = form.terms.get((), 0)
            key = known, form - constant
            if constant < self.proved.get(key, constant + 1):
                if not self.forms.is_never_negative(form, facts):
                    return False
                self.proved[key] = constant
        return True

    def room(self, of: ir.Given | ir.Scratch, is_store: bool) -> tuple[Form, Form]:
        """The first byte of the memory of an address, and the one behind the last."""
        behind = 0 if is_store else BEHIND_SCRATCH
        if isinstance(of, ir.Scratch):
            if of.start < self.nest.scratch_bytes:
                return as_form(0), as_form(of.bytes + behind)
            return as_form(0), BATCH * self.nest.scratch_batch_bytes + behind
        memory = self.call.arguments[of.slot]
        assert isinstance(memory, Memory)
        if is_store and not memory.is_written:
            return as_form(0), as_form(0)
        more = 0 if is_store else READABLE_BEHIND
        if isinstance(memory.bytes, BatchExtent) and not is_store:
            more += MOST_TILE_ROWS * memory.bytes.multiple
        return as_form(memory.before), form_of(memory.bytes) + (more - memory.behind)

    def undecided(self, form: Form) -> int | None:
        """A value on which a form depends, and that may be decided."""
        left, seen = form.numbers[::-1], set[int]()
        while left:
            number = left.pop()
            if number in self.open and not self.is_cut:
                return self.open[number]
            if number not in seen:
                seen.add(number)
                left += sorted(self.forms.behind(number))
        first = min(seen & self.open.keys(), default=None)  # of rectangles, what all within depends on
        return None if first is None else self.open[first]


def _few_rounds(loop: ir.Loop) -> range | None:
    """The indices of a loop over the rectangles into which items are cut."""
    if not isinstance(loop.start, int) or not isinstance(loop.stop, int) or loop.carried:
        return None
    found = range(loop.start, loop.stop, loop.step)
    return found if len(found) <= MOST_RECTANGLES else None


def _truths(mask: Constant) -> tuple[int | bool, ...]:
    return mask.value if isinstance(mask.value, tuple) else (bool(mask.value),) * mask.type.lanes
