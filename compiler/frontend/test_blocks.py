"""`test NAME { … }`: its statements as a graph, and its claims about values of this graph."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.instances import ordinals_of
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.finish import with_constants
from compiler.frontend.scope import ModuleScope, Namespace, scope_of_tests
from compiler.frontend.trace import Claim, GradientsAgree, Holds, IsCausal, Side, TestProgram
from compiler.frontend.values import TensorValue, Value, describe
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Role
from compiler.syntax import tree
from compiler.types import DType

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def name_of(value: ir.Value) -> str:
    """The output of a test's graph that holds a value."""
    return f"value {value.index}"


def elaborate_test(session: Session, test: tree.Test, scope: ModuleScope) -> TestProgram | None:
    """The test as a graph of the inference program; None with the mistakes recorded."""
    frame = Frame(scope_of_tests(scope), "test", test.name, session.new_scope(), application="#0")
    frame.ordinals = _ordinals(test, frame.module)
    session.claims.clear()
    session.parameters.clear()
    evaluator = TestEvaluator(session, GraphBuilder(test.name), frame, training=False)
    evaluator.claims = []
    evaluator.span = test.span
    with session.report.recording():
        run_body(evaluator, test.body)
    if session.report.has_errors:
        return None
    return _finished(session, test, evaluator, evaluator.claims)


class TestEvaluator(Evaluator):
    """Evaluates the statements of a test; a value that stands alone is claimed to be true."""

    __test__ = False  # pytest takes it for a test of its own

    def claim(self, statement: tree.ExpressionStatement) -> None:
        assert self.claims is not None
        before = len(self.claims)
        expression = statement.value
        sides: tuple[Side, ...] = ()
        if isinstance(expression, tree.Binary) and expression.operator in _COMPARISONS:
            left, right = self.evaluate(expression.left), self.evaluate(expression.right)
            self.span = expression.span
            value = self.compared(expression.operator, left, right)
            sides = (_side(expression.left, left), _side(expression.right, right))
        else:
            value = self.evaluate(expression)
        self.span = expression.span
        if value is None and len(self.claims) > before:
            return
        if isinstance(value, TensorValue) and value.dtype is DType.BOOL:
            self.claims.append(Holds(expression.span, value.value, sides))
        elif isinstance(value, bool):
            self.claims.append(Holds(expression.span, value, sides))
        else:
            self.fail("E0312", f"a line of a test is true or false, not {describe(value)}")


def _side(part: tree.Expression, value: Value) -> Side:
    return Side(part.span.text, value.value if isinstance(value, TensorValue) else _written(value))


def _written(value: Value) -> str:
    match value:
        case bool() | None:
            return {None: "none", True: "true", False: "false"}[value]
        case int() | float() | str():
            return repr(value)
        case tuple():
            return f"[{', '.join(map(_written, value))}]"
        case _:
            return describe(value)


def _ordinals(test: tree.Test, scope: ModuleScope) -> Mapping[int, int]:
    def is_layer(name: str) -> bool:
        found = scope.lookup(Namespace.VALUE, name)
        declaration = None if found is None else found.declaration
        return isinstance(declaration, tree.Callable) and declaration.keyword == "layer"

    assigned = {t.id for s in test.body.statements if isinstance(s, tree.Assign) for t in s.targets}
    return ordinals_of(test.body, is_layer, frozenset(assigned))


def _finished(session: Session, test: tree.Test, evaluator: Evaluator, claims: list[Claim]) -> TestProgram:
    values = {value.index: value for claim in claims for value in _values_of(claim)}
    for value in values.values():
        evaluator.builder.output(name_of(value), Role.OUTPUT, value)
    graph = with_constants(session, evaluator.builder.build())
    return TestProgram(test.name, test.span, graph, tuple(session.parameters.values()), tuple(claims))


def _values_of(claim: Claim) -> list[ir.Value]:
    match claim:
        case Holds(_, value, sides):
            found = [value, *(side.value for side in sides)]
            return [v for v in found if isinstance(v, ir.Value)]
        case GradientsAgree() | IsCausal():
            return [claim.of, claim.by]
