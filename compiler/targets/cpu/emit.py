"""A kernel to the nest that runs: passes decide its order, and a walk writes it."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from compiler.errors.diagnostics import CompilerBug
from compiler.loops import ir as kernels
from compiler.loops.printer import statement_lines
from compiler.machine import Machine
from compiler.nest.ir import Nest
from compiler.support.numerics import LANES
from compiler.targets.cpu.bf16_products import bf16_of
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.kernel_pass import after_all
from compiler.targets.cpu.nest_passes import PASSES
from compiler.targets.cpu.products import build as products
from compiler.targets.cpu.products import passes as product_passes
from compiler.targets.cpu.products.build_tiles import build_tiles
from compiler.targets.cpu.products.ir import Circumstances
from compiler.targets.cpu.products.tile_blocks import tile_blocks
from compiler.targets.cpu.rows import build as rows
from compiler.targets.cpu.rows import passes as row_passes
from compiler.targets.cpu.rows.columns import build_prefix_sum, build_scatter
from compiler.targets.cpu.specialisation import Specialisation

Transfer: TypeAlias = kernels.FetchKernel | kernels.CollectKernel | kernels.CopyKernel
Undecided: TypeAlias = kernels.ScatterKernel | kernels.PrefixSumKernel | Transfer


def emit(
    what: Specialisation, machine: Machine, batch: int, lasts: bool = False, unread: frozenset[int] = frozenset()
) -> Nest:
    """The code of a kernel. `batch` is the nominal batch, a hint for tile sizes only.

    The right operand of a product that `lasts` is the same from call to call. No kernel reads the buffers `unread`.
    """
    return after_all(PASSES, _built(what, machine, batch, lasts, unread), machine)


def _built(what: Specialisation, machine: Machine, batch: int, lasts: bool, unread: frozenset[int]) -> Nest:
    """The nest that a walk writes of the loops behind the passes of its kind, without asking the machine."""
    kernel = what.kernel
    if isinstance(kernel, kernels.RowKernel | kernels.FlatKernel | kernels.ColumnKernel):
        loops = after_all(row_passes.PASSES, row_passes.definition(kernel, unread), machine)
        return rows.build(_begun(what, loops.lanes), loops)
    k = _begun(what, LANES)
    match kernel:
        case kernels.ContractionKernel(contraction=contract) if contract.in_bf16:
            return build_tiles(k, contract, tile_blocks(contract, batch, bf16_of(machine)))
        case kernels.ContractionKernel():
            product, given = product_passes.definition(kernel, lasts), Circumstances(machine, batch)
            return products.build(k, after_all(product_passes.PASSES, product, given))
        case _:
            return undecided(k, kernel)


def undecided(k: KernelNest, kernel: Undecided) -> Nest:
    """The nest of a kernel about which no pass decides anything."""
    match kernel:
        case kernels.ScatterKernel():
            return build_scatter(k, kernel)
        case kernels.PrefixSumKernel():
            return build_prefix_sum(k, kernel)
        case kernels.FetchKernel() | kernels.CollectKernel() | kernels.CopyKernel():
            raise CompilerBug("emit", "transfers are part of the runner")
        case _:
            assert_never(kernel)


def _begun(what: Specialisation, lanes: int) -> KernelNest:
    return KernelNest(what, statement_lines(what.kernel), lanes)
