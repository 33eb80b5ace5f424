"""Finds chained kernels: those that fall into the same independent shards, such as the heads of attention.

A thread takes a shard through all of them before the next: a value is in cache when the next kernel reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from compiler.loops import ir as loops
from compiler.schedule.addresses import count
from compiler.schedule.ir import Buffer, ChainedKernels, Instance, Schedule
from compiler.tuning import MOST_TILE_ROWS, Tuning
from compiler.types import BatchExtent, Extent, elements, size_at


def chain_kernels(schedule: Schedule) -> Schedule:
    """The schedule with some instances moved forward, into chains."""
    tuning, buffers = schedule.machine.tuning, schedule.buffers
    waiting, found, chains = list(schedule.instances), list[Instance](), list[ChainedKernels]()
    users = _users(waiting, buffers)
    while waiting:
        shards = _shards_of(waiting[0], tuning) or _shards_of_next(waiting, buffers, tuning)
        members = [waiting.pop(0)]
        fewest = tuning.image_shards if shards == BatchExtent(1) else tuning.shards
        if shards is not None and members[0].parallel and size_at(shards, schedule.batch) >= fewest:
            passed: list[Instance] = []
            while waiting and len(passed) <= tuning.chain_reach:
                instance = waiting.pop(0)
                fits = instance.parallel and _continues(members, instance, shards, buffers, tuning)
                free, bound = _apart(passed, members) if fits and _depends(instance, passed) else ([], passed)
                if fits and not _depends(instance, bound):
                    members.append(instance)
                    found, passed = found + free, bound
                else:
                    passed.append(instance)
            waiting = passed + waiting
        if shards is not None and len(members) > 1:
            members = [
                replace(i, kernel=replace(i.kernel, shards=shards)) if isinstance(i.kernel, loops.RowKernel) else i
                for i in members
            ]
            passed_on = _passed_on(members, users, buffers)
            chains.append(ChainedKernels(len(found), len(found) + len(members) - 1, shards, passed_on))
        found += members
    return replace(schedule, instances=tuple(found), chains=tuple(chains))


def _shards_of(instance: Instance, tuning: Tuning) -> Extent | None:
    """Into how many shards the rows of a product fall that are long enough."""
    return next(iter(_possible_shards(instance, tuning.shard_rows)), None)


def _possible_shards(instance: Instance, fewest: int) -> list[Extent]:
    """How the rows of a product may fall into shards of at least `fewest`, each with its own columns: those of a line,
    or of an image."""
    contract = loops.contraction_of(instance.kernel)
    if contract is None or instance.loops or instance.once or contract.splits > 1:
        return []
    is_static = isinstance(contract.m, int) and all(isinstance(axis.extent, int) for axis in contract.k)
    if not is_static or not any(axis.rhs_stride for axis in contract.outer):
        return []
    found = [_product(contract.outer)] if count(contract.m) >= fewest else []
    image, *lines = contract.outer
    is_image = isinstance(image.extent, BatchExtent) and count(contract.m) * count(_product(lines)) >= fewest
    return [*found, image.extent] if is_image and all(axis.rhs_stride for axis in contract.outer) else found


def _product(axes: Sequence[loops.OuterAxis]) -> Extent:
    return elements(tuple(axis.extent for axis in axes))


def _shards_of_next(waiting: Sequence[Instance], buffers: Sequence[Buffer], tuning: Tuning) -> Extent | None:
    """The shards of the second instance, where the first one writes what that reads, in the same shards."""
    if len(waiting) < 2 or waiting[0].loops or waiting[0].once or not {*waiting[0].writes} & {*waiting[1].reads}:
        return None
    shards = _shards_of(waiting[1], tuning)
    if shards is None or not _prefers(waiting[0], shards, tuning):
        return None
    return shards if keep_to_shards(waiting[:2], shards, buffers) else None


def _apart(passed: Sequence[Instance], members: Sequence[Instance]) -> tuple[list[Instance], list[Instance]]:
    """Those behind the first of `members` that may as well stand before it, and the rest."""
    free, bound = list[Instance](), list[Instance]()
    for instance in passed:
        stays = instance.loops or _depends(instance, (*members, *bound))
        (bound if stays else free).append(instance)
    return free, bound


def _depends(instance: Instance, passed: Sequence[Instance]) -> bool:
    """Whether an instance must stay behind one of those that come before it."""
    return any({*_touched(instance)} & {*other.writes} or {*instance.writes} & {*other.reads} for other in passed)


def _continues(
    members: Sequence[Instance], instance: Instance, shards: Extent, buffers: Sequence[Buffer], tuning: Tuning
) -> bool:
    """Whether an instance meets the others in shards of some buffer, and nowhere else what any of them writes."""
    if instance.loops or instance.once or not _prefers(instance, shards, tuning):
        return False
    shared = {buffer for other in members for buffer in _touched(other)} & {*_touched(instance)}
    is_met = any(_keeps_to_shard(instance, buffer, shards, buffers[buffer]) for buffer in shared)
    return is_met and keep_to_shards([*members, instance], shards, buffers)


def _prefers(instance: Instance, shards: Extent, tuning: Tuning) -> bool:
    """Whether an instance, if it is a product, would be cut into these shards by itself."""
    return not isinstance(instance.kernel, loops.ContractionKernel) or _shards_of(instance, tuning) == shards


def keep_to_shards(members: Sequence[Instance], shards: Extent, buffers: Sequence[Buffer]) -> bool:
    """Whether all instances divide into shards, and of what one writes and others use, each keeps to its shard."""
    users = Counter(buffer for instance in members for buffer in {*_touched(instance)})
    written = {buffer for instance in members for buffer in instance.writes if users[buffer] > 1}
    return all(_falls_into(instance, shards) for instance in members) and all(
        _keeps_to_shard(instance, buffer, shards, buffers[buffer])
        for instance in members
        for buffer in written & {*_touched(instance)}
    )


def _users(instances: Sequence[Instance], buffers: Sequence[Buffer]) -> Counter[int]:
    """How many of the instances use each buffer, those left out that only fill it."""
    return Counter(b for i in instances for b in {*_touched(i)} if not fills_evenly(i, buffers[b]))


def _passed_on(members: Sequence[Instance], users: Counter[int], buffers: Sequence[Buffer]) -> tuple[int, ...]:
    """The buffers that only `members` use, some writing and others reading; they may have been filled before."""
    inside = _users(members, buffers)
    written = dict.fromkeys(buffer for instance in members for buffer in instance.writes)
    return tuple(b for b in written if buffers[b].role is None and inside[b] == users[b] > 1)


def fills_evenly(instance: Instance, storage: Buffer) -> bool:
    """Whether all shards of a buffer, however it is cut, are alike from then on: a number stands in all of it, once."""
    kernel = instance.kernel
    if not instance.once or not isinstance(kernel, loops.FlatKernel) or kernel.elements != storage.elements:
        return False
    return all(isinstance(i, loops.Literal | loops.Store) for i in loops.instructions_of(kernel))


def _touched(instance: Instance) -> tuple[int, ...]:
    return (*instance.reads, *instance.writes)


def _falls_into(instance: Instance, shards: Extent) -> bool:
    """Whether the items of an instance divide evenly among the shards."""
    kernel = instance.kernel
    if isinstance(kernel, loops.ContractionKernel):
        return shards in _possible_shards(instance, MOST_TILE_ROWS // 2 + 1)  # a tile spans shards of fewer rows
    is_row = isinstance(kernel, loops.RowKernel)
    return is_row and type(kernel.rows) is type(shards) and count(kernel.rows) % count(shards) == 0


def _keeps_to_shard(instance: Instance, buffer: int, shards: Extent, storage: Buffer) -> bool:
    """Whether shard p of an instance touches the p-th shard of a buffer only."""
    if type(storage.elements) is not type(shards) or count(storage.elements) % count(shards):
        return False
    size, kernel = count(storage.elements) // count(shards), instance.kernel
    if not isinstance(kernel, loops.RowKernel | loops.ContractionKernel):
        return False
    contract = loops.contraction_of(kernel)
    for position, argument in enumerate(instance.arguments):
        if argument != buffer:
            continue
        if contract is not None:
            if position == contract.lhs and not _reads_shard(contract, shards, True, size):
                return False
            if position == contract.rhs and not _reads_shard(contract, shards, False, size):
                return False
        moved = [i for i in loops.instructions_of(kernel) if isinstance(i, loops.Load | loops.Store)]
        touching = [i for i in moved if i.access.buffer == position]
        if touching and not (contract is None or _rows_are_in_order(contract)):
            return False
        if not all(_at_own_shard(i, kernel, shards, size) for i in touching):
            return False
    return True


def _reads_shard(contract: loops.TileContract, shards: Extent, is_left: bool, size: int) -> bool:
    """Whether the outer index walks an operand shard by shard, and all that is read for one lies within it."""
    step, across = size, list(contract.outer)
    within: list[loops.ContractedAxis | loops.OuterAxis] = [*contract.k]
    while across and _product(across) != shards:
        within.append(across.pop())
    if not across:
        return False
    for axis in reversed(across):
        if (axis.lhs_stride if is_left else axis.rhs_stride) != step:
            return False
        step *= count(axis.extent)
    inner = [(count(axis.extent), axis.lhs_stride if is_left else axis.rhs_stride) for axis in within]
    inner.append((count(contract.m), contract.lhs_m_stride) if is_left else (contract.n, contract.rhs_n_stride))
    offset = contract.lhs_offset if is_left else contract.rhs_offset
    return offset >= 0 and all(s >= 0 for _, s in inner) and offset + sum((n - 1) * s for n, s in inner) < size


def _rows_are_in_order(contract: loops.TileContract) -> bool:
    """Whether the rows of a shard lie together, and shards follow each other, in the rows of the domain."""
    step = count(contract.m)
    for axis in reversed(contract.outer):
        if axis.row_step != step:
            return False
        step *= count(axis.extent)
    return contract.row_m_step == 1


def _at_own_shard(
    instruction: loops.Instruction, kernel: loops.RowKernel | loops.ContractionKernel, shards: Extent, size: int
) -> bool:
    """Whether the rows of each shard touch a stretch of `size` elements of a buffer, in order."""
    if not isinstance(instruction, loops.Load | loops.Store) or instruction.index is not None:
        return False
    access, rows = instruction.access, count(kernel.rows) // count(shards)
    whole = [term for term in access.rows if term.modulus is None]
    if len(whole) != 1 or rows % whole[0].divisor or rows // whole[0].divisor * whole[0].stride != size:
        return False
    if any(term.modulus is not None and rows % (term.divisor * term.modulus) for term in access.rows):
        return False
    spans = [((term.modulus or rows // term.divisor) - 1) * term.stride for term in access.rows]
    for term in access.columns:
        most = (count(kernel.columns) - 1) // term.divisor
        spans.append((most if term.modulus is None else min(most, term.modulus - 1)) * term.stride)
    return access.offset >= 0 and min(spans) >= 0 and access.offset + sum(spans) < size
