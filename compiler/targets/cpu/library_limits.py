"""Settings that the caller of a library gives, compared with their limits, as LLVM text.

They are compared as integers: a processor may have no instructions for floats of their width, and no function for
them is there. The bits of two floats are ordered as the floats are, but for the sign, which `_ordered` mends.
"""

from __future__ import annotations

from compiler.support.arrays import np
from compiler.targets.cpu.library_layout import Settings, places_of_settings
from compiler.targets.target import Limits
from compiler.types import DType

_BITS = {DType.F32: 32, DType.F64: 64}
_PREDICATES = {"<": "slt", "<=": "sle", ">": "sgt", ">=": "sge"}


def checks_of_settings(settings: Settings, limits: Limits) -> list[str]:
    """Leave at `%wrong.settings` unless every setting is finite and keeps to its limits; or go on at `%settled`."""
    rows: list[str] = []
    places = places_of_settings(settings)
    for number, (name, dtype, _) in enumerate(settings):
        bits = f"i{_BITS[dtype]}"
        largest = _ordered(dtype, float(np.finfo(dtype.value.replace("f", "float")).max))
        rows.append(f"%limited.{number}.at = getelementptr i8, ptr %settings, i64 {places[name]}")
        rows.append(f"%limited.{number} = load {bits}, ptr %limited.{number}.at, align {dtype.size}")
        rows.append(f"%sign.{number} = ashr {bits} %limited.{number}, {_BITS[dtype] - 1}")
        rows.append(f"%flip.{number} = lshr {bits} %sign.{number}, 1")
        rows.append(f"%ordered.{number} = xor {bits} %limited.{number}, %flip.{number}")
        conditions = [("sle", largest), ("sge", -largest - 1)]
        conditions += [(_PREDICATES[symbol], _limit(dtype, symbol, limit)) for symbol, limit in limits.get(name, ())]
        for k, (predicate, limit) in enumerate(conditions):
            rows.append(f"%keeps.{number}.{k} = icmp {predicate} {bits} %ordered.{number}, {limit}")
            rows.append(f"br i1 %keeps.{number}.{k}, label %kept.{number}.{k}, label %wrong.settings")
            rows.append(f"kept.{number}.{k}:")
    return [*rows, "br label %settled"]


def _limit(dtype: DType, symbol: str, limit: float) -> int:
    """A limit as an ordered integer. -0 stands below 0 there: it is at least 0, and not below."""
    return -1 if limit == 0 and symbol in (">=", "<") else _ordered(dtype, limit)


def _ordered(dtype: DType, number: float) -> int:
    """The bits of a float, in its precision, as an integer that is ordered as floats are."""
    kind, integer = (np.float32, np.int32) if dtype is DType.F32 else (np.float64, np.int64)
    bits = int(np.array(number, kind).view(integer))
    return bits if bits >= 0 else bits ^ ((1 << _BITS[dtype] - 1) - 1)
