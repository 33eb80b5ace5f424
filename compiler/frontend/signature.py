"""The signature of a declaration: its settings with their types, and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compiler.frontend import syntax
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.frontend.walk import statements_within
from compiler.record import record

ANY = ""
"""The type of a setting that is neither annotated nor given away by its default."""


@record(eq=False)
class Signature:
    """The settings and tensors of a declaration. `types` holds the type of each setting, or `ANY`."""

    declaration: syntax.Callable | syntax.Model
    settings: tuple[syntax.Parameter, ...]
    tensors: tuple[syntax.Parameter, ...]
    types: dict[str, str]

    @property
    def setting_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.settings)

    @property
    def tensor_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.tensors)

    def takes_setting(self, name: str) -> bool:
        return name in self.types


def groups_of(declaration: syntax.Callable) -> tuple[tuple[syntax.Parameter, ...], tuple[syntax.Parameter, ...]]:
    """The settings and the tensors. In a single group, a default or the type of a setting tells them apart."""
    if len(declaration.groups) == 2:
        return declaration.groups
    group = declaration.groups[0] if declaration.groups else ()
    settings = tuple(p for p in group if _is_setting(p))
    return settings, tuple(p for p in group if not _is_setting(p))


def signature_of(
    declaration: syntax.Callable | syntax.Model, scope: ModuleScope, is_builtin: Callable[[str], bool]
) -> Signature:
    if isinstance(declaration, syntax.Model):
        settings, tensors = declaration.settings, ()
    else:
        settings, tensors = groups_of(declaration)
    used_as_initializers = frozenset(_initializer_names(declaration.body))

    def type_of(parameter: syntax.Parameter) -> str:
        if isinstance(parameter.annotation, syntax.SettingType):
            return parameter.annotation.name
        if parameter.name in used_as_initializers or _names_an_initializer(parameter.default, scope, is_builtin):
            return "init"
        return _type_of_default(parameter.default)

    return Signature(declaration, settings, tensors, {p.name: type_of(p) for p in settings})


def _is_setting(parameter: syntax.Parameter) -> bool:
    if isinstance(parameter.annotation, syntax.TensorAnnotation):
        return False
    return isinstance(parameter.annotation, syntax.SettingType) or parameter.default is not None


def _initializer_names(body: syntax.Block) -> Iterator[str]:
    for statement in statements_within(body):
        if isinstance(statement, (syntax.ParamDeclaration, syntax.StateDeclaration)) and isinstance(
            statement.initializer, syntax.Name
        ):
            yield statement.initializer.id


def _names_an_initializer(
    default: syntax.Expression | None, scope: ModuleScope, is_builtin: Callable[[str], bool]
) -> bool:
    head = default.function if isinstance(default, syntax.Call) else default
    if not isinstance(head, syntax.Name) or is_builtin(head.id):
        return False
    return scope.lookup(Namespace.INIT, head.id) is not None and scope.lookup(Namespace.VALUE, head.id) is None


def _type_of_default(default: syntax.Expression | None) -> str:
    match default:
        case syntax.Boolean():
            return "bool"
        case syntax.Number(value) if isinstance(value, float):
            return "float"
        case syntax.Unary("-", operand):
            return _type_of_default(operand) if isinstance(operand, syntax.Number) else ANY
        case _:
            return ANY
