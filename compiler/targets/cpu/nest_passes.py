"""The passes over the nest of any kernel behind its building, in order, with the reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.machine import Machine
from compiler.nest import ir
from compiler.nest.builder import Builder
from compiler.nest.ir import Operand, Value, type_of
from compiler.targets.cpu.kernel_pass import KernelPass


def store_in_pieces(nest: ir.Nest, machine: Machine) -> ir.Nest:
    if machine.masks:
        return nest
    builder = Builder(count=nest.values)
    body = _in_pieces(builder, nest.body)
    before = None if nest.before is None else store_in_pieces(nest.before, machine)
    return replace(nest, body=body, values=builder.count, before=before)


def _in_pieces(nest: Builder, body: Sequence[ir.Statement]) -> list[ir.Statement]:
    found = list[ir.Statement]()
    for statement in body:
        match statement:
            case ir.Store(mask=ir.Constant(value=tuple(lanes))):
                nest.body, nest.line = found, statement.line
                _store_first(nest, statement.value, statement.address, sum(lanes))
            case ir.Loop() | ir.Guard():
                found.append(replace(statement, body=_in_pieces(nest, statement.body)))
            case _:
                found.append(statement)
    return found


def _store_first(nest: Builder, value: Operand, place: Value, lanes: int) -> None:
    """The first lanes in pieces of a power of two, the largest first."""
    dtype, first = type_of(value).dtype, 0
    assert dtype is not None
    while first < lanes:
        width = 1 << (lanes - first).bit_length() - 1
        nest.store(nest.lanes_of(value, first, width), nest.pointer(place, first, dtype), dtype.size)
        first += width


PASSES = (KernelPass(store_in_pieces, "where no store has a mask, one would write a known rest lane by lane"),)
