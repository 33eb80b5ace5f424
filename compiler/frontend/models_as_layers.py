"""Models as tests see them: layers from inputs to outputs."""

from __future__ import annotations

from compiler.frontend.scope import Located, ModuleScope, Namespace
from compiler.syntax import tree


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
    tensors = tuple(tree.Parameter(i.name, i.annotation, None, i.doc, i.span) for i in inputs)
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
