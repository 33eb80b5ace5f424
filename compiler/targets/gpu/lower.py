"""A schedule to the execution plan and the LLVM text of its kernels, whose items are blocks of threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compiler.graph.ir import Graph
from compiler.loops import ir as kernels
from compiler.loops.printer import statement_lines
from compiler.machine import Machine
from compiler.nest.ir import PIECE_BYTES, Items, Nest
from compiler.schedule.ir import Arena, Instance, Schedule
from compiler.support.numerics import LANES
from compiler.targets.cpu.emit import undecided
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.kernel_pass import after_all
from compiler.targets.cpu.lower import Function, Lowering
from compiler.targets.cpu.passes_on_text import verified_tiles
from compiler.targets.cpu.products import build as products
from compiler.targets.cpu.products import passes as product_passes
from compiler.targets.cpu.products.ir import Circumstances
from compiler.targets.cpu.rows import build as rows
from compiler.targets.cpu.rows import passes as row_passes
from compiler.targets.cpu.specialisation import Specialisation
from compiler.targets.gpu.block_products import build_block_product
from compiler.targets.gpu.block_shapes import shape_for
from compiler.targets.gpu.column_blocks import blocks_of_columns, build_column_blocks, is_in_chains
from compiler.targets.gpu.copied_operands import STAGES, bytes_of_stages, copied_shape
from compiler.targets.gpu.loop_kernels import with_loop_kernels
from compiler.targets.gpu.loop_text import LoopPlan
from compiler.targets.gpu.matrix_products import bytes_of_sums
from compiler.targets.gpu.passes import PRODUCT_PASSES, ROW_PASSES
from compiler.targets.gpu.threads import blocks_of, for_threads, items_of
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import Manifest


def lower(
    graph: Graph,
    plan: Schedule,
    machine: Machine,
    batch: int,
    text_of: Callable[[Nest], str],
    begin: Callable[[str], None] | None = None,
    keeps_nests: bool = False,
    loop_text_of: Callable[[LoopPlan], str] | None = None,
) -> Lowered:
    """The execution plan of a schedule and the text of its kernels, by `text_of`; `begin` is given each one.

    With `loop_text_of`, loops have kernels, too.
    """
    lowering = _DeviceLowering(graph, plan, machine, batch, begin, keeps_nests)
    lowering.text_of, lowering.loop_text_of = text_of, loop_text_of
    return lowering.run()


class _DeviceLowering(Lowering):
    text_of: Callable[[Nest], str]
    loop_text_of: Callable[[LoopPlan], str] | None
    whole: dict[str, Nest]  # by symbol, where loops are kernels

    def run(self) -> Lowered:
        self.whole = {}
        lowered = super().run()
        if self.loop_text_of is None:
            return lowered
        found = with_loop_kernels(lowered, self.whole, self.loop_text_of)
        for symbol in dict.fromkeys(kernel.symbol for kernel in found.manifest.loop_kernels):
            if self.begin is not None:
                self.begin(found.texts[symbol])
        return found

    def function(self, nest: Nest) -> Function:
        made = super().function(nest)
        if self.loop_text_of is not None and self.plan.loops:
            self.whole[made.symbol] = nest
        return made

    def manifest(self) -> Manifest:
        """Each thread has its scratch in its own frame, so a call is given none."""
        return replace(super().manifest(), scratch_bytes=0)

    def nest_of(self, what: Specialisation, keeps: bool, unread: frozenset[int]) -> Nest:
        return for_threads(vectors(what, self.machine, self.batch), what.kernel)

    def tiles_of(self, what: Specialisation, keeps: bool, unread: frozenset[int]) -> str:
        contract = kernels.contraction_of(what.kernel)
        if contract is not None and (shape := shape_for(contract, self.batch)):
            copied = copied_shape(contract, shape) if what.is_in_pieces else None
            size = shape.bytes(contract.dtype) if copied is None else bytes_of_stages(contract, copied)
            size = size if contract.rounding is None else max(size, bytes_of_sums(shape))
            how = "" if contract.rounding is None else f", multiplied by warps in {contract.rounding.value}"
            how += "" if copied is None else f", copied ahead in {STAGES} stages"
            return f"{(copied or shape).description}{how}, {size} bytes of shared memory\n"
        return verified_tiles(what.kernel, self.machine, self.batch, False, unread, ROW_PASSES, PRODUCT_PASSES)

    def specialised_for(self, instance: Instance) -> Specialisation:
        found, contract = self.specialised(instance.kernel), kernels.contraction_of(instance.kernel)
        if contract is None or not self.machine.copies_ahead:
            return found
        if not all(self.begins_with_pieces(instance, operand) for operand in (contract.lhs, contract.rhs)):
            return found
        return replace(found, key=(*found.key, "in pieces"), is_in_pieces=True)

    def begins_with_pieces(self, instance: Instance, position: int) -> bool:
        """Whether an argument is a multiple of PIECE_BYTES, for any number of rows and at each step of loops."""
        number = instance.arguments[position]
        size, place = self.plan.buffers[number].dtype.size, self.plan.places[number]
        steps = [step * size for step in instance.strides[position]] if instance.strides else []
        if place.arena is not Arena.TENSORS:  # each of which is a block of the device's memory
            steps.append(place.offset)
        return place.arena is not Arena.CONTROL and not any(step % PIECE_BYTES for step in steps)

    def llvm_of(self, nest: Nest) -> str:
        return self.text_of(nest)

    def items(self, instance: Instance, nest: Nest) -> Items:
        if isinstance(instance.kernel, kernels.ColumnKernel) and is_in_chains(instance.kernel):
            return blocks_of_columns(instance.kernel)
        if isinstance(instance.kernel, kernels.RowKernel | kernels.FlatKernel | kernels.ColumnKernel):
            return blocks_of(items_of(instance.kernel, nest))
        return nest.items


def vectors(what: Specialisation, machine: Machine, batch: int) -> Nest:
    """The nest of a kernel over vectors of LANES elements, behind the passes for a device."""
    kernel, k = what.kernel, KernelNest(what, statement_lines(what.kernel), LANES)
    match kernel:
        case kernels.ColumnKernel() if is_in_chains(kernel):
            return build_column_blocks(k, kernel)
        case kernels.RowKernel() | kernels.FlatKernel() | kernels.ColumnKernel():
            return rows.build(k, after_all(ROW_PASSES, row_passes.definition(kernel), machine))
        case kernels.ContractionKernel() if shape := shape_for(kernel.contraction, batch):
            copied = copied_shape(kernel.contraction, shape) if what.is_in_pieces else None
            return build_block_product(k, kernel, copied or shape, copied is not None)
        case kernels.ContractionKernel():
            product, given = product_passes.definition(kernel, lasts=False), Circumstances(machine, batch)
            return products.build(k, after_all(PRODUCT_PASSES, product, given))
        case _:
            return undecided(k, kernel)
