"""`@record`: frozen, slotted data classes that are quick to define and to make; `@mutable_record`: such that change.

`dataclasses` compiles six methods for each such class, which for the compiler's 600 classes is half of the time of a
short command. A record has its names put into an `__init__` that is compiled once for all records of its shape; its
other methods are closures. It is frozen by the type checker, not by a method that refuses each assignment, so making
one costs no more than assigning its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from operator import attrgetter
from types import CodeType, FunctionType
from typing import Any, TypeVar, dataclass_transform, overload

Class = TypeVar("Class", bound=type[Any])


@overload
def record(cls: Class, /) -> Class: ...


@overload
def record(*, eq: bool = True) -> Callable[[Class], Class]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: Any = None, /, *, eq: bool = True) -> Any:
    """As `dataclass(frozen=True, slots=True)`. Without `eq`, each record equals only itself."""

    def made(cls: type[Any]) -> type[Any]:
        return _record(cls, eq)

    return made if cls is None else made(cls)


@dataclass_transform(field_specifiers=(field,))
def mutable_record(cls: Class) -> Class:
    """As `dataclass(slots=True)`: equal by its fields, and without a hash. A field of `init=False` has no default."""
    return _record(cls, True, hashable=False)


def _record(cls: type[Any], eq: bool, hashable: bool = True) -> Any:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # `dataclass` would write a signature, which takes longer than all the rest
    parts = fields(dataclass(init=False, repr=False, eq=False)(cls))
    names = [part.name for part in parts]
    content: dict[str, Any] = {name: value for name, value in vars(cls).items() if name not in _REPLACED}
    for name in names:
        content.pop(name, None)  # a default would hide the slot
    content.setdefault("__init__", _initialiser(parts, hasattr(cls, "__post_init__")))
    content.setdefault("__repr__", _representation)
    if eq and "__eq__" not in content:
        content["__eq__"], hashed = _comparison([part.name for part in parts if part.compare])
        content.setdefault("__hash__", hashed if hashable else None)
    inherited = {slot for base in cls.__mro__[1:] for slot in vars(base).get("__slots__", ())}
    content["__slots__"] = tuple(name for name in names if name not in inherited)
    return type(cls.__name__, cls.__bases__, content)


def _initialiser(parts: tuple[Field[Any], ...], has_more: bool) -> FunctionType:
    positional = [part for part in parts if part.init and not part.kw_only]
    by_name = [part for part in parts if part.init and part.kw_only]
    ordered = positional + by_name
    shape = tuple(part.default_factory is not MISSING for part in ordered)
    code = _initialiser_code(shape, len(positional), has_more)
    names = {f"field_{at}": part.name for at, part in enumerate(ordered)}
    code = code.replace(
        co_names=tuple(names.get(name, name) for name in code.co_names),
        co_varnames=tuple(names.get(name, name) for name in code.co_varnames),
    )
    known = {f"factory_{at}": part.default_factory for at, part in enumerate(ordered)} | {"MISSING": MISSING}
    function = FunctionType(code, known, "__init__", tuple(_defaults(positional).values()))
    function.__kwdefaults__ = _defaults(by_name)
    return function


def _defaults(parts: list[Field[Any]]) -> dict[str, Any]:
    """Those of optional fields: `MISSING` where a factory makes the value."""
    return {
        part.name: part.default for part in parts if part.default is not MISSING or part.default_factory is not MISSING
    }


@cache
def _initialiser_code(has_factory: tuple[bool, ...], positional: int, has_more: bool) -> CodeType:
    """Assigns `field_0`, `field_1` and so on, of which those behind `positional` are given by name only."""
    names = [f"field_{at}" for at in range(len(has_factory))]
    parameters = ["self", *names[:positional], *(["*", *names[positional:]] if positional < len(names) else [])]
    body = [
        f" self.{name} = factory_{at}() if {name} is MISSING else {name}" if made else f" self.{name} = {name}"
        for at, (name, made) in enumerate(zip(names, has_factory, strict=True))
    ]
    if has_more:
        body.append(" self.__post_init__()")
    known: dict[str, Any] = {}
    exec("\n".join([f"def __init__({', '.join(parameters)}):", *(body or [" pass"])]), known)
    return known["__init__"].__code__


def _comparison(names: list[str]) -> tuple[Callable[[Any, Any], bool], Callable[[Any], int]]:
    """Whether two records of one class have the same fields, and the hash that goes with it."""
    if not names:
        return _is_of_one_class, _hash_of_class
    # a getter of a single name would give no tuple, and in a tuple what is identical is equal, even NaN
    names = names * 2 if len(names) == 1 else names
    content: Callable[[Any], object] = attrgetter(*names)

    def equal(self: Any, other: Any) -> bool:
        return content(self) == content(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(content(self))

    return equal, hashed


def _is_of_one_class(self: Any, other: Any) -> bool:
    return True if other.__class__ is self.__class__ else NotImplemented


def _hash_of_class(self: Any) -> int:
    return 1  # not of the class, whose hash differs from run to run, and with it the order of sets


def _representation(self: Any) -> str:
    shown = (f"{part.name}={getattr(self, part.name)!r}" for part in fields(self) if part.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


_REPLACED = ("__dict__", "__weakref__")
