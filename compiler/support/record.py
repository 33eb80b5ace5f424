"""`@record`: frozen, slotted data classes that are quick to define and to make.

`dataclasses` compiles six methods for each such class, which for the compiler's 250 classes is half of the time of a
short command. A record compiles only `__init__`; its other methods are closures. It is frozen by the type checker, not
by a method that refuses each assignment, so making one costs no more than assigning its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from operator import attrgetter
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


def _record(cls: type[Any], eq: bool) -> type[Any]:
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
        content.setdefault("__hash__", hashed)
    inherited = {slot for base in cls.__mro__[1:] for slot in vars(base).get("__slots__", ())}
    content["__slots__"] = tuple(name for name in names if name not in inherited)
    return type(cls.__name__, cls.__bases__, content)


def _initialiser(parts: tuple[Field[Any], ...], has_more: bool) -> Callable[..., None]:
    known: dict[str, Any] = {"ABSENT": MISSING}
    positional: list[str] = ["self"]
    by_name: list[str] = []
    body: list[str] = []
    for part in parts:
        name, default = part.name, f"default_{part.name}"
        known[default] = part.default
        parameter, value = name if part.default is MISSING else f"{name}={default}", name
        if part.default_factory is not MISSING:
            known[default] = part.default_factory
            parameter, value = f"{name}=ABSENT", f"{default}() if {name} is ABSENT else {name}"
        (by_name if part.kw_only else positional).append(parameter)
        body.append(f" self.{name} = {value}")
    if has_more:
        body.append(" self.__post_init__()")
    parameters = ", ".join([*positional, "*", *by_name] if by_name else positional)
    exec("\n".join([f"def __init__({parameters}):", *(body or [" pass"])]), known)
    return known["__init__"]


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
