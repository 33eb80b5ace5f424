"""Models as tests see them: layers from inputs to outputs."""

from __future__ import annotations

from compiler.frontend import syntax
from compiler.frontend.scope import Found, ModuleScope, Namespace


def scope_of_tests(scope: ModuleScope) -> ModuleScope:
    """The scope of a file, in which models can be applied like layers."""
    models = {
        name: Found(as_layer(found.declaration), found.scope)
        for name in scope.names(Namespace.MODEL)
        if (found := scope.lookup(Namespace.MODEL, name)) and isinstance(found.declaration, syntax.Model)
    }
    values = {**models, **scope.own.get(Namespace.VALUE, {})}
    return ModuleScope(scope.name, scope.is_library, {**scope.own, Namespace.VALUE: values}, scope.beyond)


def as_layer(model: syntax.Model) -> syntax.Callable:
    """A model as a layer of its inputs that returns its outputs."""
    inputs = [s for s in model.body.statements if isinstance(s, syntax.InputDeclaration)]
    tensors = tuple(syntax.Parameter(i.name, i.annotation, None, i.doc, i.span) for i in inputs)
    outputs: list[syntax.Name] = []
    statements: list[syntax.Statement] = []
    for statement in model.body.statements:
        match statement:
            case syntax.OutputDeclaration(names, value):
                outputs += names
                statements.append(syntax.Assign(names, value, None, statement.span))
            case syntax.InputDeclaration():
                pass
            case _:
                statements.append(statement)
    result = outputs[0] if len(outputs) == 1 else syntax.TupleLiteral(tuple(outputs), model.head)
    body = syntax.Block((*statements, syntax.Return(result, model.head)), model.body.span)
    groups = (model.settings, tensors)
    return syntax.Callable("layer", model.name, groups, (), body, None, model.doc, model.span, model.head)
