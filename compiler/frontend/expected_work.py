"""How many expressions a model will take to elaborate, counted in its text before anything is elaborated.

So a chain of functions that each call the last one twice ends in a message and not in a long wait. The count follows
calls by name and loops over literal ranges; where settings decide, it supposes one round.
"""

from __future__ import annotations

from compiler.diagnostics import hint
from compiler.frontend import syntax
from compiler.frontend.failures import failure
from compiler.frontend.machine import MAXIMUM_WORK, Session
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.frontend.walk import expressions_in, values_of

# The count supposes the longer branch of each `if`, so that it may be too high.
_CERTAINLY_TOO_MUCH = 30 * MAXIMUM_WORK
_ENDLESS = 10**18


def refuse_endless(session: Session, model: syntax.Model, scope: ModuleScope) -> bool:
    """Record a mistake for each statement of a model that would take far too long; whether there is one."""
    work = _Work()
    is_endless = False
    for statement in model.body.statements:
        count = work.of_statement(statement, scope)
        if count > _CERTAINLY_TOO_MUCH:
            shown = f"{count:,}" if count < _ENDLESS else "endlessly many"
            message = f"this takes {shown} evaluated expressions to elaborate; the limit is {MAXIMUM_WORK:,}"
            note = hint("a loop has too many rounds, or functions call each other too often")
            session.report.add(failure("E0310", message, statement.span, note).diagnostic)
            is_endless = True
    return is_endless


class _Work:
    """Counts, each declaration once."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of_statement(self, statement: syntax.Statement, scope: ModuleScope) -> int:
        count = 1 + sum(self._of_expression(value, scope) for value in values_of(statement))
        match statement:
            case syntax.If():
                otherwise = 0 if statement.otherwise is None else self._of_block(statement.otherwise, scope)
                count += max(self._of_block(statement.then, scope), otherwise)
            case syntax.For():
                count += _rounds(statement.iterable) * self._of_block(statement.body, scope)
            case _:
                pass
        return min(count, _ENDLESS)

    def _of_block(self, block: syntax.Block, scope: ModuleScope) -> int:
        return min(sum(self.of_statement(statement, scope) for statement in block.statements), _ENDLESS)

    def _of_expression(self, expression: syntax.Expression, scope: ModuleScope) -> int:
        count = 0
        for part in expressions_in(expression):
            count += 1
            if isinstance(part, syntax.Name):
                count += self._of_declaration(part.id, scope)
            elif isinstance(part, syntax.Scan):
                count += self._of_block(part.body, scope)
        return count

    def _of_declaration(self, name: str, scope: ModuleScope) -> int:
        found = scope.lookup(Namespace.VALUE, name)
        if found is None or not isinstance(found.declaration, syntax.Callable):
            return 0
        key = id(found.declaration)
        if key not in self._known:
            self._known[key] = 0  # what calls itself stops by its settings, or at the limit of depth
            self._known[key] = self._of_block(found.declaration.body, found.scope)
        return self._known[key]


def _rounds(iterable: syntax.Expression) -> int:
    match iterable:
        case syntax.Range(syntax.Number(start), syntax.Number(stop)):
            return max(int(stop - start), 0)
        case syntax.ListLiteral(items):
            return len(items)
        case _:
            return 1
