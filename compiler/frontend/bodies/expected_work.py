"""The number of expressions that a model takes to elaborate, counted in its text before anything is elaborated.

So a chain of functions that each call the last one twice ends in a message and not in a long wait. The count follows
calls by name and loops over ranges of numbers and constants; where settings decide, it supposes one round. When a loop
begins, settings are known, and what its rounds will take is counted again.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.elaborator import MAXIMUM_WORK, Elaborator, Session
from compiler.frontend.failures import Failure, failure
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.syntax import tree
from compiler.syntax.walk import expressions_in, statements_of, values_of

# The count supposes the longer branch of each `if`, so that it may be too high.
_CERTAINLY_TOO_MUCH = 30 * MAXIMUM_WORK
_ENDLESS = 10**18


def refuse_endless(session: Session, model: tree.Model, scope: ModuleScope) -> bool:
    """Record a mistake for each statement of a model that would take far too long; whether there is one."""
    work = _Work({})
    is_endless = False
    for statement in model.body.statements:
        count = work.of_statement(statement, scope)
        if count > _CERTAINLY_TOO_MUCH:
            session.report.add(_too_much(count, statement.span).diagnostic)
            is_endless = True
    return is_endless


def refuse_endless_loop(elaborator: Elaborator, statement: tree.For, rounds: int) -> None:
    """Raise Failure where a loop that is about to begin would take far too long."""
    key = (id(statement), rounds)
    if key in elaborator.session.sound_loops:
        return
    changing = {target.id for target in statement.targets} | _bound_in(statement.body)
    sizes = {
        name: value
        for name, value in elaborator.frame.variables.items()
        if isinstance(value, int) and name not in changing
    }
    count = rounds * _Work(sizes).of_block(statement.body, elaborator.frame.module)
    if count > _CERTAINLY_TOO_MUCH:
        raise _too_much(min(count, _ENDLESS), statement.span)
    elaborator.session.sound_loops.add(key)


def _too_much(count: int, span: Span) -> Failure:
    shown = f"{count:,}" if count < _ENDLESS else "endlessly many"
    message = f"this takes {shown} evaluated expressions to elaborate; the limit is {MAXIMUM_WORK:,}"
    return failure("E0310", message, span, hint("a loop has too many rounds, or functions call each other too often"))


def _bound_in(block: tree.Block) -> set[str]:
    """The names that the statements of a block give a value."""
    loops_and_names = (s for s in statements_of(block) if isinstance(s, (tree.Assign, tree.For)))
    return {target.id for statement in loops_and_names for target in statement.targets}


class _Work:
    """Counts, each declaration once. `sizes` are the numbers that names of the first block stand for."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes: Mapping[str, int] = sizes
        self._known: dict[int, int] = {}

    def of_statement(self, statement: tree.Statement, scope: ModuleScope) -> int:
        count = 1 + sum(self._of_expression(value, scope) for value in values_of(statement))
        if isinstance(statement, tree.If):
            otherwise = 0 if statement.otherwise is None else self.of_block(statement.otherwise, scope)
            count += max(self.of_block(statement.then, scope), otherwise)
        elif isinstance(statement, tree.For):
            count += self._rounds(statement.iterable, scope) * self.of_block(statement.body, scope)
        return min(count, _ENDLESS)

    def of_block(self, block: tree.Block, scope: ModuleScope) -> int:
        return min(sum(self.of_statement(statement, scope) for statement in block.statements), _ENDLESS)

    def _of_expression(self, expression: tree.Expression, scope: ModuleScope) -> int:
        count = 0
        for part in expressions_in(expression):
            count += 1
            if isinstance(part, tree.Name):
                count += self._of_declaration(part.id, scope)
            elif isinstance(part, tree.Scan):
                count += self.of_block(part.body, scope)
                count += 0 if part.until is None else self._of_expression(part.until, scope)
        return count

    def _of_declaration(self, name: str, scope: ModuleScope) -> int:
        found = scope.lookup(Namespace.VALUE, name)
        if found is None or not isinstance(found.declaration, tree.Callable):
            return 0
        key = id(found.declaration)
        if key not in self._known:
            self._known[key] = 0  # a recursion stops by its settings, or at the limit of depth
            sizes = self._sizes
            self._sizes = {}
            self._known[key] = self.of_block(found.declaration.body, found.scope)
            self._sizes = sizes
        return self._known[key]

    def _rounds(self, iterable: tree.Expression, scope: ModuleScope) -> int:
        match iterable:
            case tree.Range(first, last):
                start, stop = self._number(first, scope), self._number(last, scope)
                return 1 if start is None or stop is None else max(stop - start, 0)
            case tree.ListLiteral(items):
                return len(items)
            case _:
                return 1

    def _number(self, expression: tree.Expression, scope: ModuleScope) -> int | None:
        match expression:
            case tree.Number(value):
                return int(value)
            case tree.Name(name):
                if name in self._sizes:
                    return self._sizes[name]
                found = scope.lookup(Namespace.VALUE, name)
                return (
                    self._number(found.declaration.value, found.scope)
                    if found is not None and isinstance(found.declaration, tree.Const)
                    else None
                )
            case _:
                return None
