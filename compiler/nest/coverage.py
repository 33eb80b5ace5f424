"""Whether the stores of a call write all elements of a result, for every batch.

A byte of a result is a vector: its indices along the axes of the result, and its place within the last of them. The
bytes of a store are vectors in the same way, as each term of their address goes to the longest stride that divides it.
Vectors that are equal are one byte, however they were found, so a result all of whose vectors are stored is stored;
and few rounds matter for one index, where the bytes themselves would depend on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import permutations
from math import gcd

import islpy as isl

from compiler.nest.call import Result
from compiler.nest.regions import Regions
from compiler.nest.terms import CALL, DIM, Share
from compiler.nest.touched import Touched
from compiler.support.record import record
from compiler.types import BatchExtent, Extent

_Axes = list[tuple[Extent, int]]


def is_stored(result: Result, stores: Iterable[Touched], regions: Regions) -> Iterator[Callable[[], bool]]:
    """Questions whether the sure ones among the stores write all of a result, where one call does all items.

    Each has the answer yes only if they do; some are answered fast.
    """
    if result.axes is not None:
        known = [_Stored.of(t, regions) for t in stores if t.is_sure and not depends_on_memory(t, regions)]
        parts = [part for part in known if part is not None]
        axes, joined = (_axes(result, joins) for joins in (False, True))
        ways = [(axes, True), (joined, False)]
        if all(vector.is_subset(_box(axes)) for vector in _every(parts, result, axes, carries=False)):
            ways.insert(0, (axes, False))
        if (split := _split(axes, result.offset, parts)) != axes:
            ways.insert(0, (split, False))
        for found, carries in ways if parts else ():
            yield partial(_covers, parts, result, found, carries)


def _every(stores: Iterable[_Stored], result: Result, axes: _Axes, carries: bool) -> list[isl.Set]:
    return [part for store in stores for part in _vectors(store, result.offset, axes, carries)]


def _covers(stores: Iterable[_Stored], result: Result, axes: _Axes, carries: bool) -> bool:
    return _box(axes).is_subset(reduce(isl.Set.union, _every(stores, result, axes, carries)).coalesce())


@record(eq=False)
class _Stored:
    """A store at `base` in the rounds `within`, where boundaries of shares, which nobody knows, decide nothing."""

    store: Touched
    base: isl.PwAff
    within: isl.Set

    @staticmethod
    def of(store: Touched, regions: Regions) -> _Stored | None:
        """None where boundaries may decide what is stored.

        A place in a share is taken as one in the whole that shares divide. Each of these is in one of them, whichever
        it is; so where each share has a round for each of its places that any share has, all of them are stored.
        """
        r, unknown, around = regions, {*store.seen}, store.facts
        within: isl.Set = store.within & r.byte.eq_set(r.number(0))
        if r.is_cut:
            within &= r.begin.eq_set(r.number(0)) & r.end.eq_set(r.items)
        to_whole, places, wholes = isl.MultiAff.identity_on_domain_space(r.space), set[int](), list[isl.PwAff]()
        for share in r.shares:
            number, first, place = _dimensions_of(share, store, r)
            if number is None or first is None or place is None or place in places or share.whole is None:
                continue
            to_whole = to_whole.set_aff(place, to_whole.get_aff(place).sub(to_whole.get_aff(first)))
            around &= r.between(r.dimension(place), 0, share.stop.sub(share.first))
            around &= r.between(share.number, 0, share.whole[1])
            places.add(place)
            unknown.add(number)
            wholes += share.whole
        base, within = store.base.pullback_multi_aff(to_whole), within.preimage_multi_aff(to_whole)
        every = within
        for k in unknown:
            every = every.eliminate(DIM.set, k, 1)
        is_known = not any(term.involves_dims(DIM.in_, k, 1) for term in (base, *wholes) for k in unknown)
        is_all = is_known and (every & around.preimage_multi_aff(to_whole)).is_subset(within)
        return _Stored(store, base, every) if is_all else None


def _dimensions_of(share: Share, store: Touched, r: Regions) -> tuple[int | None, int | None, int | None]:
    """Those of the number and the first place of a share, and of the loop that counts the places of a store in it."""
    loops = range(CALL, CALL + r.depth)
    numbers = r.loops_of_shares
    number = next((k for k in numbers if share.number.is_equal(r.dimension(k))), None)
    first = next((k for k in r.of_shares if share.first.is_equal(r.dimension(k))), None)
    addresses = [address for _, address in store.base.get_pieces()]
    if first is None or not store.base.involves_dims(DIM.in_, first, 1) or not store.within.is_subset(share.scope):
        return None, None, None

    def grows_alike(k: int) -> bool:
        return all(a.get_coefficient_val(DIM.in_, k).eq(a.get_coefficient_val(DIM.in_, first)) for a in addresses)

    return number, first, next((k for k in loops if k not in numbers and grows_alike(k)), None)


def depends_on_memory(store: Touched, regions: Regions) -> bool:
    """Whether a number from memory decides which bytes a store writes, or in which rounds it is done."""
    base, rounds = store.base, store.within
    return any(base.involves_dims(DIM.in_, k, 1) or rounds.involves_dims(DIM.set, k, 1) for k in regions.of_data)


def _axes(result: Result, joins: bool) -> _Axes:
    """The axes, the longest stride first, of which the last one counts bytes; it `joins` those without gaps."""
    assert result.axes is not None
    every = sorted((axis for axis in result.axes if axis[0] != 1), key=lambda axis: -axis[1])
    found: _Axes = []
    for place, (extent, stride) in enumerate((*every, (result.size, 1))):
        is_joined = joins or place == len(every)
        if found and isinstance(extent, int) and found[-1][1] == stride * extent and is_joined:
            around, _ = found.pop()
            is_batch = isinstance(around, BatchExtent)
            found.append((BatchExtent(around.multiple * extent) if is_batch else around * extent, stride))
        else:
            found.append((extent, stride))
    return found


def _split(axes: _Axes, offset: int, stores: Sequence[_Stored]) -> _Axes:
    """The axes, cut where terms of addresses begin: rows that heads and their blocks share are an axis for each."""
    addresses = [(a, stored.store.offsets) for stored in stores for _, a in stored.base.get_pieces()]
    begins = [(a.get_constant_val(), offsets) for a, offsets in addresses]
    places = [begin.to_python() + p - offset for begin, offsets in begins if begin.is_int() for p in offsets]
    terms = {abs(t) for address, _ in addresses for t in _strides(address)}
    found: _Axes = []
    for extent, stride in axes:
        steps = {term // stride for term in terms if term % stride == 0} | {gcd(*(p // stride for p in places))}
        for step in sorted(steps, reverse=True):
            many = extent.multiple if isinstance(extent, BatchExtent) else extent
            if step > 1 and many % step == 0 and extent != step:
                around = many // step
                found.append((BatchExtent(around) if isinstance(extent, BatchExtent) else around, step * stride))
                extent = step
        found.append((extent, stride))
    return found


def _strides(address: isl.Aff) -> Iterator[int]:
    """By how much an address grows with each term, and with a quotient of which the rest is a term."""
    factors = [(kind, k, value.to_python()) for kind, k, value in _terms(address) if value.is_int()]
    for kind, k, factor in factors:
        yield factor
        if kind == DIM.div:
            divisor = address.get_div(k).get_denominator_val().to_python()
            yield from (factor + divisor * other for _, _, other in factors)


def _terms(address: isl.Aff) -> Iterator[tuple[isl.dim_type, int, isl.Val]]:
    for kind in (DIM.in_, DIM.param, DIM.div):
        for place in range(address.dim(kind)):
            yield kind, place, address.get_coefficient_val(kind, place)


def _box(axes: _Axes) -> isl.Set:
    """All vectors of a result."""
    names = [f"x{k}" for k in range(len(axes))]
    sizes = [f"{e.multiple}*batch" if isinstance(e, BatchExtent) else f"{e}" for e, _ in axes]
    bounds = " and ".join(f"0 <= {name} < {size}" for name, size in zip(names, sizes, strict=True))
    return isl.Set(f"[batch] -> {{ [{', '.join(names)}] : batch >= 1 and {bounds} }}")


def _vectors(of: _Stored, offset: int, axes: _Axes, carries: bool) -> Iterator[isl.Set]:
    """The vectors of the bytes that a store writes."""
    strides = [stride for _, stride in axes]
    for where, address in of.base.get_pieces():
        parts, more = _parts(address, axes)
        indices = _carried(parts, strides) if carries else parts
        vector = reduce(isl.Map.flat_range_product, map(isl.Map.from_aff, indices))
        behind = [_bytes(more - offset + place, of.store.used, strides) for place in sorted({*of.store.offsets})]
        yield (where & of.within).apply(vector).sum(reduce(isl.Set.union, behind).coalesce())


def _parts(address: isl.Aff, axes: _Axes) -> tuple[list[isl.Aff], int]:
    """The terms of an address by the axis that they lead along, and the number that stands beside them."""
    zero = isl.Aff.zero_on_domain(address.get_domain_local_space())
    parts, more = [zero] * len(axes), address.get_constant_val()
    for kind, place, value in _terms(address):
        if not value.is_int() or not more.is_int():
            return [*parts[:-1], address], 0
        of = _quotient(address, place) if kind == DIM.div else (0, 0)
        for k, steps in _along(value.to_python(), of, axes):
            parts[k] = parts[k].set_coefficient_val(kind, place, steps)
    return parts, more.to_python()


def _quotient(address: isl.Aff, place: int) -> tuple[int, int]:
    """The divisor of a quotient, and the factor in the address of the one number that it divides, or 0."""
    quotient = address.get_div(place)
    places = [(kind, k) for kind in (DIM.in_, DIM.param) for k in range(quotient.dim(kind))]
    factors = [address.get_coefficient_val(*at) for at in places if not quotient.get_coefficient_val(*at).is_zero()]
    is_one = len(factors) == 1 and factors[0].is_int()
    return quotient.get_denominator_val().to_python(), factors[0].to_python() if is_one else 0


def _along(factor: int, of: tuple[int, int], axes: _Axes) -> list[tuple[int, int]]:
    """The axes along which a term leads, with the steps: the first whose stride divides its factor, or two of them.

    A quotient by the extent of an axis is one step along another axis, and so many back along this one, along which
    the number that it divides leads.
    """
    divisor, along = of
    strides = [stride for _, stride in axes]
    if factor and divisor:
        pairs = ((j, k, e) for j, k in permutations(range(len(axes)), 2) if isinstance(e := axes[k][0], int))
        steps = ((j, k, e, strides[j] - e * strides[k]) for j, k, e in pairs)
        found = [
            (e == divisor, strides[k] == along, abs(step), j, k, e, factor // step)
            for j, k, e, step in steps
            if step and factor % step == 0
        ]
        if found:
            *_, j, k, extent, times = max(found)
            return [(j, times), (k, -times * extent)]
    k = next(k for k, stride in enumerate(strides) if factor % stride == 0)
    return [(k, factor // strides[k])]


def _carried(parts: Sequence[isl.Aff], strides: Sequence[int]) -> list[isl.Aff]:
    """The same bytes, where no index but the first is as large as the stride around it."""
    found = [*parts]
    for k in range(len(found) - 1, 0, -1):
        most, rest = divmod(strides[k - 1], strides[k])
        if not rest:
            carry = found[k].scale_down_val(most).floor()
            found[k - 1], found[k] = found[k - 1].add(carry), found[k].sub(carry.scale_val(most))
    return found


def _bytes(place: int, size: int, strides: Sequence[int]) -> isl.Set:
    """The vectors of so many bytes from a place on."""
    indices = list[str]()
    for stride in strides[:-1]:
        index, place = divmod(place, stride)
        indices.append(f"{index}")
    return isl.Set(f"[batch] -> {{ [{', '.join([*indices, 'y'])}] : {place} <= y < {place + size} }}")
