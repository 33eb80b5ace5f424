"""The evaluator: expressions to values, adding nodes to a graph where tensors are involved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.other_names import IN_EXPRESSIONS, in_place_of_a_method
from compiler.frontend.bodies.bindings import record_step
from compiler.frontend.bodies.calls import Caller
from compiler.frontend.bodies.own_graphs import initializer_graph
from compiler.frontend.bodies.scans import evaluate_scan
from compiler.frontend.bodies.setting_binding import Argument, Keywords, ready, written
from compiler.frontend.bodies.twins import TWINS
from compiler.frontend.builtins.functions import BUILTINS, CONSTANTS
from compiler.frontend.elaborator import Frame
from compiler.frontend.failures import Poisoned, failure, with_article
from compiler.frontend.scope import OWN_FORMS, Namespace
from compiler.frontend.tensors.indexing import index
from compiler.frontend.tensors.numbers import MAXIMUM_INTEGER, decided, negate
from compiler.frontend.tensors.operators import arithmetic, invert, logic, negative, scalar
from compiler.frontend.tensors.products import matrix_product
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import (
    BatchValue,
    BuiltinValue,
    FormValue,
    LayerInstance,
    Poison,
    TensorValue,
    TupleValue,
    Value,
    describe,
    extent_value,
    is_callable,
    is_number,
)
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.ops.movement import Transpose
from compiler.syntax import tree
from compiler.types import DType, TensorType


class Evaluator(Caller):
    """Evaluates expressions in `frame`."""

    def evaluate(self, expression: tree.Expression) -> Value:
        value = self._evaluated(expression)
        if isinstance(value, TensorValue):
            self.axes.setdefault(value.value.index, value.axes)  # as the innermost expression has it
            record_step(self, expression, value)
        elif isinstance(value, TupleValue) and not isinstance(expression, tree.TupleLiteral):
            record_step(self, expression, value)
        elif type(expression) is tree.Name:
            self.see(expression.span, value)
        return value

    def _evaluated(self, expression: tree.Expression) -> Value:
        self.count_work(expression.span)
        match expression:
            case tree.Name():
                return self._name(expression)
            case tree.Number(value) | tree.Boolean(value) | tree.Text(value):
                return value
            case tree.Binary():
                return self._binary(expression)
            case tree.Call():
                return self._call(expression, ())
            case tree.Pipe():
                return self._pipe(expression)
            case tree.Unary():
                return self._unary(expression)
            case tree.Index(value):
                return index(self, self.evaluate(value), expression)
            case tree.Attribute():
                return self._attribute(expression)
            case tree.ListLiteral(items):
                return self._list(items)
            case tree.TupleLiteral(items):
                return TupleValue(tuple(self.evaluate(item) for item in items))
            case tree.Range():
                return self._range(expression)
            case tree.NoneLiteral():
                return None
            case tree.ByName():
                raise failure("E0603", "only `auxiliary` takes values by name", expression.span)
            case tree.Scan():
                return evaluate_scan(self, expression)

    # Names

    def _name(self, name: tree.Name) -> Value:
        frame = self.frame
        if name.id in frame.variables:
            value = frame.variables[name.id]
            if isinstance(value, Poison):
                raise Poisoned
            return value
        if name.id in frame.dimensions:
            return extent_value(frame.dimensions[name.id])
        if frame.keyword in ("model", "train", "sample") and name.id in self.session.open_dimensions:
            raise Poisoned
        value = self._global(name)
        if isinstance(value, FormValue) and value.settings is None and value.declaration.keyword == "layer":
            self.span = name.span
            return self._bound(value, self.session.signature(value.declaration, value.module), (), (), name)
        return value

    def _global(self, name: tree.Name) -> Value:
        """The meaning of a name outside of the declaration."""
        if name.id == "training":
            return self.training and not self.frame.is_frozen
        found = self.frame.module.lookup(Namespace.VALUE, name.id)
        if found is not None:
            if isinstance(found.declaration, tree.Const):
                return self._constant(found.declaration, name)
            if isinstance(found.declaration, tree.Callable):
                return FormValue(found.declaration, found.scope)
        if name.id in BUILTINS:
            return BuiltinValue(BUILTINS[name.id])
        if name.id in CONSTANTS:
            return CONSTANTS[name.id]
        frame = self.frame
        is_new = self.session.is_new_unknown(frame.module.name, frame.keyword, frame.name, name.id)
        if not is_new and not frame.module.is_library:
            raise Poisoned
        raise failure("E0201", f"there is no `{name.id}` here", name.span, *self._unknown_notes(name.id))

    def _unknown_notes(self, name: str) -> tuple[Note, ...]:
        frame = self.frame
        known = (*frame.variables, *frame.dimensions, *frame.module.names(Namespace.VALUE), *BUILTINS, *CONSTANTS)
        for namespace in (Namespace.INIT, Namespace.OPTIMIZER, Namespace.SCHEDULE):
            if frame.module.lookup(namespace, name) is not None:
                return (hint(f"there is {with_article(namespace.value)} `{name}`, but this place takes a value"),)
        return self.session.report.nearest(name, known, IN_EXPRESSIONS)

    def _constant(self, declaration: tree.Const, name: tree.Name) -> Value:
        session = self.session
        key = id(declaration)
        if key in session.constants:
            return session.constants[key]
        if declaration in session.evaluating:
            raise failure(
                "E0209", f"`{declaration.name}` depends on itself", name.span, Note("declared here", declaration.span)
            )
        scope = self.frame.module.lookup(Namespace.VALUE, declaration.name)
        assert scope is not None
        before = self.frame
        self.frame = Frame(scope.scope, "const", declaration.name, session.new_scope(), (*before.calls, name.span))
        session.evaluating.append(declaration)
        try:
            value = self.evaluate(declaration.value)
        finally:
            self.frame = before
            session.evaluating.pop()
        if isinstance(value, (TensorValue, BatchValue)):
            raise failure("E0312", f"a `const` holds configuration, not {describe(value)}", declaration.span)
        session.constants[key] = value
        return value

    # Operators

    def _binary(self, expression: tree.Binary) -> Value:
        symbol = expression.operator
        left = self.evaluate(expression.left)
        if symbol in ("and", "or") and isinstance(left, bool):
            return self._short_circuit(expression, symbol, left)
        right = self.evaluate(expression.right)
        self.span = expression.span
        if symbol in ("and", "or"):
            if isinstance(left, TensorValue) or isinstance(right, TensorValue):
                return logic(self, symbol, left, right)
            wrong = left if not isinstance(left, bool) else right
            self.fail("E0312", f"`{symbol}` needs booleans, not {describe(wrong)}", hint("compare, as in `n > 0`"))
        if symbol == "@":
            if isinstance(left, TensorValue) and isinstance(right, TensorValue):
                return matrix_product(self, left, right)
            wrong = right if isinstance(left, TensorValue) else left
            self.fail("E0312", f"`@` is the product of two tensors, not of {describe(wrong)}")
        return self.compared(symbol, left, right)

    def compared(self, symbol: str, left: Value, right: Value) -> Value:
        """A comparison, or another operation that is not logic."""
        if symbol in ("==", "!=") and (left is None or right is None):
            return (left is right) is (symbol == "==")
        is_mixed = isinstance(left, (str, tuple)) is not isinstance(right, (str, tuple))
        if symbol in ("==", "!=") and is_mixed:
            return symbol == "!="
        return arithmetic(self, symbol, left, right)

    def _short_circuit(self, expression: tree.Binary, symbol: str, left: bool) -> Value:
        if left is (symbol == "or"):
            return left
        right = self.evaluate(expression.right)
        self.span = expression.span
        if isinstance(right, TensorValue):
            return logic(self, symbol, left, right)
        if not isinstance(right, bool):
            self.fail("E0312", f"`{symbol}` needs booleans, not {describe(right)}", hint("compare, as in `n > 0`"))
        return right

    def _unary(self, expression: tree.Unary) -> Value:
        value = self.evaluate(expression.operand)
        self.span = expression.span
        if expression.operator == "not":
            if isinstance(value, bool):
                return not value
            if isinstance(value, TensorValue):
                return invert(self, value)
            self.fail("E0312", f"`not` needs a boolean, not {describe(value)}")
        if isinstance(value, BatchValue):
            value = scalar(self, value, DType.F32)
        return negative(self, value) if isinstance(value, TensorValue) else negate(self, value)

    def _attribute(self, expression: tree.Attribute) -> Value:
        value = self.evaluate(expression.value)
        self.span = expression.span
        if expression.name != "T":
            advice = self._instead_of(expression) or (hint("a tensor has `.T`, its transpose over the last two axes"),)
            self.fail("E0208", f"{describe(value)} has no `.{expression.name}`", *advice)
        if not isinstance(value, TensorValue):
            self.fail("E0312", f"`.T` transposes a tensor, not {describe(value)}")
        if value.rank < 2:
            self.fail("E0406", f"`.T` swaps the last two axes, and {shown(self, value)} has {value.rank}")
        order = (*range(value.rank - 2), value.rank - 1, value.rank - 2)
        return TensorValue(self.emit(Transpose(order), value.value), tuple(value.axes[i] for i in order))

    def _instead_of(self, expression: tree.Attribute) -> tuple[Note, ...]:
        """The counterpart here of an attribute or a method that a tensor has elsewhere."""
        if expression.name.casefold() in ("t", "mt"):
            return (hint("did you mean `.T`?"),)
        tensor = expression.value.span.text if isinstance(expression.value, tree.Name) else "x"
        known = (*self.frame.module.names(Namespace.VALUE), *BUILTINS)
        found = in_place_of_a_method(expression.name, tensor, known)
        return () if found is None else (hint(found),)

    def _list(self, items: tuple[tree.Expression, ...]) -> Value:
        values: list[Value] = []
        for position, item in enumerate(items):
            value = self.evaluate(item)
            if isinstance(value, LayerInstance) and value.path is None:
                value.items = (position, *value.items)
            values.append(value)
        return tuple(values)

    def _range(self, expression: tree.Range) -> Value:
        bounds: list[int] = []
        for part in (expression.start, expression.stop):
            value = self.evaluate(part)
            self.span = part.span
            if isinstance(value, (BatchValue, TensorValue)):
                self.fail("E0307", f"a range runs between whole numbers of configuration, not to {describe(value)}")
            if not is_number(value) or not float(decided(self, value)).is_integer():
                self.fail("E0312", f"a range runs between whole numbers, not {describe(value)}")
            bounds.append(int(decided(self, value)))
        start, stop = bounds
        if max(abs(start), abs(stop), stop - start) > MAXIMUM_INTEGER:
            self.span = expression.span
            self.fail("E0308", "the numbers of a range, and how many they are, have to fit into 64 bits")
        return range(start, stop)

    # Calls

    def _call(self, call: tree.Call, piped: tuple[Value, ...]) -> Value:
        """A call; `piped` are values that `|>` puts before its arguments."""
        arguments, keywords = written(call)
        arguments = (*(ready(value, call.span) for value in piped), *arguments)
        name = call.function if isinstance(call.function, tree.Name) else None
        callee = self._callee(call.function)
        self.span = call.span
        if isinstance(callee, BuiltinValue) and callee.builtin.name == "fresh":
            return self._fresh(arguments, keywords, name)
        if isinstance(callee, BuiltinValue) and callee.builtin.name in TWINS:
            evaluate = partial(TWINS[callee.builtin.name], token=name)
            return self.call(replace(callee, builtin=replace(callee.builtin, evaluate=evaluate)), arguments, keywords)
        if isinstance(callee, FormValue) and callee.settings is None:
            return self.call_declaration(callee, arguments, keywords, name)
        return self.call(callee, arguments, keywords)

    def _callee(self, function: tree.Expression) -> Value:
        """The callee: a local name that cannot be called is passed over."""
        if not isinstance(function, tree.Name):
            return self.evaluate(function)
        local = self.frame.variables.get(function.id)
        if isinstance(local, Poison):
            raise Poisoned
        if local is not None and is_callable(local):
            return local
        is_local = function.id in self.frame.variables or function.id in self.frame.dimensions
        if is_local and not self.is_known_outside(function.id):
            return self._name(function)
        own = OWN_FORMS.get(self.frame.keyword)
        if own is not None and not self.is_known_outside(function.id):
            found = self.frame.module.lookup(own, function.id)
            if found is not None and isinstance(found.declaration, tree.Callable):
                return FormValue(found.declaration, found.scope)
        return self._global(function)

    def _fresh(self, arguments: Sequence[Argument], keywords: Keywords, name: tree.Name | None) -> Value:
        call = self.here
        if len(arguments) != 1 or keywords:
            self.fail("E0303", "`fresh` takes one layer", hint("write `fresh(cell)`"))
        value = self.argument_value(arguments[0])
        self.span = call
        if isinstance(value, LayerInstance):
            return self.fresh(value, name)
        if isinstance(value, (FormValue, BuiltinValue)):
            return value  # a function owns nothing, so it is as good as new
        self.fail("E0312", f"`fresh` makes a new instance of a layer, not of {describe(value)}")

    def _pipe(self, pipe: tree.Pipe) -> Value:
        """`value |> stage`. Only here a tuple becomes several arguments."""
        value = self.evaluate(pipe.value)
        piped = value.items if isinstance(value, TupleValue) else (value,)
        stage = pipe.stage
        if isinstance(stage, tree.Call) and self._is_builtin(stage.function):
            return self._call(stage, piped)
        callee = self._callee(stage) if isinstance(stage, tree.Name) else self.evaluate(stage)
        arguments = tuple(ready(item, pipe.value.span) for item in piped)
        self.span = stage.span
        if isinstance(callee, FormValue) and callee.settings is None:
            name = stage if isinstance(stage, tree.Name) else None
            return self._piped_into(callee, arguments, name)
        if not is_callable(callee):
            message = f"`|>` passes a value to a function or layer, and this is {describe(callee)}"
            if isinstance(stage, tree.Call) and isinstance(stage.function, tree.Name):
                was_called = f"the value comes first, and `{stage.function.id}(…)` was already evaluated without it"
                self.fail("E0305", message, hint(was_called))
            self.fail("E0305", message)
        return self.call(callee, arguments, ())

    def _piped_into(self, callee: FormValue, arguments: tuple[Argument, ...], name: tree.Name | None) -> Value:
        """`x |> relu`: a piped value never lands among the settings."""
        stage = self.here
        signature = self.session.signature(callee.declaration, callee.module)
        bound = self._bound(callee, signature, (), (), name)
        self.span = stage
        return self.apply(bound, arguments, ())

    def _is_builtin(self, function: tree.Expression) -> bool:
        if not isinstance(function, tree.Name):
            return False
        local = self.frame.variables.get(function.id)
        if local is not None and is_callable(local):
            return isinstance(local, BuiltinValue)
        return function.id in BUILTINS and self.frame.module.lookup(Namespace.VALUE, function.id) is None

    def initializer_graph(self, path: str, type_: TensorType, value: FormValue, span: Span) -> ir.Graph:
        return initializer_graph(self, self.child, path, type_, value, span)

    def child(self, name: str, frame: Frame) -> Evaluator:
        """An evaluator that builds another graph of the same program."""
        child = Evaluator(self.session, GraphBuilder(name), frame, self.training)
        child.user_scopes |= self.user_scopes
        child.running = [*self.running]
        return child

    def declare_optimizer_state(self, statement: tree.StateDeclaration) -> TensorValue:
        raise failure("E0205", "this `state` stands where nothing owns it", statement.span)
