"""The static attributes of an op: the fields of its class, their values, and whether a value is of a field's type."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from compiler.graph.ir import Graph
from compiler.graph.op import Op
from compiler.support.record import record
from compiler.types import BatchExtent, DType, TensorType

Attribute: TypeAlias = "bool | int | float | DType | BatchExtent | TensorType | Graph | tuple[Attribute, ...] | None"


@record
class OpField:
    """A field of an op's class: its type, and whether the class has no default for it."""

    type: object
    is_needed: bool


def attributes_of(op: Op) -> list[tuple[str, Attribute]]:
    """The fields of an op, in order."""
    assert is_dataclass(op)
    return [(field.name, getattr(op, field.name)) for field in fields(op)]


def fields_of(kind: type[Op]) -> dict[str, OpField]:
    """The fields of an op's class by name, in order."""
    assert is_dataclass(kind)
    types: dict[str, Any] = get_type_hints(kind)
    return {field.name: OpField(types[field.name], field.default is MISSING) for field in fields(kind)}


def fits(value: Attribute, type_: object) -> bool:
    """Whether a value that was read may stand in a field of the type; an integer may stand for a float."""
    if get_origin(type_) is tuple:
        return isinstance(value, tuple) and all(fits(item, get_args(type_)[0]) for item in value)
    if get_origin(type_) in (Union, UnionType):
        return any(fits(value, choice) for choice in get_args(type_))
    if type_ is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(type_, type) and isinstance(value, type_) and (type_ is bool or not isinstance(value, bool))
