"""Checks, for every batch and every share of the items, that no access of a nest leaves its buffer.

The indices of loops, sums, products, quotients, minima and what guards and masks say of them are forms (`nest/forms`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from compiler.nest import ir
from compiler.nest.forms import BATCH, Form, Forms, as_form
from compiler.nest.ir import ADDRESS, BEGIN, END, INDEX, Constant, Nest, Operand, Statement, Value, Zeros
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Extent

MOST_UNROLLED = 3
BEHIND = 128  # bytes behind a buffer that may be read, and are never used


@record
class Stretch:
    """`base + slope * batch` bytes, of which so many more `rows` may be read; loops around move it this far."""

    base: int
    slope: int
    before: int = 0
    behind: int = 0
    rows: int = 0


@record
class Place:
    """A byte of the stretch that a statement names, where all the facts hold."""

    of: ir.Given | ir.Scratch | None
    offset: Form
    facts: tuple[Form, ...] = ()


@record
class Truth:
    """The forms that are not negative where it holds, and where it does not, as far as they are known."""

    yes: tuple[Form, ...] = ()
    no: tuple[Form, ...] = ()


Content: TypeAlias = Form | Truth | tuple[Place, ...]
INTEGERS = (DType.I64, DType.I32, DType.U8)


@record
class Access:
    statement: Statement
    is_store: bool
    verdict: str
    undecided: int | None


@dataclass(slots=True)
class Bounds:
    nest: Nest
    arguments: Sequence[int | tuple[int, int] | Stretch]
    items: tuple[Extent, int, int]
    forms: Forms = field(default_factory=Forms)
    content: dict[int, Content] = field(default_factory=dict[int, Content])
    made: dict[int, Statement] = field(default_factory=dict[int, Statement])
    carrying: dict[int, tuple[ir.Loop, int]] = field(default_factory=dict)
    choices: dict[int, bool] = field(default_factory=dict[int, bool])
    open: dict[int, int] = field(default_factory=dict[int, int])
    causes: dict[int, Form] = field(default_factory=dict[int, Form])
    only: set[int] | None = None
    data: set[int] = field(default_factory=set[int])
    found: list[Access] = field(default_factory=list)
    lanes: dict[int, Form] = field(default_factory=dict)
    done: dict = field(default_factory=dict)
    count: Form = field(default_factory=lambda: as_form(0))

    def run(self) -> None:
        self.collect(self.nest.body)
        extent, chunk, factor = self.items
        count = extent.multiple if isinstance(extent, BatchExtent) else extent
        whole = BATCH * count if isinstance(extent, BatchExtent) else as_form(count)
        self.count = self.forms.quotient(whole + (chunk - 1), as_form(chunk)) * factor
        end = self.forms.between(1, self.count)
        self.content[END.number] = end
        self.content[BEGIN.number] = self.forms.between(0, end - 1)
        self.statements(self.nest.body)

    def collect(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, ir.Loop | ir.Guard):
                if isinstance(statement, ir.Loop):
                    self.carrying |= {value.number: (statement, k) for k, value in enumerate(statement.carried)}
                self.collect(statement.body)
            elif (result := getattr(statement, "result", None)) is not None:
                self.made[result.number] = statement

    # statements

    def statements(self, body: Sequence[Statement]) -> None:
        for statement in body:
            match statement:
                case ir.Loop():
                    self.loop(statement)
                case ir.Guard(condition=condition, body=inside):
                    truth = self.truth(condition)
                    self.within(truth.yes, inside)
                case ir.Load(address=address):
                    self.access(statement, address, statement.result.type, None, None)
                    self.define(statement.result, None)
                case ir.Gather():
                    self.access(statement, statement.address, ir.single(statement.result.type.dtype), statement.places, statement.mask)
                case ir.Store(value=value, address=address, mask=mask):
                    self.access(statement, address, ir.type_of(value), None, mask)
                case ir.Scatter(value=value):
                    self.access(statement, statement.address, ir.single(ir.type_of(value).dtype), statement.places, statement.mask)
                case ir.Prefetch() | ir.LoadFence() | ir.StoreFence() | ir.DrawKey():
                    pass
                case _:
                    self.define(statement.result, self.computed(statement))

    def within(self, facts: Sequence[Form], body: Sequence[Statement]) -> None:
        with self.forms.where(facts) as may_hold:
            if may_hold:
                self.statements(body)

    def loop(self, loop: ir.Loop) -> None:
        start, stop = self.form(loop.start), self.form(loop.stop)
        if loop.over_items:
            rounds = index = self.forms.between(0, self.count - 1)
            facts = []
        else:
            rounds = self.forms.rounds(start, stop, loop.step)
            index = start + rounds * loop.step
            facts = [] if self.forms.is_never_negative(stop - start - 1) else [stop - start - 1]
        first, last = start.constant, stop.constant
        if first is not None and last is not None and 1 < last - first <= MOST_UNROLLED and not loop.carried:
            for place in range(first, last, loop.step):
                self.define(loop.index, as_form(place))
                self.within((), loop.body)
            return
        steps = []
        for k, value in enumerate(loop.carried):
            step = self.step_of(loop.following[k], value) if value.type is ADDRESS or value.type is INDEX else None
            if loop.over_items:
                step = step if step is not None and step.constant == 0 else None
            steps.append(step)
            self.define(value, self.moved(loop.initial[k], step, rounds))
        self.define(loop.index, index)
        self.within(facts, loop.body)
        for k, value in enumerate(loop.carried):
            self.define(value, self.moved(loop.initial[k], steps[k], self.trips(start, stop, loop.step)))

    def trips(self, start, stop, step) -> Form:
        trips = self.forms.quotient(stop - start + (step - 1), as_form(step))
        return trips if self.forms.is_never_negative(trips) else self.forms.minimum(trips * -1, as_form(0)) * -1

    def moved(self, initial: Operand, step: Form | None, rounds: Form) -> Content | None:
        before = self.get(initial)
        if before is None or isinstance(before, Truth):
            return None
        if step is None:
            if isinstance(before, tuple):
                return tuple(Place(place.of, self.unknown(), place.facts) for place in before)
            return None
        if isinstance(before, Form):
            return before + step * rounds
        return tuple(Place(p.of, p.offset + step * rounds, p.facts) for p in before)

    def step_of(self, operand: Operand, carried: Value) -> Form | None:
        if operand is carried:
            return as_form(0)
        if not isinstance(operand, Value):
            return None
        statement = self.made.get(operand.number)
        match statement:
            case ir.Address(base=base, index=index, dtype=dtype):
                step = self.step_of(base, carried)
                by = self.invariant(index)
                return None if step is None or by is None else step + by * dtype.size
            case ir.Binary(op="add", left=left, right=right):
                for one, other in ((left, right), (right, left)):
                    step = self.step_of(one, carried)
                    if step is not None and (by := self.invariant(other)) is not None:
                        return step + by
            case None if operand.number in self.carrying:
                loop, k = self.carrying[operand.number]
                before = self.step_of(loop.initial[k], carried)
                each = self.step_of(loop.following[k], operand)
                start, stop = self.invariant(loop.start), self.invariant(loop.stop)
                if before is not None and each is not None and start is not None and stop is not None:
                    return before + each * self.trips(start, stop, loop.step)
            case _:
                pass
        return None

    def invariant(self, operand) -> Form | None:
        if isinstance(operand, int):
            return as_form(operand)
        found = self.content.get(operand.number)
        return found if isinstance(found, Form) else None

    # values

    def define(self, value: Value, content: Content | None) -> None:
        if content is not None:
            self.content[value.number] = content
        elif value.type.dtype in INTEGERS:
            self.content[value.number] = self.unknown()
        elif value.type is ADDRESS:
            self.content[value.number] = (Place(None, self.unknown()),)

    def unknown(self) -> Form:
        found = self.forms.fresh()
        self.data.add(found.numbers[0])
        return found

    def get(self, operand: Operand) -> Content | None:
        match operand:
            case Value():
                return self.content.get(operand.number)
            case int():
                return as_form(operand)
            case Zeros():
                return as_form(0) if operand.type.dtype in INTEGERS else None
            case Constant(type=type_, value=value):
                if type_.dtype not in INTEGERS or value is None:
                    return None
                return self.listed(value) if isinstance(value, tuple) else as_form(int(value))

    def listed(self, values) -> Form:
        step = values[1] - values[0] if len(values) > 1 else 0
        if all(value == values[0] + step * k for k, value in enumerate(values)):
            return self.lane(len(values)) * step + values[0]
        return self.forms.once(values, lambda: self.forms.between(min(values), max(values)))

    def lane(self, lanes: int) -> Form:
        return self.forms.once(("lane", lanes), lambda: self.forms.between(0, lanes - 1))

    def form(self, operand: Operand) -> Form:
        found = self.get(operand)
        return found if isinstance(found, Form) else self.unknown()

    def truth(self, operand: Operand) -> Truth:
        if isinstance(operand, Constant) and isinstance(operand.value, tuple):
            kept = [k for k, is_kept in enumerate(operand.value) if is_kept]
            lane = self.lane(len(operand.value))
            return Truth((lane - kept[0], as_form(kept[-1]) - lane) if kept else (as_form(-1),))
        found = self.get(operand)
        return found if isinstance(found, Truth) else Truth()

    def computed(self, statement) -> Content | None:
        forms = self.forms
        match statement:
            case ir.Given(slot=slot):
                argument = self.arguments[slot]
                if isinstance(argument, Stretch):
                    return (Place(statement, as_form(0)),)
                base, slope = argument if isinstance(argument, tuple) else (argument, 0)
                return BATCH * slope + base
            case ir.Scratch():
                return (Place(statement, as_form(0)),)
            case ir.Address(base=base, index=index, dtype=dtype):
                by = self.form(index) * dtype.size
                places = self.get(base)
                return tuple(Place(p.of, p.offset + by, p.facts) for p in places)
            case ir.Broadcast(scalar=value) | ir.Lane(vector=value):
                return self.get(value)
            case ir.Convert(value=value):
                found = self.get(value)
                if isinstance(found, Truth) and statement.result.type.dtype in INTEGERS:
                    return self.select(value, as_form(1), as_form(0))
                given = ir.type_of(value).dtype
                return found if given in INTEGERS else None
            case ir.Binary(op=op, left=left, right=right) if statement.result.type.dtype in INTEGERS:
                return self.arithmetic(statement, op, self.form(left), self.form(right))
            case ir.Binary(op="and", left=left, right=right) if statement.result.type.dtype is DType.BOOL:
                return Truth((*self.truth(left).yes, *self.truth(right).yes))
            case ir.Binary(op="or", left=left, right=right) if statement.result.type.dtype is DType.BOOL:
                return Truth((), (*self.truth(left).no, *self.truth(right).no))
            case ir.Binary(op="xor", left=left, right=Constant(value=True)) if statement.result.type.dtype is DType.BOOL:
                truth = self.truth(left)
                return Truth(truth.no, truth.yes)
            case ir.Compare(relation=relation, left=left, right=right) if ir.type_of(left).dtype in INTEGERS:
                return _compared(relation, self.form(left), self.form(right))
            case ir.Select(condition=condition, yes=yes, no=no):
                return self.select(condition, self.get(yes), self.get(no))
            case _:
                return None

    def arithmetic(self, statement, op, left, right) -> Form | None:
        forms = self.forms
        size = right.constant
        match op:
            case "add":
                return left + right
            case "sub":
                return forms.difference(left, right)
            case "mul":
                return left * right
            case "min":
                truth = Truth((right - left,), (left - right - 1,))
                return self.chosen(statement.result.number, truth, left, right, lambda: forms.minimum(left, right))
            case "max":
                truth = Truth((left - right,), (right - left - 1,))
                least = left * -1, right * -1
                return self.chosen(statement.result.number, truth, left, right, lambda: forms.minimum(*least) * -1)
            case "and" if size is not None:
                size = int(size)
                if size < 0 and -size & (-size - 1) == 0:
                    return forms.quotient(left, as_form(-size)) * -size
                if size >= 0 and size & (size + 1) == 0:
                    return forms.remainder(left, as_form(size + 1))
            case "shift" if size is not None:
                product = self.made.get(statement.left.number)
                if isinstance(product, ir.Binary) and product.op == "mul":
                    factor = self.form(product.right).constant
                    divisor = -(-(1 << int(size)) // int(factor)) if factor else 0
                    if divisor and -(-(1 << int(size)) // divisor) == factor:
                        return forms.quotient(self.form(product.left), as_form(divisor))
            case "div" | "rem":
                if forms.is_never_negative(left) and forms.is_never_negative(right - 1):
                    return forms.quotient(left, right) if op == "div" else forms.remainder(left, right)
                found = forms.fresh()
                self.causes[found.numbers[0]] = left + right
                return found
            case _:
                pass
        return None

    def chosen(self, key: int, truth: Truth, yes: Form, no: Form, either: Callable[[], Form]) -> Form:
        """One of two, each where its facts hold."""
        forms = self.forms
        if yes == no or (truth.yes and all(map(forms.is_never_negative, truth.yes))):
            return yes
        if self.is_excluded(truth.yes):
            return no
        choice = self.choices.get(key)
        if choice is not None:
            forms.learn(truth.yes if choice else truth.no)
            return yes if choice else no
        found = either()
        self.open[found.numbers[0]] = key
        return found

    def is_excluded(self, facts: Sequence[Form]) -> bool:
        return any(self.forms.is_never_negative(as_form(-1) - fact) for fact in facts)

    def select(self, condition, yes, no) -> Content | None:
        truth = self.truth(condition)
        if isinstance(yes, Form) and isinstance(no, Form):
            return self.chosen(condition.number if isinstance(condition, Value) else 0, truth, yes, no, lambda: self.forms.either(yes, no))
        if isinstance(yes, tuple) and isinstance(no, tuple):
            return (
                *(Place(p.of, p.offset, (*p.facts, *truth.yes)) for p in yes),
                *(Place(p.of, p.offset, (*p.facts, *truth.no)) for p in no),
            )
        return None

    # accesses

    def access(self, statement, address, type_, places, mask) -> None:
        if self.only is not None and id(statement) not in self.only:
            return
        is_store = isinstance(statement, ir.Store | ir.Scatter)
        size = type_.dtype.size
        truth = Truth() if mask is None else self.truth(mask)
        shift, length = as_form(0), type_.lanes * size
        if places is not None:
            shift, length = self.form(places) * size, size
        elif mask is not None:
            shift, length = self.lane(type_.lanes) * size, size
        for place in self.get(address):
            facts = (*place.facts, *truth.yes)
            if self.is_excluded(place.facts):
                continue
            first = place.offset + shift
            verdict = self.verdict(place, first, length, facts, is_store)
            self.found.append(Access(statement, is_store, verdict, self.undecided(first) if verdict != "proved" else None))

    def undecided(self, form: Form) -> int | None:
        facts = sorted({n for fact in self.forms.facts for m in fact.terms for n in m})
        todo, seen = [*facts, *sorted({n for m in form.terms for n in m})], set()
        while todo:
            n = todo.pop()
            if n in seen:
                continue
            seen.add(n)
            if n in self.open:
                return self.open[n]
            number = self.forms.numbers[n]
            if n in self.causes:
                todo += sorted({k for m in self.causes[n].terms for k in m} - seen)
            todo += sorted({k for bs in (number.lower, number.upper) for b in bs for x in b.forms for m in x.terms for k in m} - seen)
        return None

    def verdict(self, place, first: Form, length: int, facts, is_store) -> str:
        if place.of is None:
            return "unknown"
        low, high = self.room(place.of, is_store)
        rest = Form({m: c for m, c in first.terms.items() if m})
        if any(n in self.data for m in rest.terms for n in m):
            kind = "data"
        else:
            kind = "failed"
        key = id(place.of), rest, facts, is_store
        constant = first.terms.get((), 0)
        lows, highs = self.done.setdefault(key, ([], []))
        if not any(constant >= k for k in lows):
            if not self.forms.is_never_negative(first - low, facts):
                return kind + " low"
            lows.append(constant)
        if not any(constant + length <= k for k in highs):
            if not self.forms.is_never_negative(high - first - length, facts):
                return kind + " high"
            highs.append(constant + length)
        return "proved"

    def room(self, of, is_store) -> tuple[Form, Form]:
        if isinstance(of, ir.Scratch):
            if of.start + of.bytes > self.nest.scratch_bytes:
                return as_form(0), BATCH * self.nest.scratch_batch_bytes + (self.nest.scratch_bytes - of.start) + (0 if is_store else 64)
            return as_form(0), as_form(of.bytes + (0 if is_store else 64))
        argument = self.arguments[of.slot]
        low, high = as_form(-argument.before), BATCH * argument.slope + (argument.base - argument.behind)
        return low, high if is_store else high + argument.rows * argument.slope + BEHIND


MOST_CHOICES = 6

def proved(nest, arguments, items, choices={}, only=None):
    """Statements that failed"""
    one = Bounds(nest, arguments, items, choices=dict(choices), only=only)
    one.run()
    failed = {id(a.statement): a for a in one.found if a.verdict != "proved"}
    left = {}
    while failed:
        key = next((a.undecided for a in failed.values() if a.undecided is not None), None)
        if key is None or len(choices) >= MOST_CHOICES:
            return one, {**left, **failed}
        some = {k: a for k, a in failed.items() if a.undecided == key}
        for choice in (True, False):
            left |= proved(nest, arguments, items, {**choices, key: choice}, set(some))[1]
        failed = {k: a for k, a in failed.items() if a.undecided != key}
    return one, left


def _compared(relation, left: Form, right: Form) -> Truth:
    match relation:
        case "lt":
            return Truth((right - left - 1,), (left - right,))
        case "le":
            return Truth((right - left,), (left - right - 1,))
        case "gt":
            return Truth((left - right - 1,), (right - left,))
        case "ge":
            return Truth((left - right,), (right - left - 1,))
        case "eq":
            return Truth((left - right, right - left))
        case "ne":
            return Truth((), (left - right, right - left))
        case "below":
            return Truth((left, right - left - 1))
        case _:
            return Truth()
