"""One fused group of graph nodes becomes one kernel: instructions by stage, and the buffers that it touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import assert_never

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Node, Origin, Value
from compiler.loops import ir as loops
from compiler.ops.elementwise import Add
from compiler.ops.indexing import Gather
from compiler.ops.mathematics import MATHEMATICS
from compiler.ops.reduction import Max, Min, Sum
from compiler.ops.sources import BatchSize, Constant, Iota, RandomUniform
from compiler.schedule.addresses import (
    IndexMap,
    address,
    axis_maps,
    insert_map,
    split_map,
    splits_evenly,
    storage_strides,
)
from compiler.schedule.choose_split import chosen_split
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import CONTRACTIONS, REDUCTIONS, VIEWS, Group, GroupKind, Link, Member
from compiler.schedule.fusion.legality import result_space
from compiler.schedule.fusion.storage import Storage
from compiler.schedule.numerics.internal_ops import CHAINED, Insert, Pick, ProductSum
from compiler.schedule.split import ColumnSplit, FlatSplit, RowSplit, Split
from compiler.schedule.tile_contract import tile_contract
from compiler.support.record import mutable_record, record
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType

_PRODUCTS = {"contraction", "split_contraction", "ordered_contraction", "rounded_contraction"} | {
    op.name for op in CHAINED
}
COSTLY = {"div", "mod", "floordiv", "random_uniform", "threefry", "gather", "pick", *_PRODUCTS} | {
    op.name for op in MATHEMATICS
}
COMBINES = {Sum: loops.Combine.SUM, ProductSum: loops.Combine.SUM, Max: loops.Combine.MAX, Min: loops.Combine.MIN}


@record
class LoweredGroup:
    """A kernel, the value behind each buffer argument (None: scratch), and the outputs of its checked stores.

    `statements` has the origins of each of the kernel's statements.
    """

    kernel: loops.Kernel
    arguments: tuple[Value, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    checked_stores: tuple[str, ...]
    statements: tuple[tuple[Origin, ...], ...] = ()


@mutable_record
class _StageDraft:
    body: list[loops.Instruction] = field(default_factory=list[loops.Instruction])
    after: list[loops.Instruction] = field(default_factory=list[loops.Instruction])


def overwriting_last(instructions: Sequence[loops.Instruction]) -> tuple[loops.Instruction, ...]:
    """The instructions with a store behind all that load from the place that it overwrites."""
    loaded: set[int] = set()
    late: list[loops.Instruction] = []
    order: list[loops.Instruction] = []
    for instruction in reversed(instructions):
        if type(instruction) is loops.Store and instruction.access.buffer in loaded:
            late.append(instruction)
            continue
        if type(instruction) is loops.Load:
            loaded.add(instruction.access.buffer)
        order.append(instruction)
    return (*reversed(order), *reversed(late))


@mutable_record
class GroupLowering:
    """Lowers one group. `checked` names the values to check for NaN and Inf, by their index."""

    group: Group
    index: GroupIndex
    storage: Storage
    tuning: Tuning
    checked: Mapping[int, str] = field(default_factory=dict[int, str])
    split: Split | FlatSplit = field(init=False)
    buffers: list[loops.BufferArgument] = field(default_factory=list[loops.BufferArgument])
    arguments: list[Value] = field(default_factory=list[Value])
    places: dict[int, int] = field(default_factory=dict[int, int])
    prologue: list[loops.Instruction] = field(default_factory=list[loops.Instruction])
    stages: list[_StageDraft] = field(default_factory=list[_StageDraft])
    known: dict[tuple[object, ...], int] = field(default_factory=dict[tuple[object, ...], int])
    levels: dict[int, int] = field(default_factory=dict[int, int])
    scratch: dict[int, int] = field(default_factory=dict[int, int])
    reads: dict[int, Value] = field(default_factory=dict[int, Value])
    writes: list[Value] = field(default_factory=list[Value])
    checked_stores: list[str] = field(default_factory=list[str])
    nodes: dict[int, Node] = field(default_factory=dict[int, Node])  # those that statements compute, by `id` of these
    values: int = 0
    contraction: loops.TileContract | None = None

    def lower(self, name: str) -> LoweredGroup:
        """The kernel of that name."""
        members = self.group.members
        self.split = chosen_split(self.group, self.index, self.tuning)
        self.stages = [_StageDraft() for _ in range(max(self.all_levels().values()) + 2)]
        for member in members:
            if isinstance(member.node.op, CONTRACTIONS):
                self.contract(member)
        for member in members:
            if isinstance(member.node.op, (*REDUCTIONS, Insert)) or member.key in self.storage.stored:
                self.finish(member)
        kernel = self.kernel(name)
        return LoweredGroup(
            kernel,
            tuple(self.arguments),
            tuple(self.reads.values()),
            tuple(self.writes),
            tuple(self.checked_stores),
            statement_origins(kernel, self.nodes),
        )

    def kernel(self, name: str) -> loops.Kernel:
        """The kernel of what has been lowered."""
        stages = tuple(
            loops.Stage(overwriting_last(s.body), overwriting_last(s.after)) for s in self.stages if s.body or s.after
        )
        common = name, tuple(self.buffers), tuple(self.prologue), stages
        if self.contraction is not None:
            return loops.ContractionKernel(*common, self.contraction)
        match self.split:
            case RowSplit(rows=rows, columns=columns):
                return loops.RowKernel(*common, rows, columns)
            case ColumnSplit(outer=outer, rows=rows, columns=columns):
                return loops.ColumnKernel(*common, outer, rows, columns)
            case FlatSplit(elements=elements, columns=columns):
                return loops.FlatKernel(*common, elements, columns)
            case _:
                assert_never(self.split)

    # levels

    def all_levels(self) -> dict[int, int]:
        """The pass in which the value of each member is there: one more after each reduction that it needs."""
        homes, levels = self.index.homes, self.levels
        for member in self.group.members:
            level = 0
            for link in member.links:
                value = link.source.index
                if value in homes and homes[value] == self.group.number:
                    source = self.index.makers[value]
                    found = levels[source.results[0].index] + isinstance(source.op, REDUCTIONS)
                    level = found if found > level else level
            levels[member.key] = level
        return levels

    def is_inside(self, value: Value) -> bool:
        homes = self.index.homes
        return value.index in homes and homes[value.index] == self.group.number

    # instructions

    def fresh(self) -> int:
        self.values += 1
        return self.values - 1

    def argument(self, value: Value) -> int:
        """The buffer argument that holds `value`."""
        value = self.storage.place(value)
        if value.index not in self.places:
            self.places[value.index] = len(self.buffers)
            self.buffers.append(loops.BufferArgument(f"b{len(self.buffers)}", value.type.dtype))
            self.arguments.append(value)
        return self.places[value.index]

    def where(self, stage: int, space: loops.Space) -> list[loops.Instruction]:
        if space is loops.Space.SCALAR:
            return self.prologue
        return self.stages[stage].body if space is loops.Space.FULL else self.stages[stage].after

    def append(self, out: list[loops.Instruction], node: Node, instruction: loops.Instruction) -> None:
        out.append(instruction)
        self.nodes[id(instruction)] = node

    def stage_of(self, level: int, space: loops.Space) -> int:
        """FULL values of level n are made in pass n + 1; the others after pass n."""
        return level + 1 if space is loops.Space.FULL else level

    def divided(
        self, index_map: IndexMap, space: loops.Space
    ) -> tuple[tuple[loops.IndexTerm, ...], tuple[loops.IndexTerm, ...]]:
        """Row and column terms of an address, as `space` counts its index."""
        if space is loops.Space.ROW:
            return index_map.terms, ()
        if isinstance(self.split, ColumnSplit) and space is loops.Space.COLUMN and self.split.outer == 1:
            return (), index_map.terms
        if not splits_evenly(index_map, self.split.columns):
            raise CompilerBug("to_loops", f"rows of {self.split.columns} elements do not divide {index_map}")
        return split_map(index_map, self.split.columns)

    def value_of(self, member: Member, stage: int) -> int:
        """The value of a member, for a use in the pass `stage` or after it."""
        if isinstance(member.node.op, REDUCTIONS):
            return self.reduction(member)
        own = self.stage_of(self.levels[member.key], member.space)
        if member.space is not loops.Space.FULL or own == stage or self.keeps_rows():
            return self.computed(member, own)
        split = self.split
        if isinstance(split, ColumnSplit) or isinstance(split.columns, BatchExtent) or self.is_cheap(member, 4):
            return self.computed(member, stage)
        return self.through_scratch(member, own, stage)

    def keeps_rows(self) -> bool:
        columns = self.split.columns
        return isinstance(self.split, RowSplit) and isinstance(columns, int) and columns <= loops.REGISTER_COLUMNS

    def is_cheap(self, member: Member, budget: int) -> bool:
        if member.node.op.name in COSTLY or budget <= 0:
            return False
        makers = [self.index.maker(link.source) for link in member.links if self.is_inside(link.source)]
        inside = [maker for maker in makers if not isinstance(maker.node.op, REDUCTIONS)]
        return all(self.is_cheap(maker, budget - len(inside)) for maker in inside)

    def through_scratch(self, member: Member, own: int, stage: int) -> int:
        key, node = member.key, member.node
        result = node.results[0]
        columns = (loops.IndexTerm(1, None, 1),)
        if key not in self.scratch:
            self.scratch[key] = len(self.buffers)
            size = self.split.columns
            assert isinstance(size, int)
            self.buffers.append(loops.BufferArgument(f"s{len(self.scratch)}", result.type.dtype, True, size))
            self.arguments.append(result)
            value = self.computed(member, own)
            access = loops.Access(self.scratch[key], 0, (), columns)
            self.append(self.stages[own].body, node, loops.Store(access, value, result.type.dtype, loops.Space.FULL))
        memo = ("scratch", key, stage)
        if memo not in self.known:
            self.known[memo] = self.fresh()
            access = loops.Access(self.scratch[key], 0, (), columns)
            load = loops.Load(self.known[memo], access, result.type.dtype, loops.Space.FULL)
            self.append(self.stages[stage].body, node, load)
        return self.known[memo]

    def reduction(self, member: Member) -> int:
        node, memo = member.node, ("reduction", member.key)
        if memo not in self.known:
            stage = self.levels[member.key] + 1
            operand, *rest = (self.operand(link, loops.Space.FULL, stage) for link in member.links)
            self.known[memo] = self.fresh()
            space = result_space(node, member.space, self.group.split)
            combine = COMBINES[type(node.op)]  # type: ignore[index]
            dtype = node.results[0].type.dtype
            reduce = loops.Reduce(self.known[memo], combine, operand, dtype, space, rest[0] if rest else None)
            self.append(self.stages[stage].body, node, reduce)
        return self.known[memo]

    def computed(self, member: Member, stage: int) -> int:
        node, space, links = member.node, member.space, member.links
        memo = ("node", member.key, stage)
        if memo in self.known:
            return self.known[memo]
        result = node.results[0]
        out = self.where(stage, space)
        if isinstance(node.op, CONTRACTIONS):
            assert self.contraction is not None
            value = self.fresh()
            tile = loops.Access(self.contraction.tile, 0)
            self.append(out, node, loops.Load(value, tile, result.type.dtype, loops.Space.FULL))
        elif isinstance(node.op, Gather | Pick):
            value = self.gathered(node, links, space, stage)
        elif isinstance(node.op, RandomUniform):
            value = self.random(member, stage)
        elif isinstance(node.op, VIEWS) or node.op.name == "copy":
            value = self.operand(links[0], space, stage)
        else:
            operands = tuple(self.operand(link, space, stage) for link in links)
            value = self.fresh()
            dtypes = tuple(o.type.dtype for o in node.operands)
            self.append(out, node, loops.Compute(value, node.op, operands, dtypes, result.type.dtype, space))
        self.known[memo] = value
        return value

    def operand(self, link: Link, space: loops.Space, stage: int) -> int:
        source = link.source
        if self.is_inside(source):
            return self.value_of(self.index.maker(source), stage)
        producer = self.index.makers.get(source.index)
        match producer.op if producer is not None else None:
            case Constant(value=value, dtype=dtype):
                memo = ("literal", repr(value), dtype)
                return self.memoised(memo, self.prologue, lambda r: loops.Literal(r, value, dtype))
            case BatchSize():
                return self.memoised(("batch",), self.prologue, loops.BatchCount)
            case Iota(axis=axis, dtype=dtype):
                return self.position(link.axes[axis], dtype, space, stage)
            case _:
                return self.load(link, space, stage)

    def memoised(
        self, memo: tuple[object, ...], out: list[loops.Instruction], make: Callable[[int], loops.Instruction]
    ) -> int:
        if memo not in self.known:
            self.known[memo] = self.fresh()
            out.append(make(self.known[memo]))
        return self.known[memo]

    def position(self, index_map: IndexMap, dtype: DType, space: loops.Space, stage: int) -> int:
        rows, columns = self.divided(index_map, space)
        out = self.where(stage, space)
        memo = ("position", index_map, dtype, space, stage)
        return self.memoised(memo, out, lambda r: loops.Position(r, index_map.offset, rows, columns, dtype, space))

    def load(self, link: Link, space: loops.Space, stage: int) -> int:
        source = self.storage.place(link.source)
        self.reads[source.index] = source
        buffer = self.argument(source)
        if not link.address.terms and space is not loops.Space.SCALAR:
            space = loops.Space.SCALAR
        rows, columns = self.divided(link.address, space) if space is not loops.Space.SCALAR else ((), ())
        access = loops.Access(buffer, link.address.offset, rows, columns)
        narrow = space
        if (
            space is loops.Space.FULL
            and not columns
            and not isinstance(self.split, ColumnSplit)
            and self.group.kind is GroupKind.ELEMENTS
        ):
            narrow, stage = loops.Space.ROW, 0
        home = stage if narrow is not loops.Space.SCALAR else -1
        memo = ("load", source.index, link.address, link.edges, narrow, home)
        out = self.where(stage, narrow)
        edges = tuple(replace(edge, terms=self.divided(IndexMap(0, edge.terms), space)[0]) for edge in link.edges)
        return self.memoised(memo, out, lambda r: loops.Load(r, access, source.type.dtype, narrow, edges=edges))

    def gathered(self, node: Node, links: Sequence[Link], space: loops.Space, stage: int) -> int:
        op = node.op
        table, index = links
        shape = table.source.type.shape
        extent = shape[op.axis] if isinstance(op, Gather) else 0
        stride = storage_strides(shape)[op.axis] if isinstance(op, Gather) else 1
        self.reads[table.source.index] = table.source
        place = self.operand(index, space, stage)
        rows, columns = self.divided(table.address, space)
        limit = 0 if isinstance(extent, BatchExtent) else extent
        value = self.fresh()
        access = loops.Access(self.argument(table.source), table.address.offset, rows, columns)
        load = loops.Load(value, access, node.results[0].type.dtype, space, place, stride, limit)
        self.append(self.where(stage, space), node, load)
        return value

    def random(self, member: Member, stage: int) -> int:
        node, space, op = member.node, member.space, member.node.op
        assert isinstance(op, RandomUniform)
        keys = [self.operand(link, loops.Space.SCALAR, stage) for link in member.links]
        shape = node.results[0].type.shape
        place = self.position(address(shape, axis_maps(shape)), DType.I64, space, stage)
        out = self.where(stage, space)
        for first in keys[2:]:
            place, within = self.fresh(), place
            wide = (DType.I64, DType.I64)
            self.append(out, node, loops.Compute(place, Add(), (within, first), wide, DType.I64, space))
        value = self.fresh()
        self.append(out, node, loops.Random(value, place, keys[0], keys[1], op.stream, space))
        return value

    def finish(self, member: Member) -> None:
        """Make a value that must be there after the kernel, and store it."""
        node = member.node
        space = result_space(node, member.space, self.group.split)
        level = self.levels[member.key]
        if isinstance(node.op, REDUCTIONS):
            value, stage = self.reduction(member), level + 1
        elif isinstance(node.op, Insert):
            stage = self.stage_of(level, space)
            value = self.operand(member.links[0], space, stage)
        else:
            stage = self.stage_of(level, space)
            value = self.value_of(member, stage)
        result = node.results[0]
        if result.index not in self.storage.stored:
            return
        target = self.storage.place(result)
        shape = result.type.shape
        index_map = insert_map(node) if isinstance(node.op, Insert) else address(shape, axis_maps(shape))
        rows, columns = self.divided(index_map, space)
        access = loops.Access(self.argument(target), index_map.offset, rows, columns)
        check = self.checked.get(result.index)
        if check is not None:
            self.checked_stores.append(check)
        self.writes.append(target)
        store = loops.Store(access, value, result.type.dtype, space, check)
        if isinstance(node.op, Insert) and node.op.axis is not None:
            store = self.placed(member, store, node.op.axis, stage)
        self.append(self.where(stage, space), node, store)

    def placed(self, member: Member, store: loops.Store, axis: int, stage: int) -> loops.Store:
        """A store at the place along `axis` that the third operand says."""
        shape = member.node.results[0].type.shape
        extent = shape[axis]
        assert isinstance(extent, int)
        index = self.operand(member.links[1], loops.Space.SCALAR, stage)
        return replace(store, index=index, index_stride=storage_strides(shape)[axis], index_extent=extent)

    def contract(self, member: Member) -> None:
        node, (left, right) = member.node, member.links
        for link in (left, right):
            source = self.storage.place(link.source)
            self.reads[source.index] = source
        tile = len(self.buffers)
        self.buffers.append(loops.BufferArgument("tile", node.results[0].type.dtype, True, 0))
        self.arguments.append(node.results[0])
        lhs, rhs = self.argument(left.source), self.argument(right.source)
        self.contraction = tile_contract(node, left, right, lhs, rhs, tile, self.tuning)
        self.nodes[id(self.contraction)] = node


def statement_origins(kernel: loops.Kernel, nodes: Mapping[int, Node]) -> tuple[tuple[Origin, ...], ...]:
    """The origins of the statements, in the order of `statements_of`; `nodes` has the node of a statement by its `id`.

    A statement without a node, such as the load of an operand, serves the nodes that use its value.
    """
    served: dict[int, tuple[Origin, ...]] = {}
    found: list[tuple[Origin, ...]] = []
    for statement in reversed(loops.statements_of(kernel)):
        node = nodes.get(id(statement))
        result = -1 if isinstance(statement, loops.Store | loops.TileContract) else statement.result
        origins = served.get(result, ()) if node is None else node.origins
        found.append(origins)
        for value in loops.used_by(statement):
            known = served.get(value, ())
            served[value] = tuple(dict.fromkeys((*known, *origins))) if known else origins
    return tuple(reversed(found))
