"""The declaration that a name means, and its signature: the settings with their types, and the tensors.

A name is looked up in the namespaces of its file, of the imports, and of the library. A test sees the models of its
file as layers, from inputs to outputs.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from enum import Enum

from compiler.errors.diagnostics import Diagnostic, Note
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import statements_within


class Namespace(Enum):
    """Where a name is looked up; the place in the text decides."""

    VALUE = "function, layer or constant"
    INIT = "initialiser"
    OPTIMIZER = "optimizer"
    SCHEDULE = "schedule"
    CLIP = "form of clip"
    PENALTY = "form of penalty"
    SAMPLE = "way of sampling"
    MODEL = "model"


BY_KEYWORD = {
    "const": Namespace.VALUE,
    "fn": Namespace.VALUE,
    "layer": Namespace.VALUE,
    "init": Namespace.INIT,
    "optimizer": Namespace.OPTIMIZER,
    "schedule": Namespace.SCHEDULE,
}
Named = tree.Const | tree.Callable | tree.Model

# Declarations of its own kind that a body may call, beside values: an initialiser others, a schedule others.
OWN_FORMS = {"init": Namespace.INIT, "schedule": Namespace.SCHEDULE}


_NOTHING: Mapping[str, Located] = {}


@record(eq=False)
class ModuleScope:
    """The declarations of one file (of all files, for the library) and the scopes that it sees beyond them.

    Each has what follows from its declarations alone, once that was asked for; those of the library outlast a program.
    """

    name: str
    is_library: bool
    own: dict[Namespace, Mapping[str, Located]] = field(default_factory=dict[Namespace, Mapping[str, "Located"]])
    beyond: list[ModuleScope] = field(default_factory=list["ModuleScope"])
    signatures: dict[int, Signature] = field(default_factory=dict[int, "Signature"])  # by id of the declaration
    ordinals: dict[int, Mapping[int, int]] = field(default_factory=dict[int, "Mapping[int, int]"])  # likewise

    def lookup(self, namespace: Namespace, name: str) -> Located | None:
        """The declaration that `name` means here: the file's own before imported ones, those before the library's."""
        for scope in (self, *self.beyond):
            found = scope.own.get(namespace, _NOTHING).get(name)
            if found is not None:
                return found
        # A fn of the user's may serve as a form of clip or penalty, or for sampling; the library's fns may not.
        if namespace in (Namespace.CLIP, Namespace.PENALTY, Namespace.SAMPLE) and not self.is_library:
            found = self.lookup(Namespace.VALUE, name)
            return None if found is None or found.scope.is_library else found
        return None

    def names(self, namespace: Namespace) -> Iterator[str]:
        """Every name that `lookup` would find."""
        for scope in (self, *self.beyond):
            yield from scope.own.get(namespace, {})


@record
class Located:
    """A declaration and the file that it stands in."""

    declaration: Named
    scope: ModuleScope


def module_scopes(
    modules: tuple[tree.Module, ...], library: ModuleScope
) -> tuple[dict[str, ModuleScope], list[Diagnostic]]:
    """The scope of each file by its name, and the names that are declared twice."""
    scopes = {module.source.name: ModuleScope(module.source.name, False) for module in modules}
    by_path = {os.path.normpath(name): scope for name, scope in scopes.items()}
    mistakes: list[Diagnostic] = []
    for module in modules:
        scope = scopes[module.source.name]
        declared: dict[Namespace, dict[str, Located]] = {}
        for declaration in module.declarations:
            if isinstance(declaration, tree.Import):
                folder = os.path.dirname(module.source.name)
                imported = by_path.get(os.path.normpath(os.path.join(folder, declaration.path)))
                if imported is not None:
                    scope.beyond.append(imported)
            elif isinstance(declaration, tree.Const | tree.Callable | tree.Model):
                mistakes += _declare(scope, declared, declaration)
        scope.own.update(declared)
        scope.beyond.append(library)
        mistakes += _experiments_of_one_name(scope, module)
    return scopes, mistakes


def namespace_of(declaration: Named) -> Namespace:
    match declaration:
        case tree.Model():
            return Namespace.MODEL
        case tree.Const():
            return Namespace.VALUE
        case tree.Callable():
            return BY_KEYWORD[declaration.keyword]


def _declare(scope: ModuleScope, declared: dict[Namespace, dict[str, Located]], declaration: Named) -> list[Diagnostic]:
    names = declared.setdefault(namespace_of(declaration), {})
    earlier = names.setdefault(declaration.name, Located(declaration, scope)).declaration
    if earlier is declaration:
        return []
    return [_twice(declaration.name, head_of(declaration), head_of(earlier))]


def _experiments_of_one_name(scope: ModuleScope, module: tree.Module) -> list[Diagnostic]:
    """Mistakes of the experiments of a file; one without a name is called like its model."""
    found: list[Diagnostic] = []
    seen: dict[str, tree.Train] = {}
    for train in module.declarations:
        if not isinstance(train, tree.Train):
            continue
        name = train.name or train.model.id
        if train.name is None and scope.lookup(Namespace.MODEL, name) is None:  # which is a mistake by itself
            continue
        earlier = seen.setdefault(name, train)
        found += [] if earlier is train else [_twice(name, train.head, earlier.head, "the experiment ")]
    return found


def _twice(name: str, place: tree.Span, first: tree.Span, kind: str = "") -> Diagnostic:
    message = f"{kind}`{name}` is declared twice in this file"
    return Diagnostic("E0202", message, place, (Note("first declared here", first),))


def head_of(declaration: Named) -> tree.Span:
    """The place that a message shows for a declaration."""
    return declaration.span if isinstance(declaration, tree.Const) else declaration.head


def scope_of_tests(scope: ModuleScope) -> ModuleScope:
    """The scope of a file, in which models can be applied like layers."""
    models = {
        name: Located(as_layer(found.declaration), found.scope)
        for name in scope.names(Namespace.MODEL)
        if (found := scope.lookup(Namespace.MODEL, name)) and isinstance(found.declaration, tree.Model)
    }
    values = {**models, **scope.own.get(Namespace.VALUE, {})}
    return ModuleScope(scope.name, scope.is_library, {**scope.own, Namespace.VALUE: values}, scope.beyond)


def as_layer(model: tree.Model) -> tree.Callable:
    """A model as a layer of its inputs that returns its outputs."""
    inputs = [s for s in model.body.statements if isinstance(s, tree.InputDeclaration)]
    tensors = tuple(parameter for i in inputs for parameter in _parameters_of(i))
    outputs: list[tree.Name] = []
    statements: list[tree.Statement] = []
    for statement in model.body.statements:
        match statement:
            case tree.OutputDeclaration(names, value):
                outputs += names
                statements.append(tree.Assign(names, value, None, statement.span))
            case tree.InputDeclaration():
                pass
            case _:
                statements.append(statement)
    result = outputs[0] if len(outputs) == 1 else tree.TupleLiteral(tuple(outputs), model.head)
    body = tree.Block((*statements, tree.Return(result, model.head)), model.body.span)
    groups = (model.settings, tensors)
    return tree.Callable("layer", model.name, groups, (), body, None, model.doc, model.span, model.head)


def _parameters_of(statement: tree.InputDeclaration) -> Iterator[tree.Parameter]:
    """An input as a tensor of a layer, and behind it its mask, where it is padded."""
    yield tree.Parameter(statement.name, statement.annotation, None, statement.doc, statement.span)
    if statement.mask is not None:
        dimensions = None if statement.annotation.dimensions is None else statement.annotation.dimensions[:2]
        annotation = tree.TensorAnnotation("bool", dimensions, statement.annotation.span)
        yield tree.Parameter(statement.mask, annotation, None, None, statement.span)


ANY = ""
"""The type of a setting that is neither annotated nor given away by its default."""


@record(eq=False)
class Signature:
    """The settings and tensors of a declaration. `types` holds the type of each setting, or `ANY`."""

    declaration: tree.Callable | tree.Model | tree.Sample
    settings: tuple[tree.Parameter, ...]
    tensors: tuple[tree.Parameter, ...]
    types: dict[str, str]
    tensor_names: tuple[str, ...]

    @property
    def setting_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.settings)

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
    declaration: tree.Callable | tree.Model | tree.Sample, scope: ModuleScope, is_builtin: Callable[[str], bool]
) -> Signature:
    if not isinstance(declaration, tree.Callable):
        settings, tensors = declaration.settings, ()
    else:
        settings, tensors = groups_of(declaration)
    owners = (tree.ParamDeclaration, tree.StateDeclaration)
    starts = [s.initializer for s in statements_within(declaration.body) if isinstance(s, owners)]
    used_as_initializers = {start.id for start in starts if isinstance(start, tree.Name)}

    def type_of(parameter: tree.Parameter) -> str:
        if isinstance(parameter.annotation, tree.SettingType):
            return parameter.annotation.name
        if parameter.name in used_as_initializers or _names_an_initializer(parameter.default, scope, is_builtin):
            return "init"
        return _type_of_default(parameter.default)

    types = {p.name: type_of(p) for p in settings}
    return Signature(declaration, settings, tensors, types, tuple(p.name for p in tensors))


def _is_setting(parameter: tree.Parameter) -> bool:
    if isinstance(parameter.annotation, tree.TensorAnnotation):
        return False
    return isinstance(parameter.annotation, tree.SettingType) or parameter.default is not None


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
