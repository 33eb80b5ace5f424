"""One pass on the text of a product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.machine import Machine
from compiler.targets.cpu.products.ir import Circumstances
from compiler.targets.cpu.products.passes import PASSES, ProductPass
from compiler.targets.cpu.products.printer import print_product
from compiler.targets.cpu.products.reader import read_product
from compiler.targets.cpu.products.verify import faults_of, verify


def passes_on_text(machine: Machine, batch: int) -> Mapping[str, Callable[[str, str], str]]:
    """By the name of each pass, what it makes of a text with a name; see `KernelTarget.product_passes`."""
    given = Circumstances(machine, batch)
    return {each.name: partial(_run, each, given) for each in PASSES}


def _run(each: ProductPass, given: Circumstances, text: str, source: str) -> str:
    try:
        product = read_product(text, source)
        faults = faults_of(product)
    except (ArithmeticError, ValueError, RecursionError) as error:
        raise DataError(f"is no product ({_first_line(error)})", source) from None
    if faults:
        raise DataError(faults[0], source)
    try:
        result = each.run(product, given)
        verify(result)
    except (CompilerBug, ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # nothing checks whether loops come from the passes before
        message = f"cannot go through {each.name} as it stands ({_first_line(error) or type(error).__name__})"
        raise DataError(message, source, fix="run the passes before it") from None
    return print_product(result)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
