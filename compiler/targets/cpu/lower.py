"""A schedule to the execution plan and the LLVM text of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from hashlib import sha256

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import PERSISTENT, Graph, Role
from compiler.graph_passes.lay_out_pairs import most_rows
from compiler.loops import ir as kernels
from compiler.machine import Machine
from compiler.nest.arguments import BufferPointer, FlagPointer, SharedPointer, StreamNumber
from compiler.nest.ir import Items, Nest
from compiler.schedule.addresses import count
from compiler.schedule.ir import CONTROLLED, Arena, Instance, Loop, Schedule
from compiler.schedule.memory.plan_memory import size_in_arena
from compiler.schedule.order.threads import shared_rows
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.emit import emit
from compiler.targets.cpu.iteration_space import is_row_blocked, items_of
from compiler.targets.cpu.runner import BARRIER, INPUT, LITERAL, OUTPUT, PARALLEL, QUEUE_BITS, SEED, SETTINGS, STEP
from compiler.targets.cpu.specialisation import Key, Specialisation, number_of, rows_divided, specialisation
from compiler.targets.cpu.tiles import tile_shape
from compiler.targets.llvm.to_llvm import to_llvm
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import (
    BATCH_ARENA,
    CHAIN,
    CHAIN_END,
    CONTROL_ARENA,
    END,
    FIRST_TENSOR,
    FLAGS,
    LOOP,
    SHARED_ARENA,
    STATIC_ARENA,
    Entry,
    InputSlot,
    Manifest,
    ResultSlot,
    TensorSpec,
)
from compiler.types import BatchExtent, Extent, size_at

CONTROL = (CONTROL_ARENA, 0, 0)


@record
class Call:
    """A function, its items, its arguments, and the loops around it; one `is_once` lasts over steps."""

    symbol: str
    items: Items
    first: int
    arguments: int
    loops: tuple[int, ...]
    is_once: bool = False


def lower(
    graph: Graph,
    plan: Schedule,
    machine: Machine,
    batch: int,
    begin: Callable[[str], None] | None = None,
    keeps_nests: bool = False,
) -> Lowered:
    """The execution plan of a schedule and the LLVM text of its kernels; `begin` is given each text as it is made."""
    return Lowering(graph, plan, machine, batch, begin, keeps_nests).run()


@record
class Function:
    """The nest of a function, whose body is gone once its text is there, and the function that runs before it."""

    symbol: str
    nest: Nest
    before: Function | None


class Lowering:
    """A schedule on its way; another target has other nests, texts and items for the same execution plan."""

    def __init__(
        self,
        graph: Graph,
        plan: Schedule,
        machine: Machine,
        batch: int,
        begin: Callable[[str], None] | None,
        keeps_nests: bool,
    ) -> None:
        self.graph, self.plan, self.machine, self.batch, self.begin = graph, plan, machine, batch, begin
        self.keeps_nests = keeps_nests
        self.tensors = tensor_specs(graph)
        self.table = ExecutionPlan(plan.loops)
        self.once: list[Entry] = []
        self.instances: list[tuple[str, Instance]] = []
        self.firsts: list[int] = []
        self.relocations: list[tuple[int, int, int]] = []
        self.functions: dict[str, int] = {}
        self.nests: dict[str, Nest] = {}
        self.tiles: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.specialisations: dict[int, Specialisation] = {}  # by `id` of the kernel
        self.codes: dict[tuple[Key, bool, frozenset[int]], Function] = {}
        self.checked_stores: list[str] = []
        self.scratch, self.scratch_batch, self.shared = 64, 0, 0
        self.control_slots = control_slots(graph)
        self.lasting_bytes = 0  # panels that stay packed, behind everything else in the static arena
        self.advances: list[tuple[int, ...]] = []
        self.passed_on = {b: self.bytes_of_shard(b, s.shards) for s in plan.chains for b in s.passed_on}
        self.written = {
            k: {b for i in plan.instances if k in i.loops for b in i.writes} for k in range(len(plan.loops))
        }
        once, later = ({b for i in plan.instances if i.once is is_once for b in i.writes} for is_once in (True, False))
        self.lasting = ({b.index for b in plan.buffers if b.role in PERSISTENT} | once) - later
        self.left = self.left_results()
        self.first_result = FIRST_TENSOR + len(self.tensors) + len(plan.inputs)
        self.bound = {item.buffer: k for k, item in enumerate(plan.inputs, FIRST_TENSOR + len(self.tensors))}
        for k, result in enumerate(plan.results, self.first_result):
            if plan.places[result.buffer].arena in (Arena.STATIC, Arena.BATCH) and result.buffer not in once:
                self.bound.setdefault(result.buffer, k)

    def run(self) -> Lowered:
        begins = {chain.first: chain.shards for chain in self.plan.chains}
        ends = {chain.last: chain.shards for chain in self.plan.chains}
        for place, (instance, barrier) in enumerate(zip(self.plan.instances, self.plan.barriers, strict=True)):
            if place in begins:
                self.table.add(Entry(CHAIN, 0, begins[place], 1, 1, BARRIER * barrier), ())
            flags = PARALLEL * instance.parallel | self.plan.queue(place) << QUEUE_BITS
            for call, meets in self.calls(instance):
                self.add(call, instance, flags | BARRIER * (meets or (barrier and place not in begins)))
            if place in ends:
                self.table.add(Entry(CHAIN_END, 0, ends[place], 1, 1, 0), ())
        named = self.texts, self.nests, self.tiles
        return Lowered(self.manifest(), *named, tuple(self.instances), tuple(self.firsts), self.plan)

    def add(self, call: Call, instance: Instance, flags: int) -> None:
        """Put a call of an instance into the execution plan."""
        function = self.functions.setdefault(call.symbol, len(self.functions))
        moved = call.arguments if call.loops or self.passes_on(instance) else 0
        entry = Entry(function, call.first, call.items.extent, call.items.chunk, call.items.factor, flags, moved)
        if call.is_once or instance.once:
            self.once.append(entry)
        elif len(call.loops) < len(instance.loops):
            self.table.add_before(entry, instance.loops[: len(call.loops) + 1])
        else:
            self.table.add(entry, call.loops)
        self.instances.append((call.symbol, instance))
        self.firsts.append(call.first)

    def manifest(self) -> Manifest:
        settings = [i for i in self.graph.inputs if i.role is Role.SETTING]
        return Manifest(
            self.plan.name,
            self.batch,
            tuple(self.functions),
            (*self.once, *self.table.entries(len(self.once))),
            len(self.once),
            tuple(self.relocations),
            self.tensors,
            any(output.updates is not None for output in self.graph.outputs),
            tuple(i.name for i in settings),
            tuple(self.input_slot(k) for k in range(len(self.plan.inputs))),
            tuple(self.result_slot(k) for k in range(len(self.plan.results))),
            tuple(self.checked_stores),
            self.plan.static_bytes + self.lasting_bytes,
            self.plan.batch_bytes,
            max((size_in_arena(b) for b in self.plan.buffers if isinstance(b.elements, BatchExtent)), default=0),
            self.scratch,
            self.scratch_batch,
            self.shared,
            tuple(i.value.type.dtype for i in settings),
            self.advance_table(),
            most_rows(self.graph, self.batch),
            shared_rows(self.plan),
            max((rows_divided(what) for what in self.specialisations.values()), default=0),
        )

    def left_results(self) -> set[int]:
        """The results that no kernel reads, and that no cache of a core holds when the caller comes to them."""
        read = {b for i in self.plan.instances for b in i.reads if not isinstance(i.kernel, kernels.CollectKernel)}
        least = self.machine.tuning.streamed_caches * self.machine.l2_bytes
        unread = [self.plan.buffers[r.buffer] for r in self.plan.results if r.buffer not in read]
        return {b.index for b in unread if size_at(b.elements, self.batch) * b.dtype.size >= least}

    def bytes_of_shard(self, buffer: int, shards: Extent) -> int:
        storage = self.plan.buffers[buffer]
        return count(storage.elements) // count(shards) * storage.dtype.size

    def input_slot(self, number: int) -> InputSlot:
        item = self.plan.inputs[number]
        place = self.plan.places[item.buffer]
        size = item.dtype.size
        reach = LANES * size + max((self.panel_reach(i, item.buffer) for i in self.plan.instances), default=0) * size
        return InputSlot(item.name, item.dtype, item.row_elements * size, item.batch_axis, place.offset, reach)

    def panel_reach(self, instance: Instance, buffer: int) -> int:
        """How many elements behind a right operand the last panel of a product would reach."""
        contract = kernels.contraction_of(instance.kernel)
        if contract is None or instance.arguments[contract.rhs] != buffer:
            return 0
        return -contract.n % (tile_shape(contract, self.machine, self.batch).vectors * LANES)

    def result_slot(self, number: int) -> ResultSlot:
        item = self.plan.results[number]
        is_bound = self.bound.get(item.buffer) == self.first_result + number
        return ResultSlot(item.name, item.dtype, item.shape, self.plan.places[item.buffer].offset if is_bound else None)

    def calls(self, instance: Instance) -> list[tuple[Call, bool]]:
        """The calls of an instance; for each, whether it needs a barrier of its own."""
        if isinstance(instance.kernel, kernels.FetchKernel | kernels.CollectKernel | kernels.CopyKernel):
            return [(self.transfer(instance, instance.kernel), False)]
        level = self.level_of_panels(instance)
        code = self.code(instance, keeps=level < len(instance.loops))
        panels = (SHARED_ARENA, 0, 0)
        nest = code.nest
        if nest.lasts:
            panels = (STATIC_ARENA, self.plan.static_bytes + self.lasting_bytes, 0)
            self.lasting_bytes += -(-nest.shared_bytes // 64) * 64
        calls = [(self.call(instance, code, panels), nest.shared_bytes > 0 and not nest.lasts)]
        if code.before is not None:
            before = self.call(instance, code.before, panels)
            loops = instance.loops[: max(level, 0)] if nest.lasts else instance.loops
            calls.insert(0, (replace(before, loops=loops, is_once=nest.lasts and level < 0), True))
        return calls

    def level_of_panels(self, instance: Instance) -> int:
        """In how many of its loops the right operand of a product changes; -1 where it is the same for all steps."""
        contract = kernels.contraction_of(instance.kernel)
        if contract is None:
            return len(instance.loops)
        buffer, strides = instance.arguments[contract.rhs], ()
        if instance.strides:
            strides = instance.strides[contract.rhs]
        changing = [k for k, loop in enumerate(instance.loops) if buffer in self.written[loop] or strides[k]]
        if changing:
            return changing[-1] + 1
        return -1 if buffer in self.lasting else 0

    def transfer(
        self, instance: Instance, kernel: kernels.FetchKernel | kernels.CollectKernel | kernels.CopyKernel
    ) -> Call:
        """The runner's function that moves an instance's rows, its items, and its first argument."""
        first, size = len(self.relocations), kernel.buffers[0].dtype.size
        if isinstance(kernel, kernels.CopyKernel):
            target, source = instance.arguments
            self.relocations += [self.pointer(target), self.pointer(source), bytes_of(kernel.elements, size)]
            self.move(instance, {first: 0, first + 1: 1}, ())
            return Call("dlc_copy", Items(1), first, 3, instance.loops)
        buffer, bytes_ = self.pointer(instance.arguments[0]), bytes_of(kernel.columns, size)
        if isinstance(kernel, kernels.FetchKernel):
            given = (INPUT, instance.data, 0)
            stride = (INPUT, len(self.plan.inputs) + instance.data, 0)
            self.relocations += [buffer, given, bytes_, stride, CONTROL]
            return Call("dlc_fetch", Items(kernel.rows), first, 4, ())
        given = (OUTPUT, instance.data, 0)
        rows = number(kernel.rows)
        self.relocations += [buffer, given, bytes_, rows, CONTROL]
        return Call("dlc_collect", Items(kernel.rows), first, 5, ())

    def call(self, instance: Instance, code: Function, panels: tuple[int, int, int]) -> Call:
        """A part of an instance's code; packed panels lie at `panels`."""
        first, kernel = len(self.relocations), instance.kernel
        streams = [i.stream for i in kernels.instructions_of(kernel) if isinstance(i, kernels.Random)]
        moved: dict[int, int] = {}  # positions of arguments by the number of their relocation
        drawn: list[int] = []
        for place, argument in enumerate(code.nest.arguments, first):
            match argument:
                case BufferPointer(position=position):
                    moved[place] = position
                    found = self.pointer(instance.arguments[position])
                case SharedPointer():
                    found = panels
                case StreamNumber(position=position):
                    drawn.append(place)
                    found = (LITERAL, streams[position], 0)
                case FlagPointer(position=position):
                    found = (FLAGS, len(self.checked_stores), 0)
                    self.checked_stores.append(instance.checked_stores[position])
                case _:
                    found = number(number_of(argument, self.specialised(kernel)))
            self.relocations.append(found)
        items = self.items(instance, code.nest)
        self.move(instance, moved, drawn)
        return Call(code.symbol, items, first, len(self.relocations) - first, instance.loops)

    def move(self, instance: Instance, moved: Mapping[int, int], drawn: Sequence[int]) -> None:
        """Let the arguments of an instance follow the loops around it: a loop that runs backward starts at its end."""
        self.advances += [()] * (len(self.relocations) - len(self.advances))
        if self.passes_on(instance):
            for k, position in moved.items():  # of what a chain passes on, all shards have the place of the first
                if (buffer := instance.arguments[position]) in self.passed_on:
                    self.advances[k] = (-self.passed_on[buffer],)
        if not instance.loops:
            return
        loops = [self.plan.loops[number] for number in instance.loops]
        steps = {k: [loop.stream_step for loop in loops] for k in drawn}
        for k, position in moved.items():
            buffer = self.plan.buffers[instance.arguments[position]]
            steps[k] = [stride * buffer.dtype.size for stride in instance.strides[position]]
        for k, by_place in steps.items():
            kind, base, slope = self.relocations[k]
            start = sum(step * loop.places()[0] for step, loop in zip(by_place, loops, strict=True) if loop.steps)
            self.relocations[k] = (kind, base + start, slope)
            self.advances[k] = tuple(-s if loop.reverse else s for s, loop in zip(by_place, loops, strict=True))

    def passes_on(self, instance: Instance) -> bool:
        """Whether an instance uses what its chain passes on; one that fills such a buffer stands outside."""
        return not instance.once and not {*self.passed_on}.isdisjoint(instance.arguments)

    def advance_table(self) -> tuple[tuple[int, ...], ...]:
        """A line for each relocation, as wide as loops are deep, or a chain is; nothing where there are none."""
        deepest = max((len(line) for line in self.advances), default=0) or len(self.plan.chains[:1])
        self.advances += [()] * (len(self.relocations) - len(self.advances))
        return tuple((*line, *(0,) * (deepest - len(line))) for line in self.advances) if deepest else ()

    def code(self, instance: Instance, keeps: bool) -> Function:
        """The code of an instance, made once for all of the same kernel.

        `keeps`: the right operand of a product is the same for more than one call.
        """
        what = self.specialised_for(instance)
        unread = frozenset([k for k, b in enumerate(instance.arguments) if b in self.left])
        if unread and not is_row_blocked(instance.kernel, self.machine.tuning):
            unread = frozenset[int]()
        key = (what.key, keeps, unread)
        code = self.codes.get(key)
        if code is None:
            nest = self.nest_of(what, keeps, unread)
            code = self.codes[key] = self.function(nest)
            if self.keeps_nests:
                self.tiles[code.symbol] = self.tiles_of(what, keeps, unread)
            self.shared = max(self.shared, 0 if nest.lasts else nest.shared_bytes)
            self.scratch = max(self.scratch, -(-(nest.scratch_bytes + 64) // 64) * 64)
            self.scratch_batch = max(self.scratch_batch, nest.scratch_batch_bytes)
        return code

    def nest_of(self, what: Specialisation, keeps: bool, unread: frozenset[int]) -> Nest:
        """The nest that runs."""
        return emit(what, self.machine, self.batch, keeps, unread)

    def tiles_of(self, what: Specialisation, keeps: bool, unread: frozenset[int]) -> str:
        """The tiles or rows that a kernel is cut into, as text."""
        from compiler.targets.cpu.passes_on_text import verified_tiles  # few programs are verified or shown

        return verified_tiles(what.kernel, self.machine, self.batch, keeps, unread)

    def llvm_of(self, nest: Nest) -> str:
        """The text of a nest."""
        return to_llvm(nest, self.machine)

    def items(self, instance: Instance, nest: Nest) -> Items:
        """The items of an instance, whose code may serve kernels of other extents."""
        kernel = instance.kernel
        if isinstance(kernel, kernels.RowKernel | kernels.FlatKernel | kernels.ColumnKernel):
            return items_of(kernel, self.machine)
        return nest.items

    def function(self, nest: Nest) -> Function:
        """Write the text of a function and of the one before it; the symbol is the hash of the text."""
        before = None if nest.before is None else self.function(nest.before)
        text = self.llvm_of(nest)
        symbol = "k_" + sha256(text.encode()).hexdigest()[:20]
        self.texts[symbol] = text.replace("KERNEL", symbol)
        if self.keeps_nests:
            self.nests[symbol] = nest
        if self.begin is not None:
            self.begin(self.texts[symbol])
        return Function(symbol, replace(nest, body=[], before=None), before)

    def specialised(self, kernel: kernels.Kernel) -> Specialisation:
        """The specialisation of a kernel of the plan, worked out once."""
        if id(kernel) not in self.specialisations:
            self.specialisations[id(kernel)] = specialisation(kernel, self.machine)
        return self.specialisations[id(kernel)]

    def specialised_for(self, instance: Instance) -> Specialisation:
        """That of an instance's kernel, for the places of its buffers."""
        return self.specialised(instance.kernel)

    def pointer(self, buffer: int) -> tuple[int, int, int]:
        if buffer in self.bound:
            return (self.bound[buffer], 0, 0)
        place = self.plan.places[buffer]
        match place.arena:
            case Arena.TENSORS:
                return (FIRST_TENSOR + place.offset, 0, 0)
            case Arena.STATIC:
                return (STATIC_ARENA, place.offset, 0)
            case Arena.BATCH:
                return (BATCH_ARENA, 0, place.offset)
            case Arena.CONTROL:
                return (CONTROL_ARENA, 8 * self.control_slots[place.offset], 0)


def control_slots(graph: Graph) -> list[int]:
    """The slot in the control block of each controlled input, in order."""
    settings = [i.name for i in graph.inputs if i.role is Role.SETTING]
    fixed = {Role.SEED: SEED, Role.STEP: STEP}
    controlled = [i for i in graph.inputs if i.role in CONTROLLED]
    return [fixed[i.role] if i.role in fixed else SETTINGS + settings.index(i.name) for i in controlled]


def number(extent: Extent) -> tuple[int, int, int]:
    if isinstance(extent, BatchExtent):
        return (LITERAL, 0, extent.multiple)
    return (LITERAL, extent, 0)


def bytes_of(extent: Extent, size: int) -> tuple[int, int, int]:
    """The bytes of so many elements of a size."""
    kind, base, slope = number(extent)
    return (kind, base * size, slope * size)


def tensor_specs(graph: Graph) -> tuple[TensorSpec, ...]:
    specs: list[TensorSpec] = []
    for entry in graph.inputs:
        if entry.role in PERSISTENT:
            shape = tuple(e for e in entry.value.type.shape if isinstance(e, int))
            if len(shape) != entry.value.type.rank:
                raise CompilerBug("manifest", f"the tensor '{entry.name}' depends on the batch")
            specs.append(TensorSpec(entry.name, entry.role, entry.value.type.dtype, shape))
    return tuple(specs)


@mutable_record
class _Block:
    """The lines inside a loop, and the loops among them."""

    loop: int
    items: list[Entry | _Block] = field(default_factory=list["Entry | _Block"])

    def inner(self, loop: int) -> _Block:
        """The block of `loop`, which stands last here."""
        last = self.items[-1] if self.items else None
        if not isinstance(last, _Block) or last.loop != loop:
            last = _Block(loop)
            self.items.append(last)
        return last


class ExecutionPlan:
    """Takes lines in order, each with the loops around it."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops
        self._root = _Block(-1)

    def add(self, entry: Entry, path: Sequence[int]) -> None:
        """Append a line inside the loops of `path`, the outermost first."""
        self._block(path).items.append(entry)

    def add_before(self, entry: Entry, path: Sequence[int]) -> None:
        """Put a line just before the innermost loop of `path`, in which the next line will stand."""
        outer = self._block(path[:-1])
        outer.inner(path[-1])
        outer.items.insert(len(outer.items) - 1, entry)

    def entries(self, first: int) -> tuple[Entry, ...]:
        """All lines, for a table in which `first` others stand before them."""
        lines: list[Entry] = []
        self._write(self._root, lines, first)
        begin = 0
        for number, line in enumerate(lines):
            if line.function == CHAIN:
                begin = number
            elif line.function == CHAIN_END:
                lines[begin] = replace(lines[begin], first_argument=first + number)
                lines[number] = replace(line, first_argument=first + begin)
        return tuple(lines)

    def _block(self, path: Sequence[int]) -> _Block:
        block = self._root
        for loop in path:
            block = block.inner(loop)
        return block

    def _write(self, block: _Block, lines: list[Entry], first: int) -> None:
        for item in block.items:
            if isinstance(item, Entry):
                lines.append(item)
                continue
            steps, begin = self._loops[item.loop].steps, len(lines)
            lines.append(Entry(LOOP, 0, steps, 1, 1, 0))
            self._write(item, lines, first)
            lines[begin] = Entry(LOOP, first + len(lines), steps, 1, 1, 0)
            lines.append(Entry(END, first + begin, steps, 1, 1, 0))
