"""A kernel to exact text and back without loss, for tests and reports. `printer` writes the form for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeAlias, get_args

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Op
from compiler.loops import ir
from compiler.types import BatchExtent, DType

# What a kernel is made of, besides its own kinds of records: numbers, text, tuples, ops.
Part: TypeAlias = Any

RECORDS: tuple[type, ...] = (
    *(
        ir.Term,
        ir.Access,
        ir.Edge,
        ir.Load,
        ir.Literal,
        ir.Compute,
        ir.Position,
        ir.Random,
        ir.BatchCount,
        ir.Reduce,
        ir.Store,
    ),
    *(ir.BufferArgument, ir.Stage, ir.TileContract, ir.ContractedAxis, ir.OuterAxis, BatchExtent),
    *get_args(ir.Kernel),
)
ENUMS: tuple[type[Enum], ...] = (ir.Space, ir.Combine, ir.Triangle, DType)


def write_kernel(kernel: ir.Kernel) -> str:
    """JSON: a record is a list of its kind and fields, in order; an enumeration and an op likewise."""
    return json.dumps(_written(kernel))


def read_kernel(text: str, ops: Sequence[type[Op]]) -> ir.Kernel:
    """The kernel that `text` describes, with the ops of the list by their names. Raises `CompilerBug`."""
    kinds: dict[str, type] = {kind.__name__: kind for kind in (*RECORDS, *ENUMS)}
    kinds.update((f"op {op.name}", op) for op in ops)
    try:
        kernel = _read(json.loads(text), kinds)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise CompilerBug("read_kernel", f"the text describes no kernel: {error!r}", text) from error
    if not isinstance(kernel, ir.Kernel):
        raise CompilerBug("read_kernel", "the text describes something else than a kernel", text)
    return kernel


def _written(part: Part) -> Part:
    match part:
        case Enum():
            return [type(part).__name__, part.value]
        case Op():
            return [f"op {part.name}", *_fields_of(part)]
        case _ if isinstance(part, RECORDS):
            return [type(part).__name__, *_fields_of(part)]
        case _ if isinstance(part, tuple):
            items: tuple[Part, ...] = part  # pyright: ignore[reportUnknownVariableType]
            return ["tuple", *map(_written, items)]
        case None | bool() | int() | float() | str():
            return part
        case _:
            raise CompilerBug("write_kernel", f"a kernel holds a {type(part).__name__}, which has no text")


def _fields_of(part: Part) -> list[Part]:
    assert is_dataclass(part)
    return [_written(getattr(part, field.name)) for field in fields(part)]


def _read(part: Part, kinds: Mapping[str, type]) -> Part:
    if not isinstance(part, list):
        return part
    items: list[Part] = part  # pyright: ignore[reportUnknownVariableType]
    inside = [_read(item, kinds) for item in items[1:]]
    return tuple(inside) if items[0] == "tuple" else kinds[items[0]](*inside)
