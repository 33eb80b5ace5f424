"""Checks the memory of a nest, for every batch and every share of the items; `Law` says what is proved.

All of them are questions about relations from rounds of loops to bytes (`nest/regions`), which isl decides. Two rounds
are compared where they may both be: of a call, or of two calls of different items; shares lie one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import cached_property, partial, reduce
from itertools import chain

import islpy as isl
from islpy import PwAff

from compiler.errors.diagnostics import CompilerBug
from compiler.nest import ir
from compiler.nest.arguments import FlagPointer, SharedPointer
from compiler.nest.call import Access, Call, Memory
from compiler.nest.coverage import depends_on_memory, is_stored
from compiler.nest.ir import Nest
from compiler.nest.printer import name_of, print_nest
from compiler.nest.regions import Regions
from compiler.nest.terms import CALL, DIM, Share, UnknownError
from compiler.nest.touched import Touched
from compiler.support.record import record
from compiler.tuning import MOST_TILE_ROWS, READABLE_BEHIND
from compiler.types import BatchExtent

MOST_OPERATIONS = 50_000_000  # of isl, for one question: some seconds
FEW_OPERATIONS = 1_000_000
ROOMS = (8, 22)  # dimensions beside loops: with few of them, questions are answered faster
LINE = 64  # bytes, of which scratch begins at a multiple
BEHIND_SCRATCH = 64  # bytes behind a stretch of scratch memory that belong to it, so that whole vectors may be read


class Law(Enum):
    """What holds of the memory of a nest, as the message says it where no proof was found."""

    KNOWN = "which addresses are touched is not known"
    INSIDE = "an access may leave its memory"
    ALIGNED = "an address may be no multiple of what its access says"
    CLAMPED = "an index from memory has no bounds"
    ONCE = "an element may be stored twice, and no store adds to what is there"
    APART = "an element that an item stores may be touched by another item"
    STORED = "an element of a result may be left out"
    FILLED = "scratch or a panel may be read where nothing was stored"


@record(eq=False)
class Doubt:
    """A law for which no proof was found, and an access that may break it."""

    law: Law
    access: Access | None = None


BOUNDS = (Law.KNOWN, Law.INSIDE, Law.ALIGNED, Law.CLAMPED)


def verify_memory(nest: Nest, call: Call) -> None:
    """Raise `CompilerBug` unless each access is proved to stay inside, with the indices that the program made."""
    found = unproved(nest, call, BOUNDS)
    if found:
        accesses = ", ".join(name_of(d.access.address) for d in found[:3] if d.access is not None)
        raise CompilerBug("verify_memory", f"{found[0].law.value} ({accesses})", print_nest(nest))


def unproved(nest: Nest, call: Call, laws: Collection[Law] = Law) -> list[Doubt]:
    """Those of the laws without a proof."""
    for room in ROOMS:
        with suppress(UnknownError):
            check = _Check(nest, call, room)
            found = (doubt for law, doubts in check.laws().items() if law in laws for doubt in doubts)
            return [doubt for doubt in found if doubt.law in laws]
    return [Doubt(Law.KNOWN)]


@contextmanager
def _limited(operations: int) -> Generator[None]:
    """Within, a question that would take more operations is an error of isl."""
    context = isl.DEFAULT_CONTEXT
    around = context.get_max_operations()
    context.reset_operations()
    context.set_max_operations(operations)
    try:
        yield
    finally:
        context.set_max_operations(around)


def _holds(question: Callable[[], bool], operations: int = MOST_OPERATIONS) -> bool:
    """Whether the answer is yes; no where there is none in time."""
    try:
        with _limited(operations):
            return question()
    except isl.Error:
        return False


def _any_holds(questions: Callable[[], Iterable[Callable[[], bool]]]) -> bool:
    """Whether one of the answers is yes; each is asked for shortly before any is waited for."""
    try:
        with _limited(MOST_OPERATIONS):
            asked = [*questions()]
    except isl.Error:
        return False
    return any(_holds(question, limit) for limit in (FEW_OPERATIONS, MOST_OPERATIONS) for question in asked)


class _Check:
    def __init__(self, nest: Nest, call: Call, room: int = ROOMS[0]) -> None:
        self.nest, self.call = nest, call
        self.regions = Regions(nest, call, room)
        self.touched = [*self.regions.touched.values()]
        self._sure = [t for t in self.touched if t.is_store and t.is_sure and not depends_on_memory(t, self.regions)]
        self._maps: dict[int, isl.Map] = {}
        self._answers: list[tuple[object, isl.Map, isl.Map, bool]] = []
        self._last = self.regions.space.dim(DIM.set)
        self._all = isl.Map.universe(self.regions.space.map_from_set())

    def laws(self) -> Mapping[Law, Iterable[Doubt]]:
        """The doubts of each law; they are looked for when they are asked for."""
        results = self._by_memory(t for t in self.touched if t.is_store and self._is_result(t))
        loads = (t for t in self.touched if not t.is_store)
        return {
            Law.KNOWN: (Doubt(Law.KNOWN, access) for access in self.regions.unknown),
            Law.INSIDE: (Doubt(Law.INSIDE, t.access) for t in self._outside if not self._is_by_index(t)),
            Law.ALIGNED: (Doubt(Law.ALIGNED, t.access) for t in self.touched if not self._is_aligned(t)),
            Law.CLAMPED: (Doubt(Law.CLAMPED, t.access) for t in self._outside if self._is_unclamped(t)),
            Law.ONCE: (Doubt(Law.ONCE, t.access) for stores in results for t in self._repeated(stores)),
            Law.APART: (Doubt(Law.APART, t.access) for stores in results for t in self._shared(stores)),
            Law.STORED: (Doubt(Law.STORED, access) for access in self._left_out()),
            Law.FILLED: (Doubt(Law.FILLED, t.access) for t in loads if not _holds(partial(self._is_filled, t))),
        }

    @cached_property
    def _outside(self) -> list[Touched]:
        return [t for t in self.touched if not _holds(partial(self._is_inside, t))]

    def _is_unclamped(self, touched: Touched) -> bool:
        """Whether an index from memory has no bounds, which the program has not made."""
        return self._is_endless(touched) and not self._is_made(touched)

    def _is_by_index(self, touched: Touched) -> bool:
        """Whether an index from memory has no bounds, or the program has made it, of its batch."""
        is_of_data = any(touched.base.involves_dims(DIM.in_, k, 1) for k in self.regions.of_data)
        return self._is_endless(touched) or (is_of_data and self._is_made(touched))

    def _is_made(self, touched: Touched) -> bool:
        return isinstance(touched.of, ir.Given) and touched.of.slot in self.call.indexed

    def _is_endless(self, touched: Touched) -> bool:
        """Whether an address grows with a number from memory, for a batch of one row already."""
        r = self.regions
        one = touched.base.intersect_domain(touched.within & r.batch.eq_set(r.number(1)))
        return any(one.involves_dims(DIM.in_, k, 1) for k in r.of_data) and not one.max_val().is_int()

    # bounds

    def _is_inside(self, touched: Touched) -> bool:
        """Whether all bytes lie in the memory, or so near behind it that they may be read."""
        if isinstance(touched.of, ir.Scratch):
            return self._is_below(touched, touched.bytes, 0 if touched.is_store else BEHIND_SCRATCH)
        r, memory, slack = self.regions, self._argument(touched.of), 0
        if touched.is_store and not memory.is_written:
            return False
        if not touched.is_store:
            slack = READABLE_BEHIND
            if isinstance(memory.bytes, BatchExtent):
                slack += MOST_TILE_ROWS * memory.bytes.multiple
            if memory.lent is not None:
                reach, rows = memory.lent
                if not self._is_below(touched, touched.bytes, reach, r.batch.ge_set(r.number(rows))):
                    return False
        return self._is_below(touched, touched.bytes, slack)

    def _is_below(self, touched: Touched, size: int, slack: int, where: isl.Set | None = None) -> bool:
        """Whether the first so many bytes of each access lie in its memory, or at most so many behind it."""
        low, high = self._bounds(touched)
        first = touched.base.add_constant_val(min(touched.offsets))
        stop = touched.base.add_constant_val(max(touched.offsets) + size - slack)
        outside = (first.lt_set(low) | stop.gt_set(high)) & touched.within
        return (outside if where is None else outside & where).is_empty()

    def _bounds(self, touched: Touched) -> tuple[PwAff, PwAff]:
        r, of = self.regions, touched.of
        if isinstance(of, ir.Given):
            memory = self._argument(of)
            return r.number(memory.before), r.extent(memory.bytes).add_constant_val(-memory.behind)
        is_fixed = of.start < self.nest.scratch_bytes
        return r.number(0), r.number(of.bytes) if is_fixed else r.batch.scale_val(self.nest.scratch_batch_bytes)

    def _is_aligned(self, touched: Touched) -> bool:
        """Whether each address is a multiple of what its access says, which may be said of whole lanes."""
        r, of = self.regions, touched.of
        base, begin = touched.base, of.start if isinstance(of, ir.Scratch) else 0
        if isinstance(touched.access, ir.Load | ir.Store) and touched.is_by_lane:
            base = base.sub(r.lane.scale_val(touched.bytes))
        room = LINE if isinstance(of, ir.Scratch) else self._argument(of).align
        offsets = zip(touched.offsets, touched.aligns, strict=True)
        for align, place in {(align, (offset + begin) % align) for offset, align in offsets}:
            if room % align:
                return False
            if not _has_steps(base, align, place) and not _holds(partial(_divides, base, align, place, touched.within)):
                return False
        return True

    def _argument(self, of: ir.Given) -> Memory:
        memory = self.call.arguments[of.slot]
        assert isinstance(memory, Memory)
        return memory

    # which rounds there may be together

    @cached_property
    def _of_items(self) -> isl.Map:
        """Pairs of rounds of different items."""
        r = self.regions
        if not r.is_cut:
            return self._all - self._equal(self._all, r.of_items)
        begin, end = isl.Map.from_pw_aff(r.begin), isl.Map.from_pw_aff(r.end)
        return end.lex_le_map(begin) | begin.lex_ge_map(end)

    def _in_order(self, pairs: isl.Map, seen: frozenset[int]) -> isl.Map | None:
        """Of pairs of rounds, those of one call in one place of all shares; none if they are of a share and another.

        The boundaries `seen` are known in both rounds. What one number counts is in order together: a pair that one
        share allows may contradict another.
        """
        pairs = self._equal(pairs, range(CALL))
        for shares in self._alike(seen):
            number, scope = isl.Map.from_pw_aff(shares[0].number), shares[0].scope
            bounds = [(isl.Map.from_pw_aff(s.first), isl.Map.from_pw_aff(s.stop)) for s in shares]
            loops = self._around(shares[0])
            around = self._equal(pairs.intersect_domain(scope).intersect_range(scope), loops)
            if around.is_empty():
                continue
            later = reduce(
                isl.Map.intersect, (stop.lex_le_map(first) for first, stop in bounds), number.lex_lt_map(number)
            )
            if not ((around & later).is_empty() and (around & later.reverse()).is_empty()):
                return None
            others = pairs - self._equal(self._all.intersect_domain(scope).intersect_range(scope), loops)
            one = (b.apply_range(b.reverse()) for pair in ((number,), *bounds) for b in pair)
            pairs = others | reduce(isl.Map.intersect, one, around)
        return pairs

    def _alike(self, seen: frozenset[int]) -> list[list[Share]]:
        """The shares between boundaries that are `seen`; those of one number in the same loops are together."""
        found = list[list[Share]]()
        for share in self.regions.shares:
            terms = share.number, share.first, share.stop
            if any(term.involves_dims(DIM.in_, k, 1) for term in terms for k in self.regions.of_shares - seen):
                continue
            alike = (f for f in found if f[0].scope is share.scope and f[0].loops == share.loops)
            among = next((f for f in alike if f[0].number.is_equal(share.number)), None)
            if among is None:
                found.append([share])
            else:
                among.append(share)
        return found

    def _around(self, share: Share) -> list[int]:
        """The dimensions of the loops around a share, with all of which its stretch is the same."""
        loops = range(CALL, CALL + share.loops)
        return [k for k in loops if not share.number.involves_dims(DIM.in_, k, 1)]

    def _equal(self, pairs: isl.Map, dimensions: Iterable[int]) -> isl.Map:
        for k in dimensions:
            pairs = pairs.equate(DIM.in_, k, DIM.out, k)
        return pairs

    def _meet(self, one: Touched, other: Touched) -> bool:
        """Whether two different rounds may touch the same byte."""
        kind = one is other, one.seen & other.seen
        return not self._answer(kind, one, other, partial(self._are_apart, one, other))

    def _meet_of_items(self, one: Touched, other: Touched) -> bool:
        """Whether rounds of different items may touch the same byte."""
        left, right = self._map(one), self._map(other)
        pairs = partial(left.apply_range, right.reverse())
        return not self._answer(None, one, other, lambda: (pairs() & self._of_items).is_empty())

    def _answer(self, kind: object, one: Touched, other: Touched, question: Callable[[], bool]) -> bool:
        """The answer to a question about two accesses, in either order, which is asked once of those that are equal."""
        left, right = self._map(one), self._map(other)
        for known, first, second, answer in self._answers:
            orders = ((first, second), (second, first)) if known == kind else ()
            if any(left.plain_is_equal(a) and right.plain_is_equal(b) for a, b in orders):
                return answer
        self._answers.append((kind, left, right, answer := _holds(question)))
        return answer

    def _are_apart(self, one: Touched, other: Touched) -> bool:
        left, right, r = self._map(one), self._map(other), self.regions
        if one is other and not r.shares and not r.is_cut:
            return left.is_injective()
        if one is not other and left.range().is_disjoint(right.range()):
            return True
        if self._meet_of_items(one, other):
            return False
        pairs = self._in_order(left.apply_range(right.reverse()), one.seen & other.seen)
        if pairs is None:
            return False
        return pairs.is_subset(isl.Map.identity(pairs.space)) if one is other else pairs.is_empty()

    def _map(self, touched: Touched) -> isl.Map:
        """From rounds to the bytes that are touched in them, whatever numbers are in memory."""
        if id(touched) not in self._maps:
            self._maps[id(touched)] = self._bytes(touched, touched.within)
        return self._maps[id(touched)]

    def _bytes(self, touched: Touched, within: isl.Set) -> isl.Map:
        r = self.regions
        bytes_ = r.among(r.byte, [(k, k + touched.used) for k in sorted({*touched.offsets})])
        found = isl.Map.from_pw_aff(touched.base.add(r.byte)).intersect_domain(within & bytes_)
        for k in r.of_data:
            found = found.eliminate(DIM.in_, k, 1).fix_input_si(k, 0)
        return found

    # stores to results

    def _is_result(self, touched: Touched) -> bool:
        """Whether it is in memory that items share. A byte that reports a number holds the same whoever stores it."""
        of = touched.of
        return isinstance(of, ir.Given) and not isinstance(self.nest.arguments[of.slot], FlagPointer)

    def _memory(self, touched: Touched) -> object:
        """What tells the memory of an access from others."""
        memory = self.call.arguments[touched.of.slot] if isinstance(touched.of, ir.Given) else None
        if isinstance(memory, Memory) and memory.number >= 0:
            return memory.number, memory.before, memory.behind
        return touched.of

    def _by_memory(self, some: Iterable[Touched]) -> list[list[Touched]]:
        found: dict[object, list[Touched]] = {}
        for touched in some:
            found.setdefault(self._memory(touched), []).append(touched)
        return [*found.values()]

    def _left_out(self) -> Iterator[Access | None]:
        """A store to each result that has an element which none may store."""
        for result in self.call.results:
            stores = [t for t in self.touched if t.is_store and isinstance(t.of, ir.Given) and t.of.slot == result.slot]
            if not _any_holds(partial(is_stored, result, stores, self.regions)):
                yield stores[0].access if stores else None

    def _repeated(self, stores: Sequence[Touched]) -> Iterator[Touched]:
        """Stores of what was stored before, but for those that add to it."""
        for number, store in enumerate(stores):
            if not self._adds(store):
                others = (other for other in stores[:number] if not self._adds(other))
                is_twice = len({*store.offsets}) < len(store.offsets) or self._meet(store, store)
                if is_twice or any(self._meet(other, store) for other in others):
                    yield store

    def _adds(self, store: Touched) -> bool:
        """Whether what is there is read from the same address just before."""
        address, around = store.access.address, store.path[:-1]
        loads = (t for t in self.touched if not t.is_store and t.path[:-1] == around and t.path < store.path)
        return any(load.access.address is address and load.offsets == store.offsets for load in loads)

    def _shared(self, stores: Sequence[Touched]) -> Iterator[Touched]:
        """Accesses to what another item stores."""
        memory = self._memory(stores[0])
        for touched in self.touched:
            is_asked = self._memory(touched) == memory and (not touched.is_store or self._adds(touched))
            if is_asked and any(self._meet_of_items(touched, store) for store in stores):
                yield touched

    # scratch and panels

    def _is_filled(self, load: Touched) -> bool:
        """Whether all that is read was stored before: in this round of the loops around both, or in one before it."""
        if self._is_result(load) and not isinstance(self.nest.arguments[load.of.slot], SharedPointer):  # type: ignore[union-attr]
            return True
        if isinstance(load.of, ir.Given):
            before = (
                None
                if self.nest.before is None or self.call.before is None
                else _Check(self.nest.before, self.call.before)
            )
            return before is not None and self._map(load).range().is_subset(before.panels())
        stores = [t for t in self._sure if t.of is load.of and t.seen <= load.seen]
        before = [store for store in reversed(stores) if store.path < load.path]
        if any(self._is_filled_in_body(load, before, loops) for loops in range(len(load.loops), -1, -1)):
            return True
        here = (self._as_seen(store, _loops_around(store, load), self._map(store)) for store in before)
        earlier = (
            self._in_round_before(level).apply_range(self._as_seen(store, level + 1, self._map(store)))
            for store in reversed(stores)
            for level in range(_loops_around(store, load))
        )
        return _are_in(self._as_seen(load, len(load.loops), self._map(load)), chain(here, earlier))

    def _is_filled_in_body(self, load: Touched, stores: Iterable[Touched], loops: int) -> bool:
        """Whether all that is read was stored in the same round of so many loops, whatever is known around them.

        What holds around both accesses may be left out on both sides, as far as the proof needs nothing of it.
        """
        bodies = load.bodies[:loops]
        inside = [load, *(store for store in stores if store.bodies[:loops] == bodies)]
        if loops < len(load.bodies) and all(load.bodies[loops] in store.bodies for store in inside):
            return False  # which has been asked
        r, found = self.regions, list[isl.Map]()
        added = [reduce(isl.Set.intersect, (body.added for body in t.bodies[loops:]), t.added) for t in inside]
        known = bodies[-1].within & r.always if bodies else r.always
        for k in range(self._last):
            if not any(t.base.involves_dims(DIM.in_, k, 1) for t in inside) and not any(
                a.involves_dims(DIM.set, k, 1) for a in added
            ):
                known = known.drop_constraints_involving_dims(DIM.set, k, 1)
        for touched, more in zip(inside, added, strict=True):
            around = len(load.loops) if touched is load else loops
            found.append(self._as_seen(touched, around, self._bytes(touched, known & more)))
        return _are_in(found[0], found[1:])

    def _as_seen(self, touched: Touched, loops: int, bytes_: isl.Map) -> isl.Map:
        """The bytes of all rounds of loops, but for so many around it."""
        r = self.regions
        found = bytes_.eliminate(DIM.in_, CALL + loops, r.depth - loops)
        for k in r.of_shares - touched.seen:
            found = found.eliminate(DIM.in_, k, 1)
        return found.eliminate(DIM.in_, self._last - 2, 2)

    def _in_round_before(self, level: int) -> isl.Map:
        r = self.regions
        rounds = isl.Map.from_pw_aff(r.dimension(CALL + level))
        others = (k for k in range(CALL + r.depth, self._last - 2) if k not in r.of_shares)
        return self._equal(rounds.lex_gt_map(rounds), (*range(CALL + level), *others))

    def panels(self) -> isl.Set:
        """The bytes that are stored for the nest that runs next."""
        stores = [t for t in self._sure if self._is_result(t)]
        found = isl.Set.empty(self._map(stores[0]).range().space)
        for store in stores:
            found |= self._map(store).range()
        return found


def _has_steps(base: PwAff, align: int, place: int) -> bool:
    """Whether each term of an address is a multiple of an alignment, `place` with what stands alone."""
    for _, term in base.get_pieces():
        places = [(kind, k) for kind in (DIM.in_, DIM.param, DIM.div) for k in range(term.dim(kind))]
        factors = [term.get_coefficient_val(*at) for at in places]
        factors.append(term.get_constant_val().add(place))
        if not all(factor.is_int() and factor.to_python() % align == 0 for factor in factors):
            return False
    return True


def _divides(base: PwAff, align: int, place: int, within: isl.Set) -> bool:
    rest = base.add_constant_val(place).mod_val(align)
    return within.is_subset(rest.eq_set(rest.scale_val(0)))


def _are_in(pairs: isl.Map, others: Iterable[isl.Map]) -> bool:
    """Whether pairs are among others."""
    for other in others:
        if pairs.is_empty():
            return True
        pairs -= other
    return pairs.is_empty()


def _loops_around(one: Touched, other: Touched) -> int:
    """How many loops are around both."""
    pairs = enumerate(zip(one.loops, other.loops, strict=False))
    return next((k for k, (a, b) in pairs if a is not b), min(len(one.loops), len(other.loops)))
