"""Whether a kernel may write a result over a value that it reads."""

from __future__ import annotations

from compiler.graph.ir import Value
from compiler.graph.op import Category
from compiler.loops.ir import Load, StagedKernel, Store
from compiler.ops.scan import Scan
from compiler.schedule.addresses import IDENTITY, IndexMap
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import Group, GroupKind
from compiler.schedule.fusion.storage import Storage
from compiler.schedule.numerics.internal_ops import Insert
from compiler.schedule.to_loops import GroupLowering, LoweredGroup
from compiler.tuning import Tuning
from compiler.types import elements


def writes_last(
    writer: Group, target: Value, result: Value, index: GroupIndex, storage: Storage, tuning: Tuning
) -> bool:
    """Whether the kernel of `writer` reads `target` element for element, no later than `result` overwrites it."""
    maker = index.maker(result)
    if isinstance(maker.node.op, Insert | Scan):
        return False  # other parts of it are written elsewhere, and a carry is written again and again
    lowering = GroupLowering(writer, index, storage, tuning)
    own = (IDENTITY, IndexMap()) if elements(target.type.shape) == 1 else (IDENTITY,)
    levels = lowering.all_levels()
    for member in writer.members:
        for link in member.links:
            if link.source.index == target.index and (
                levels[member.key] > levels[maker.key]
                or member.space is not maker.space
                or link.address not in own
                or writer.kind is GroupKind.ALONE
                or member.node.op.category in (Category.CONTRACTION, Category.INDEXING)
            ):
                return False
    # A later pass computes again what is cheap, from the old value.
    if max(levels.values()) == levels[maker.key]:
        return True
    return not _is_read_behind(lowering.lower("probe"), storage.place(target), storage.place(result))


def _is_read_behind(lowered: LoweredGroup, old: Value, new: Value) -> bool:
    """Whether a kernel loads `old` in a later stage than the first in which it stores `new`."""
    assert isinstance(lowered.kernel, StagedKernel)
    stages = lowered.kernel.stages
    loads, stores = (
        [
            number
            for number, stage in enumerate(stages)
            for instruction in (*stage.body, *stage.after)
            if isinstance(instruction, kind) and lowered.arguments[instruction.access.buffer] == value
        ]
        for kind, value in ((Load, old), (Store, new))
    )
    return max(loads, default=0) > min(stores)
