"""A kernel from its Python representation: kernels are plain data, and nothing is hidden in them."""

from __future__ import annotations

import re

from compiler.loops import ir
from compiler.ops import OPS
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS
from compiler.types import BatchExtent, DType

_NAMES = vars(ir) | {op.__name__: op for op in (*OPS, *INTERNAL_OPS)} | {"BatchExtent": BatchExtent, "DType": DType}


def made_again(kernel: ir.Kernel) -> ir.Kernel:
    """An equal kernel, made from the text of all that the first one holds."""
    return eval(re.sub(r"<(\w+\.\w+): '[^']*'>", r"\1", repr(kernel)), dict(_NAMES))
