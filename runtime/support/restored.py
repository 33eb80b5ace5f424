"""Values of JSON text to the records that `asdict` made them of, each checked against the type of its field."""

# A type that is looked at tells pyright nothing of a value.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

from runtime.support.files import JsonValue

_Kind = TypeVar("_Kind")
Readers: TypeAlias = Mapping[Any, Callable[[Any], object]]
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple: "a list",
}


def restored(
    kind: type[_Kind], value: JsonValue, optional: Collection[str] = (), readers: Readers | None = None
) -> _Kind:
    """The value as a `kind`: a number, text, list, mapping, or record of these. Raises ValueError.

    Of a record, fields that are `optional` may be missing; further names are passed over. `readers` make the values of
    some types.
    """
    return cast(_Kind, _restored(kind, value, optional, readers or {}))


def _restored(kind: Any, value: Any, optional: Collection[str], readers: Readers) -> object:
    form, inner = get_origin(kind) or kind, get_args(kind)
    if kind in readers:
        return readers[kind](value)
    if NoneType in inner:
        return None if value is None else _restored(inner[0], value, (), readers)
    if form is tuple and isinstance(value, list | tuple):
        items = cast(Sequence[object], value)
        kinds = inner[:1] * len(items) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(items):
            return tuple(_restored(*pair, (), readers) for pair in zip(kinds, items, strict=True))
    elif isinstance(value, Mapping) and (form is Mapping or is_dataclass(form)):
        named = cast(Mapping[str, object], value)
        if form is Mapping:
            return {name: _restored(inner[1], item, (), readers) for name, item in named.items()}
        return _record(kind, named, optional, readers)
    elif form in _WORDS and (type(value) is form or (form is float and type(value) is int)):
        return kind(value)
    raise ValueError(f"something else where {_WORDS.get(form, 'names and values')} should be")


def _record(kind: Any, named: Mapping[str, object], optional: Collection[str], readers: Readers) -> object:
    kinds = get_type_hints(kind)
    found: dict[str, object] = {}
    for name in (part.name for part in fields(kind)):
        if name in named:
            found[name] = _restored(kinds[name], named[name], (), readers)
        elif name not in optional:
            raise ValueError(f"nothing where `{name}` should be")
    return kind(**found)
