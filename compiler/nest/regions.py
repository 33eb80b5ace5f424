"""The bytes that each access of a nest touches, for every batch, as terms over the rounds of its loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import islpy as isl
from islpy import PwAff

from compiler.nest import ir
from compiler.nest.call import Access, Call, Memory, cuts_items
from compiler.nest.ir import ADDRESS, BEGIN, END, INDEX, Constant, Nest, Operand, Statement, Value, Zeros
from compiler.nest.lanes import Used, used_lanes
from compiler.nest.terms import (
    CALL,
    DIM,
    MOST_LOADED,
    Digits,
    Loaded,
    Product,
    Terms,
    UnknownError,
    constant_of,
    product_of,
)
from compiler.nest.touched import Body, Flag, Known, Place, Touched, depends_on
from compiler.support.record import record
from compiler.types import DType

INTEGERS = (DType.I64, DType.I32, DType.U8, DType.I8, DType.I16, DType.U16, DType.U32)
LIMITS = {
    **{dtype: (-1 << 8 * dtype.size - 1, (1 << 8 * dtype.size - 1) - 1) for dtype in (DType.I8, DType.I16, DType.I32)},
    **{dtype: (0, (1 << 8 * dtype.size) - 1) for dtype in (DType.U8, DType.U16, DType.U32)},
}
GROWING = ("add", "sub", "mul")  # what may leave a type that holds both operands
MOST_RECTANGLES = 3  # into which a range of items is cut
OF_GRAPH = {"floordiv": "div", "mod": "rem", "minimum": "min", "maximum": "max"}  # names of ops


@record(eq=False)
class _Reach:
    """How far an access reaches: `bytes`, of which `used` if not all; or so many at each of the `spots` in a mask."""

    bytes: int
    mask: Operand | None = None
    spots: PwAff | None = None
    used: int | None = None


class Regions(Terms):
    """A walk over a nest, which finds what it touches. There is `room` for so many dimensions beside loops."""

    def __init__(self, nest: Nest, call: Call, room: int) -> None:
        super().__init__(call, _depth(nest.body), room, cuts_items(nest.body))
        self.nest = nest
        self.touched: dict[tuple[object, ...], Touched] = {}
        self.unknown: list[Access] = []
        self._is_sure, self._path = True, (0,)
        self._bodies: tuple[Body, ...] = ()
        self._content: dict[int, Known] = {}
        self._made: dict[int, Statement] = {}
        self._carrying: dict[int, tuple[ir.Loop, int]] = {}
        self._kept: list[object] = []  # so that no other term takes an `id`
        self._zeros: dict[frozenset[int], isl.Set] = {}
        self._used = used_lanes(nest.body)
        if self.is_cut:
            self._content[BEGIN.number], self._content[END.number] = self.begin, self.end
        self._collect(nest.body)
        self._statements(nest.body)
        self.end_dimensions()
        for touched in self.touched.values():
            loops = range(CALL + len(touched.loops), CALL + self.depth)
            touched.base = self.in_digits(touched.base)
            touched.within &= self._without(frozenset((*loops, *(self.of_shares - touched.seen))))

    def _without(self, dimensions: frozenset[int]) -> isl.Set:
        """Where nothing is known of some dimensions, which are 0."""
        if dimensions not in self._zeros:
            found = self.always
            for k in dimensions:
                found &= self.dimension(k).eq_set(self.number(0))
            self._zeros[dimensions] = found
        return self._zeros[dimensions]

    # statements

    def _collect(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, ir.Loop | ir.Guard):
                if isinstance(statement, ir.Loop):
                    self._carrying |= {value.number: (statement, k) for k, value in enumerate(statement.carried)}
                self._collect(statement.body)
            elif isinstance(statement, ir.Address | ir.Binary | ir.Compare):
                self._made[statement.result.number] = statement

    def _statements(self, body: Sequence[Statement]) -> None:
        around = self._path
        for place, statement in enumerate(body):
            self._path = (*around, place)
            self._free_dimension()
            match statement:
                case ir.Loop():
                    self._loop(statement)
                case ir.Guard(condition=condition, body=inside):
                    self._guard(condition, inside)
                case ir.Load() | ir.Gather():
                    self._access(statement, statement.result.type)
                case ir.Store() | ir.Scatter():
                    self._access(statement, ir.type_of(statement.value))
                case ir.Prefetch() | ir.LoadFence() | ir.StoreFence() | ir.Meet() | ir.Barrier() | ir.DrawKey():
                    continue
                case ir.CopyAhead() | ir.CommitCopies() | ir.AwaitCopies() | ir.MultiplyMatrices():
                    raise UnknownError  # of the memory of blocks nothing is proved
                case ir.OpenTiles() | ir.MultiplyTiles() | ir.CloseTiles():
                    continue  # in scratch, where what is multiplied has room for whole tiles
                case _:
                    found, is_integer = self._in_type(statement), statement.result.type.dtype in INTEGERS
                    self._define(statement.result, Loaded() if found is None and is_integer else found)
            if isinstance(statement, ir.Load | ir.Gather) and statement.result.type.dtype in INTEGERS:
                self._define(statement.result, Loaded())
        self._path = around

    def _free_dimension(self) -> None:
        """Take the oldest number from memory its dimension, where all have one; what was known by it is forgotten."""
        if len(self.loaded) == MOST_LOADED:
            inside = [body.added for body in self._bodies]
            for loaded, k in self.loaded.items():
                if not self.decides(k) and not any(added.involves_dims(DIM.set, k, 1) for added in inside):
                    del self.loaded[loaded]
                    self._content = {value: of for value, of in self._content.items() if not depends_on(of, k)}
                    return

    def _inside(self, condition: isl.Set, body: Sequence[Statement], is_loop: bool) -> None:
        bodies, added, before, facts, is_sure, seen = (
            self._bodies,
            self.added,
            self.within,
            self.facts,
            self._is_sure,
            {*self.seen},
        )
        families = {family: [*members] for family, members in self.boundaries.items()}
        content = {**self._content}  # so that nothing is known of a value before it is made, in another rectangle
        loaded = {**self.loaded}
        self.within = (self.within & condition & self.always).coalesce()
        self.added &= condition
        if is_loop:
            self._bodies, self.added = (*bodies, Body(self.added, self.within)), isl.Set.universe(self.space)
        if not self.within.is_empty():
            self._statements(body)
        self._bodies, self.added = bodies, added
        self.within, self.facts, self._is_sure, self.seen, self.boundaries = before, facts, is_sure, seen, families
        self._content, self.loaded = content, loaded

    def _guard(self, condition: Operand, body: Sequence[Statement]) -> None:
        truth, before = self._truth(condition), self._is_sure
        if truth is None and not self._is_kept(condition):
            self._is_sure = False
        self._inside(isl.Set.universe(self.space) if truth is None else truth, body, is_loop=False)
        self._is_sure = before

    def _is_kept(self, condition: Operand) -> bool:
        """Whether it says that a number is not that of the round before; the first round has none.

        So the body has been done for the number, in this round or in one before it.
        """
        made = self._made.get(condition.number) if isinstance(condition, Value) else None
        if not isinstance(made, ir.Compare) or made.relation != "ne" or not isinstance(made.right, Value):
            return False
        loop, k = self._carrying.get(made.right.number, (None, 0))
        if loop is None or loop.following[k] is not made.left:
            return loop is not None and loop.following[k] == made.left == 0
        number, first = self.known(self._get(made.left)), self.known(self._get(loop.initial[k]))
        return number is not None and first is not None and not self.may_be(number.eq_set(first))

    def _loop(self, loop: ir.Loop) -> None:
        rounds, is_sure = self.dimension(CALL + len(self.loops)), self._is_sure
        steps = [self._step_of(after, value) for value, after in zip(loop.carried, loop.following, strict=True)]
        initial = [self._get(operand) for operand in loop.initial]
        if loop.over_items:
            if (loop.start, loop.stop, loop.step) != (BEGIN, END, 1):
                raise UnknownError("items that are left out, or are not those of the call")
            trips, within = None, rounds.eq_set(self.number(0))
            self._define(loop.index, Digits(self.call.factor))
        elif (flag := self._flag_of(loop)) is not None:
            trips, within = None, rounds.eq_set(self.number(0))
            self._is_sure = is_sure and loop.start == 0 and self._is_kept(flag.condition)
            self._define(loop.index, self.number(0))
        elif self.is_cut and loop in self.nest.body and (numbers := _few_rounds(loop)):
            self.loops.append(loop)
            most = self.free
            for number in numbers:  # one for each rectangle
                self._define(loop.index, self.number(number))
                self._path = (*self._path[:-1], self._path[-1], number)
                free, self.scope = self.free, rounds.eq_set(self.number(number))
                self._inside(self.scope, loop.body, is_loop=True)
                most, self.free = max(most, self.free), free
                self._path = self._path[:-1]
            self.loops.pop()
            self.free, self.scope = most, isl.Set.universe(self.space)
            return
        else:
            start, stop = self.known(self._get(loop.start)), self.known(self._get(loop.stop))
            if start is None or stop is None:
                raise UnknownError("a loop between numbers of which nothing is known")
            index, trips = start.add(rounds.scale_val(loop.step)), self._trips(start, stop, loop.step)
            within = rounds.ge_set(self.number(0)) & index.lt_set(stop)
            self._define(loop.index, index)
        for value, before, step in zip(loop.carried, initial, steps, strict=True):
            self._define(value, self._moved(before, None if loop.over_items else step, rounds))
        self.loops.append(loop)
        self._inside(within, loop.body, is_loop=True)
        self._is_sure = is_sure
        self.loops.pop()
        for value, before, step in zip(loop.carried, initial, steps, strict=True):
            self._define(value, self._moved(before, step, trips))

    def _flag_of(self, loop: ir.Loop) -> Flag | None:
        """The condition of a loop that is a guard with values: from 0 to its flag, or from its flag to 1."""
        found = self._get(loop.stop if loop.start == 0 else loop.start)
        return found if isinstance(found, Flag) and (loop.start == 0 or loop.stop == 1) else None

    def _trips(self, start: PwAff, stop: PwAff, step: int) -> PwAff:
        return stop.sub(start).add_constant_val(step - 1).scale_down_val(step).floor().max(self.number(0))

    def _moved(self, before: Known | None, step: PwAff | None, rounds: PwAff | None) -> Known | None:
        """A carried value that so many rounds moved by a step each."""
        by = None if step is None or rounds is None else self.known(product_of(step, rounds))
        if by is None:
            return None
        if isinstance(before, tuple):
            return tuple(replace(place, base=place.base.add(by)) for place in before)
        return before.add(by) if isinstance(before, PwAff) else None

    def _step_of(self, operand: Operand, carried: Value) -> PwAff | None:
        """By how much a carried value grows, as the same number in each round."""
        if operand is carried:
            return self.number(0)
        if not isinstance(operand, Value) or operand.type not in (ADDRESS, INDEX):
            return None
        match self._made.get(operand.number):
            case ir.Address(base=base, index=index, dtype=dtype):
                return self._sum(self._step_of(base, carried), index, dtype.size)
            case ir.Binary(op="add", left=left, right=right):
                found = self._sum(self._step_of(left, carried), right)
                return self._sum(self._step_of(right, carried), left) if found is None else found
            case None if operand.number in self._carrying:
                loop, k = self._carrying[operand.number]
                each = self._step_of(loop.following[k], operand)
                start, stop = self._get(loop.start), self._get(loop.stop)
                if each is None or not isinstance(start, PwAff) or not isinstance(stop, PwAff):
                    return None
                before = self._step_of(loop.initial[k], carried)
                by = self.known(product_of(each, self._trips(start, stop, loop.step)))
                return None if before is None or by is None else before.add(by)
            case _:
                return None

    def _sum(self, step: PwAff | None, more: Operand, size: int = 1) -> PwAff | None:
        found = self._get(more)
        return step.add(found.scale_val(size)) if step is not None and isinstance(found, PwAff) else None

    # values

    def _define(self, value: Value, content: Known | None) -> None:
        if content is None:
            self._content.pop(value.number, None)
        else:
            self._content[value.number] = content

    def _get(self, operand: Operand) -> Known | None:
        match operand:
            case Value():
                return self._content.get(operand.number)
            case int():
                return self.number(operand)
            case Zeros(type=type_):
                return self.number(0) if type_.dtype in INTEGERS else None
            case Constant(value=bool(value)):
                return isl.Set.universe(self.space) if value else isl.Set.empty(self.space)
            case Constant(type=type_, value=int(value)) if type_.dtype in INTEGERS:
                return self.number(value)
            case Constant(type=type_, value=tuple(values)) if type_.dtype in INTEGERS:
                return self.listed(values)
            case Constant(type=type_, value=tuple(values)) if type_.dtype is DType.BOOL:
                return self.among(self.lane, [(k, k + 1) for k, value in enumerate(values) if value])
            case _:
                return None

    def _truth(self, operand: Operand) -> isl.Set | None:
        found = self._get(operand)
        return found if isinstance(found, isl.Set) else None

    def _in_type(self, statement: ir.Definition) -> Known | None:
        """What is known of a value whose type holds it: of a number that is too large for its type, bits are lost."""
        found, dtype = self._computed(statement), statement.result.type.dtype
        is_made = isinstance(statement, ir.Convert) or (
            isinstance(statement, ir.Binary | ir.Elementwise) and _name_of(statement) in GROWING
        )
        if is_made and isinstance(found, PwAff) and dtype in LIMITS:
            low, high = LIMITS[dtype]
            if self.may_be(found.lt_set(self.number(low)) | found.gt_set(self.number(high))):
                return None
        return found

    def _computed(self, statement: ir.Definition) -> Known | None:
        match statement:
            case ir.Given(slot=slot):
                argument = self.call.arguments[slot]
                return (Place(statement, self.number(0)),) if isinstance(argument, Memory) else self.extent(argument)
            case ir.Scratch():
                return (Place(statement, self.number(0)),)
            case ir.Address(base=base, index=index, dtype=dtype):
                return self._address(self._get(base), index, dtype.size)
            case ir.Broadcast(scalar=value) | ir.Lane(vector=value):
                return self._get(value)
            case ir.Convert(value=value) if statement.result.type.dtype in INTEGERS:
                found = self._get(value)
                if found is None and ir.dtype_of(value) is DType.BOOL:
                    return Flag(value)
                if isinstance(found, PwAff) and self.is_endless(found):  # bits may get lost
                    return None
                return self.either(found, self.number(1), self.number(0)) if isinstance(found, isl.Set) else found
            case ir.Binary(op=op, left=left, right=right) if statement.result.type.dtype is DType.BOOL:
                return self.joined(op, self._truth(left), self._truth(right))
            case (
                ir.Binary(op="shift", left=left, right=int(right))
                | ir.Binary(op="shift", left=left, right=Value() as right)
            ):
                return self._shifted(left, right)
            case ir.Binary(op=op, left=left, right=right) if statement.result.type.dtype in INTEGERS:
                return self._arithmetic(op, left, right)
            case ir.Elementwise(operands=(left, right)) if statement.result.type.dtype in INTEGERS:
                return self._arithmetic(_name_of(statement), left, right)
            case ir.Compare(relation=relation, left=left, right=right) if ir.type_of(left).dtype in INTEGERS:
                contents = self._get(left), self._get(right)  # what is in memory is asked for by an address alone
                is_data = any(isinstance(content, Loaded) for content in contents)
                return None if is_data else self.compared(relation, *map(self.known, contents))
            case ir.Select(condition=condition, yes=yes, no=no):
                return self._select(self._truth(condition), self._get(yes), self._get(no))
            case _:
                return None

    def _address(self, base: Known | None, index: Operand, size: int) -> tuple[Place, ...] | None:
        if not isinstance(base, tuple):
            return None
        if isinstance(index, int):
            return tuple(replace(place, more=place.more + index * size) for place in base)
        by = self.known(self._get(index))
        return None if by is None else tuple(replace(place, base=place.base.add(by.scale_val(size))) for place in base)

    def _select(self, truth: isl.Set | None, yes: Known | None, no: Known | None) -> Known | None:
        if isinstance(yes, tuple) and isinstance(no, tuple):
            if truth is None:
                return (*yes, *no)
            sides = (yes, truth), (no, truth.complement())
            return tuple(
                replace(place, base=place.base.intersect_domain(where)) for side, where in sides for place in side
            )
        if truth is None or isinstance(yes, Loaded) or isinstance(no, Loaded):
            return None
        one, other = self.known(yes), self.known(no)
        return None if one is None or other is None else self.either(truth, one, other)

    def _arithmetic(self, op: str, one: Operand, other: Operand) -> Known | None:
        content, divisor = self._get(one), self._get(other)
        if not self._has_bounds(op, content, divisor):
            return None
        if op in ("div", "rem") and self.is_cut and (one is BEGIN or one is END) and other == self.call.factor:
            return self.halves[(0 if one is BEGIN else 2) + (op == "rem")]
        if op in ("div", "rem") and isinstance(divisor, PwAff) and constant_of(divisor) is None:
            if isinstance(content, Digits) and (digit := self.digit(content, divisor, op == "div")) is not None:
                return digit
            if isinstance(content, Product) and op == "div":
                return self.quotient(content, divisor, self._most_of(other))
            number = self.known(content)
            return None if number is None else self.small_quotient(number, divisor, op == "rem")
        if op == "div" and isinstance(content, Product) and isinstance(divisor, PwAff):
            return self.quotient(content, divisor, None)
        left, right = self.known(content), self.known(divisor)
        if left is None or right is None:
            return None
        size = constant_of(right)
        match op:
            case "add":
                return left.add(right).coalesce()
            case "sub":
                return left.sub(right).coalesce()
            case "min" | "max":
                return self.extreme(left, right, op)
            case "mul":
                return product_of(left, right)
            case "and" if size is not None and size < 0 and -size & (-size - 1) == 0:  # down to a multiple
                return self.floor_of(left, -size).scale_val(-size)
            case "div" | "rem" if size is not None and size > 0 and not self.may_be(left.lt_set(self.number(0))):
                quotient = self.floor_of(left, size)
                return quotient if op == "div" else self.in_digits(left).sub(quotient.scale_val(size))
            case _:
                return None

    def _has_bounds(self, op: str, left: Known | None, right: Known | None) -> bool:
        """Whether something is known of the result: arithmetic on a number that may be any may leave its type.

        So a number from memory gets a dimension where a clamp or an address asks for it, and not in what leads there.
        """
        loaded = [isinstance(content, Loaded) for content in (left, right)]
        if op in ("min", "max"):
            return not all(loaded)
        return not any(loaded) and not any(isinstance(c, PwAff) and self.is_endless(c) for c in (left, right))

    def _shifted(self, product: Operand, shift: Operand) -> PwAff | None:
        """A product that is shifted is a quotient where its factor is 2^shift / divisor, rounded up."""
        content, by = self._get(product), self._get(shift)
        number = None if isinstance(content, Loaded) else self.known(content)
        if number is None or not isinstance(by, PwAff) or (bits := constant_of(by)) is None:
            return None
        made = self._made.get(product.number) if isinstance(product, Value) else None
        right = self._get(made.right) if isinstance(made, ir.Binary) and made.op == "mul" else None
        factor = constant_of(right) if isinstance(right, PwAff) else None
        if factor is not None and factor > 0 and isinstance(made, ir.Binary):
            divisor = -(-(1 << bits) // factor)
            left = self.known(self._get(made.left))
            if left is not None and -(-(1 << bits) // divisor) == factor:
                return self.floor_of(left, divisor)
        return self.floor_of(number, 1 << bits)

    def _most_of(self, groups: Operand) -> int | None:
        """The largest group, where their number is what so many need."""
        made = self._made.get(groups.number) if isinstance(groups, Value) else None
        return made.right if isinstance(made, ir.Binary) and made.op == "div" and isinstance(made.right, int) else None

    # accesses

    def _access(self, access: Access, type_: ir.Type) -> None:
        places, lanes, dtype = self._get(access.address), type_.lanes, type_.dtype
        assert dtype is not None
        spots = self.known(self._get(access.places)) if isinstance(access, ir.Gather | ir.Scatter) else self.lane
        if not isinstance(places, tuple) or spots is None:
            self.unknown.append(access)
        elif spots is not self.lane or (not isinstance(access, ir.Load) and access.mask is not None):
            mask = None if isinstance(access, ir.Load) else access.mask
            self._touch(access, type_, places, _Reach(dtype.size, mask, spots))
        elif not isinstance(access, ir.Load):
            self._touch(access, type_, places, _Reach(dtype.size * lanes))
        else:
            use = self._used.get(access.result.number, Used(frozenset({0})))
            is_known = use.mask is not None and self._truth(use.mask) is not None and lanes > 1
            used = 0 if is_known else (max(use.lanes, default=0) + 1) * dtype.size
            self._touch(access, type_, places, _Reach(dtype.size * lanes, used=used))
            if is_known:
                self._touch(access, type_, places, _Reach(dtype.size, use.mask, self.lane))

    def _touch(self, access: Access, type_: ir.Type, places: tuple[Place, ...], reach: _Reach) -> None:
        spots, mask, truth = reach.spots, reach.mask, None if reach.mask is None else self._truth(reach.mask)
        is_sure = self._is_sure and (mask is None or truth is not None)
        more = self.between(self.lane, 0, self.number(1 if spots is None else type_.lanes))
        more = more if truth is None else more & truth
        for place in places:
            terms = self.within, place.base, spots  # each is itself: equal ones may differ in hash
            key = *map(id, terms), type(access), place.of, mask, type_, is_sure, reach.bytes, reach.used
            if key not in self.touched:
                base = place.base if spots is None else place.base.add(spots.scale_val(reach.bytes))
                where = self._path, (*self.loops,), self.within & more, base
                known = is_sure, frozenset(self.seen), self.facts, self._bodies, self.added & more
                self._kept.append(terms)
                used = reach.bytes if reach.used is None else reach.used
                self.touched[key] = Touched(access, place.of, *where, reach.bytes, used, *known, [], [])
            self.touched[key].offsets.append(place.more)
            self.touched[key].aligns.append(_align_of(access, type_))


def _name_of(statement: ir.Binary | ir.Elementwise) -> str:
    return statement.op if isinstance(statement, ir.Binary) else OF_GRAPH.get(statement.op.name, statement.op.name)


def _align_of(access: Access, type_: ir.Type) -> int:
    """Of what an address is said to be a multiple: elements at places are there for themselves."""
    if isinstance(access, ir.Load | ir.Store):
        return access.align
    assert type_.dtype is not None
    return type_.dtype.size


def _depth(body: Sequence[Statement]) -> int:
    inner = (s for s in body if isinstance(s, ir.Loop | ir.Guard))
    return max((_depth(s.body) + isinstance(s, ir.Loop) for s in inner), default=0)


def _few_rounds(loop: ir.Loop) -> range | None:
    """The indices of a loop over the rectangles into which items are cut."""
    if not isinstance(loop.start, int) or not isinstance(loop.stop, int) or loop.carried:
        return None
    found = range(loop.start, loop.stop, loop.step)
    return found if len(found) <= MOST_RECTANGLES else None
