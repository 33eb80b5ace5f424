"""W0112: outputs of a model in which the rows of a batch meet, so that a prediction depends on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.trace import Subject
from compiler.graph.ir import Role
from compiler.lints.flow import place_of
from compiler.lints.inlined import inlined
from compiler.ops.row_mixing import mixed_values
from compiler.syntax import tree
from compiler.syntax.walk import statements_of


def find_mixed_rows(subject: Subject) -> Iterator[Diagnostic]:
    graph = inlined(subject.program.inference_graph)
    mixing = mixed_values(graph.nodes)
    places = dict(_output_places(subject.model))
    for output in graph.outputs:
        node = mixing.get(output.value.index)
        if output.role is Role.OUTPUT and output.name in subject.program.outputs and node is not None:
            message = f"the output `{output.name}` mixes the rows of a batch: a prediction depends on its neighbours"
            advice = hint("leave it to the loss, or reduce over another axis; `dlc predict` takes the rows 32 by 32")
            where = place_of(node)
            notes = () if where is None else (Note("rows meet here", where),)
            yield Diagnostic("W0112", message, places[output.name], (advice, *notes), "warning")


def _output_places(model: tree.Model) -> Iterator[tuple[str, Span]]:
    for statement in statements_of(model.body):
        if isinstance(statement, tree.OutputDeclaration):
            for name in statement.names:
                yield name.id, name.span
