"""Layers as instances with a path: where each was made, how it was bound, and how repeated kinds are numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from compiler.frontend.elaborator import Frame, Session, joined
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.frontend.values import LayerInstance, TupleValue, Value
from compiler.syntax import tree, walk

MAKERS = ("fresh", "average", "frozen")
"""Built-in functions that make an instance of the layer that they are given."""


def unsettled(value: Value) -> Iterator[LayerInstance]:
    """The instances in a value that have no path yet."""
    match value:
        case LayerInstance() if value.path is None:
            yield value
        case tuple():
            for item in value:
                yield from unsettled(item)
        case TupleValue(items):
            for item in items:
                yield from unsettled(item)
        case _:
            return


def settle(session: Session, instance: LayerInstance, path: str | None = None) -> None:
    """Fix the path of an instance: where it is bound (`path`), or else under its kind where it was made."""
    place = instance.place if path is None else joined(path, *map(str, instance.items))
    instance.path = _claimed(session, place, instance.site)
    for setting, child in instance.children:
        if child.path is None:
            settle(session, child, joined(instance.path, setting))


def _claimed(session: Session, place: str, site: tuple[object, ...]) -> str:
    """`place`, or with `_2`, `_3`, … the first that no other instance of the program has."""
    path, count = place, 1
    while session.claims.setdefault(path, site) != site:
        count += 1
        path = f"{place}_{count}"
    return path


def settle_all(session: Session, value: Value, frame: Frame) -> None:
    """Bind every new instance in a value to the name that the current statement of a frame gives it."""
    for instance in unsettled(value):
        settle(session, instance, frame.place())


def place_of(frame: Frame, kind: str, ordinal: int) -> str:
    """The path of an instance that is not itself bound: its kind, numbered, below the variable and the rounds."""
    return joined(frame.place(), kind if ordinal < 2 else f"{kind}_{ordinal}")


def ordinals_of(body: tree.Block, is_layer: Callable[[str], bool], locals_: frozenset[str]) -> Mapping[int, int]:
    """For each place that makes a layer, by the id of its name: how many of its kind the variable has had, with it.

    Counted in the order of the text, whether or not a branch is taken. What is an argument of another layer is not
    counted, since it is named after the setting.
    """
    numbering = _Numbering(is_layer, locals_)
    numbering.count(body)
    return numbering.ordinals


def _variable_of(statement: tree.Statement) -> str:
    match statement:
        case tree.Assign(targets):
            return targets[0].id
        case tree.OutputDeclaration(names):
            return names[0].id
        case tree.LossDeclaration(name):
            return name.id
        case tree.ParamDeclaration(name) | tree.StateDeclaration(name):
            return name
        case _:
            return ""


class _Numbering:
    def __init__(self, is_layer: Callable[[str], bool], locals_: frozenset[str]) -> None:
        self.is_layer = is_layer
        self.locals = locals_
        self.counts: dict[tuple[str, str], int] = {}
        self.ordinals: dict[int, int] = {}

    def count(self, body: tree.Block) -> None:
        for statement in walk.statements_of(body):
            variable = _variable_of(statement)
            for value in walk.values_of(statement):
                self.visit(value, variable)

    def visit(self, expression: tree.Expression, variable: str) -> None:
        if isinstance(expression, tree.Name):
            self._count(expression, variable)
        elif isinstance(expression, tree.Call) and self._names_layer(expression.function):
            self.visit(expression.function, variable)
            for argument in (*expression.positional, *(k.value for k in expression.keywords)):
                self._visit_argument(argument, variable)
        else:
            for part in walk.parts_of(expression):
                self.visit(part, variable)
            if isinstance(expression, tree.Scan):
                if expression.until is not None:
                    self.visit(expression.until, variable)
                self.count(expression.body)

    def _visit_argument(self, argument: tree.Expression, variable: str) -> None:
        if isinstance(argument, tree.ListLiteral):
            for item in argument.items:
                self._visit_argument(item, variable)
        elif not self._names_layer(argument) and not self._makes_layer(argument):
            self.visit(argument, variable)

    def _count(self, name: tree.Name, variable: str) -> None:
        if self._names_layer(name) or name.id in MAKERS:
            key = (variable, name.id)
            self.counts[key] = self.counts.get(key, 0) + 1
            self.ordinals[id(name)] = self.counts[key]

    def _names_layer(self, expression: tree.Expression) -> bool:
        return isinstance(expression, tree.Name) and expression.id not in self.locals and self.is_layer(expression.id)

    def _makes_layer(self, expression: tree.Expression) -> bool:
        """`gru(64)`, and not `embed(tokens)`, which is an application."""
        return (
            isinstance(expression, tree.Call)
            and self._names_layer(expression.function)
            and not any(self._is_tensor(argument) for argument in expression.positional)
        )

    def _is_tensor(self, expression: tree.Expression) -> bool:
        match expression:
            case tree.Name(name):
                return name in self.locals
            case tree.Pipe():
                return True
            case tree.Call(function, positional):
                return isinstance(function, tree.Call) or any(self._is_tensor(a) for a in positional)
            case tree.Binary() | tree.Unary() | tree.Index() | tree.Attribute():
                return any(self._is_tensor(part) for part in walk.parts_of(expression))
            case _:
                return False


def ordinals_in(module: ModuleScope, declaration: tree.Callable | tree.Model) -> Mapping[int, int]:
    """`ordinals_of` a declaration's body, computed once."""
    key = id(declaration)
    if key not in module.ordinals:

        def is_layer(name: str) -> bool:
            found = module.lookup(Namespace.VALUE, name)
            return (
                found is not None
                and isinstance(found.declaration, tree.Callable)
                and found.declaration.keyword == "layer"
            )

        module.ordinals[key] = ordinals_of(declaration.body, is_layer, _tensor_names(declaration))
    return module.ordinals[key]


def _tensor_names(declaration: tree.Callable | tree.Model) -> frozenset[str]:
    """The local names of a declaration that are not settings."""
    from_parameters: set[str] = set()
    if isinstance(declaration, tree.Callable) and declaration.groups:
        from_parameters = {p.name for p in declaration.groups[-1]}
    assigned: set[str] = set()
    for statement in walk.statements_within(declaration.body):
        for scan in walk.scans_in(statement):
            assigned.update(part.name for part in (*scan.inputs, *scan.carries))
        match statement:
            case tree.Assign(targets):
                assigned |= {target.id for target in targets}
            case tree.InputDeclaration() | tree.ParamDeclaration() | tree.StateDeclaration():
                assigned.add(statement.name)
            case tree.OutputDeclaration(names):
                assigned |= {name.id for name in names}
            case tree.LossDeclaration(name):
                assigned.add(name.id)
            case _:
                pass
    return frozenset(from_parameters | assigned)


def names_in(expression: tree.Expression) -> Iterator[tree.Name]:
    for part in walk.expressions_in(expression):
        if isinstance(part, tree.Name):
            yield part
