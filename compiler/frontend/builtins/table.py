"""A built-in function: its parameters, its documentation and the code that evaluates it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TypeAlias

from compiler.frontend.values import NamedBuiltin, Value
from compiler.support.record import record

Arguments: TypeAlias = Mapping[str, Value]
Handler: TypeAlias = Callable[..., Value]
"""From the elaborator and the arguments by the names of the parameters."""
AxisValue: TypeAlias = Value
"""An argument for which a bare name is that dimension."""
DimensionValue: TypeAlias = Value
ElementTypeValue: TypeAlias = Value
_KINDS = {
    "TensorValue": "tensor",
    "AxisValue": "axis",
    "DimensionValue": "dimension",
    "ElementTypeValue": "element type",
}


@record
class Required:
    """The default of a parameter that must be given."""


REQUIRED = Required()


@record
class BuiltinParameter:
    """One parameter. `kind`: `value`; `tensor`; `axis`, where a bare name is that dimension; `dimension`; or a type."""

    name: str
    kind: str = "value"
    default: Value | Required = REQUIRED
    is_keyword_only: bool = False
    is_variadic: bool = False


@record(eq=False)
class Builtin(NamedBuiltin):
    """One built-in function. A variadic parameter takes all further positional arguments, as a list."""

    parameters: tuple[BuiltinParameter, ...]
    document: str
    evaluate: Handler
    takes_any_keyword: bool = False

    @property
    def signature(self) -> str:
        """`sum(x, axis = none, keepdims = false, where = none)`."""
        return f"{self.name}({', '.join(map(_shown, self.parameters))})"

    def positional(self, index: int) -> BuiltinParameter | None:
        """The parameter that takes positional argument number `index`."""
        place = 0
        for parameter in self.parameters:
            if parameter.is_keyword_only:
                continue
            if parameter.is_variadic or place == index:
                return parameter
            place += 1
        return None

    def named(self, name: str) -> BuiltinParameter | None:
        return next((p for p in self.parameters if p.name == name and not p.is_variadic), None)


X = BuiltinParameter("x")


def built_in(evaluate: Handler, name: str = "") -> Builtin:
    """The function that a handler evaluates, with the handler's parameters behind the elaborator, and its docstring.

    An annotation says of which kind a parameter is; one that takes all further arguments is a `tuple[KIND, ...]`.
    Without a `name`, it is that of the handler without its `_`.
    """
    _, *given = inspect.signature(evaluate).parameters.values()
    parameters = tuple(_parameter(p) for p in given if p.kind is not p.VAR_KEYWORD)
    document = " ".join((evaluate.__doc__ or "").split())
    return Builtin(name or evaluate.__name__.lstrip("_"), parameters, document, evaluate, len(parameters) < len(given))


def _parameter(given: inspect.Parameter) -> BuiltinParameter:
    kind = given.annotation.removeprefix("tuple[").removesuffix(", ...]")
    default = REQUIRED if given.default is given.empty else given.default
    is_by_name = given.kind is given.KEYWORD_ONLY
    return BuiltinParameter(given.name, _KINDS.get(kind, "value"), default, is_by_name, kind != given.annotation)


def _shown(parameter: BuiltinParameter) -> str:
    if parameter.is_variadic:
        return f"{parameter.name}…"
    if isinstance(parameter.default, Required):
        return parameter.name
    # not by a table: 1 and 0 would be found as the booleans that they equal
    default = "none" if parameter.default is None else parameter.default
    return f"{parameter.name} = {str(default).lower() if isinstance(default, bool) else default}"
