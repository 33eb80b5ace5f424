"""The signature of a declaration: its settings with their types, and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compiler.frontend.scope import ModuleScope, Namespace
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import statements_within

ANY = ""
"""The type of a setting that is neither annotated nor given away by its default."""


@record(eq=False)
class Signature:
    """The settings and tensors of a declaration. `types` holds the type of each setting, or `ANY`."""

    declaration: tree.Callable | tree.Model
    settings: tuple[tree.Parameter, ...]
    tensors: tuple[tree.Parameter, ...]
    types: dict[str, str]

    @property
    def setting_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.settings)

    @property
    def tensor_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.tensors)

    def takes_setting(self, name: str) -> bool:
        return name in self.types


def groups_of(declaration: tree.Callable) -> tuple[tuple[tree.Parameter, ...], tuple[tree.Parameter, ...]]:
    """The settings and the tensors. In a single group, a default or the type of a setting tells them apart."""
    if len(declaration.groups) == 2:
        return declaration.groups
    group = declaration.groups[0] if declaration.groups else ()
    settings = tuple(p for p in group if _is_setting(p))
    return settings, tuple(p for p in group if not _is_setting(p))


def signature_of(
    declaration: tree.Callable | tree.Model, scope: ModuleScope, is_builtin: Callable[[str], bool]
) -> Signature:
    if isinstance(declaration, tree.Model):
        settings, tensors = declaration.settings, ()
    else:
        settings, tensors = groups_of(declaration)
    used_as_initializers = frozenset(_initializer_names(declaration.body))

    def type_of(parameter: tree.Parameter) -> str:
        if isinstance(parameter.annotation, tree.SettingType):
            return parameter.annotation.name
        if parameter.name in used_as_initializers or _names_an_initializer(parameter.default, scope, is_builtin):
            return "init"
        return _type_of_default(parameter.default)

    return Signature(declaration, settings, tensors, {p.name: type_of(p) for p in settings})


def _is_setting(parameter: tree.Parameter) -> bool:
    if isinstance(parameter.annotation, tree.TensorAnnotation):
        return False
    return isinstance(parameter.annotation, tree.SettingType) or parameter.default is not None


def _initializer_names(body: tree.Block) -> Iterator[str]:
    for statement in statements_within(body):
        if isinstance(statement, (tree.ParamDeclaration, tree.StateDeclaration)) and isinstance(
            statement.initializer, tree.Name
        ):
            yield statement.initializer.id


def _names_an_initializer(
    default: tree.Expression | None, scope: ModuleScope, is_builtin: Callable[[str], bool]
) -> bool:
    head = default.function if isinstance(default, tree.Call) else default
    if not isinstance(head, tree.Name) or is_builtin(head.id):
        return False
    return scope.lookup(Namespace.INIT, head.id) is not None and scope.lookup(Namespace.VALUE, head.id) is None


def _type_of_default(default: tree.Expression | None) -> str:
    match default:
        case tree.Boolean():
            return "bool"
        case tree.Number(value) if isinstance(value, float):
            return "float"
        case tree.Unary("-", operand):
            return _type_of_default(operand) if isinstance(operand, tree.Number) else ANY
        case _:
            return ANY
