"""The passes over single kernels, on text: one of them, or all of them with a check behind each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.loops.ir import ColumnKernel, ContractionKernel, FlatKernel, Kernel, RowKernel
from compiler.machine import Machine
from compiler.targets.cpu.bf16_products import bf16_of
from compiler.targets.cpu.kernel_pass import KernelPass, verified
from compiler.targets.cpu.products import passes as products
from compiler.targets.cpu.products import verify as of_product
from compiler.targets.cpu.products.ir import Circumstances, ProductLoops
from compiler.targets.cpu.products.printer import print_product
from compiler.targets.cpu.products.reader import read_product
from compiler.targets.cpu.products.tile_blocks import tile_blocks
from compiler.targets.cpu.rows import passes as rows
from compiler.targets.cpu.rows import verify as of_rows
from compiler.targets.cpu.rows.ir import RowLoops
from compiler.targets.cpu.rows.text import print_rows, read_rows

_Loops = TypeVar("_Loops", RowLoops, ProductLoops)
OfRows: TypeAlias = "Sequence[KernelPass[RowLoops, Machine]]"
OfProducts: TypeAlias = "Sequence[KernelPass[ProductLoops, Circumstances]]"


def verified_tiles(
    kernel: Kernel,
    machine: Machine,
    batch: int,
    lasts: bool,
    unread: frozenset[int],
    row_passes: OfRows | None = None,
    product_passes: OfProducts | None = None,
) -> str:
    """A kernel behind the last pass of its kind, as text, checked behind each. Raises CompilerBug.

    The passes are those of the CPU, but where others are given.
    """
    match kernel:
        case ContractionKernel(contraction=contract) if contract.in_bf16:
            return tile_blocks(contract, batch, bf16_of(machine)).description
        case ContractionKernel():
            given, product = Circumstances(machine, batch), products.definition(kernel, lasts)
            return verified(product_passes or products.PASSES, product, given, of_product.faults_of, print_product)
        case RowKernel() | FlatKernel() | ColumnKernel():
            loops = rows.definition(kernel, unread)
            return verified(row_passes or rows.PASSES, loops, machine, of_rows.faults_of, print_rows)
        case _:
            return ""  # a scatter or a running sum, about which nothing is decided


def passes_on_text(
    machine: Machine, batch: int, row_passes: OfRows = rows.PASSES, product_passes: OfProducts = products.PASSES
) -> Mapping[str, Callable[[str, str], str]]:
    """By the name of each pass, what it makes of a text with a name; see `KernelTarget.kernel_passes`."""
    given = Circumstances(machine, batch)
    over_rows = {each.name: partial(_on_rows, each, machine) for each in row_passes}
    return {**over_rows, **{each.name: partial(_on_product, each, given) for each in product_passes}}


def _on_rows(each: KernelPass[RowLoops, Machine], machine: Machine, text: str, source: str) -> str:
    loops = _read(read_rows, of_rows.faults_of, text, source, "kernel over rows or columns")
    return print_rows(_run(lambda: each.run(loops, machine), of_rows.faults_of, each.name, source))


def _on_product(each: KernelPass[ProductLoops, Circumstances], given: Circumstances, text: str, source: str) -> str:
    product = _read(read_product, of_product.faults_of, text, source, "product")
    return print_product(_run(lambda: each.run(product, given), of_product.faults_of, each.name, source))


def _read(
    read: Callable[[str, str], _Loops], faults_of: Callable[[_Loops], list[str]], text: str, source: str, what: str
) -> _Loops:
    try:
        loops = read(text, source)
        faults = faults_of(loops)
    except (ArithmeticError, ValueError, RecursionError) as error:
        raise DataError(f"is no {what} ({_first_line(error)})", source) from None
    if faults:
        raise DataError(faults[0], source)
    return loops


def _run(run: Callable[[], _Loops], faults_of: Callable[[_Loops], list[str]], name: str, source: str) -> _Loops:
    try:
        result = run()
        fault = next(iter(faults_of(result)), None)
    except (CompilerBug, ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # nothing checks whether loops come from the passes before
        fault = _first_line(error) or type(error).__name__
    else:
        if fault is None:
            return result
    raise DataError(f"cannot go through {name} as it stands ({fault})", source, fix="run the passes before it")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
