"""Expressions of configuration alone, such as the keys of `train`."""

from __future__ import annotations

from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.values import Value
from compiler.graph.builder import GraphBuilder
from compiler.syntax import tree


def evaluate_constant(session: Session, train: tree.Train, expression: tree.Expression) -> Value:
    """The value of an expression that sees the file in which a `train` stands. Raises `Failure`."""
    scope = session.scopes[train.head.source.name]
    frame = Frame(scope, "train", train.name or train.model.id, session.new_scope())
    evaluator = Evaluator(session, GraphBuilder("settings"), frame, training=True)
    evaluator.span = expression.span
    return evaluator.evaluate(expression)
