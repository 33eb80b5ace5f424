"""`require(condition, message…)`: conditions on settings and sizes, evaluated with the values that are known so far."""

from __future__ import annotations

from compiler.errors.diagnostics import Note
from compiler.frontend.builtins.table import Arguments
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.failures import Failure
from compiler.frontend.settings import COMMAND_LINE, plain
from compiler.frontend.values import RunTimeNumber, Value, describe
from compiler.syntax import tree

_ONLY_THE_RUN_KNOWS = "E0313"


def judge(elaborator: Elaborator, requirement: tree.Expression) -> None:
    """Evaluate a line `require(…)`. The settings in it decide nothing of the program, so they stay numbers of the run.

    What only the run knows, such as `total_steps`, is not judged.
    """
    before = frozenset(elaborator.session.decided)
    try:
        elaborator.evaluate(requirement)
    except Failure as mistake:
        if mistake.diagnostic.code != _ONLY_THE_RUN_KNOWS:
            raise
    finally:
        elaborator.session.decided = set(before)


def require(elaborator: Elaborator, arguments: Arguments) -> Value:
    """The built-in function. Raises Failure where the condition is false."""
    condition, message = arguments["condition"], arguments["message"]
    assert isinstance(message, tuple)
    if not isinstance(condition, bool):
        elaborator.fail("E0312", f"`require` takes a condition of configuration, not {describe(condition)}")
    if not condition:
        elaborator.fail("E0315", "".join(map(_said, message)) or "this is required", *settings_in(elaborator, message))
    return True


def settings_in(elaborator: Elaborator, values: tuple[Value, ...]) -> list[Note]:
    """A note on each setting that some of the values come from."""
    sources = {name: None for value in values if isinstance(value, RunTimeNumber) for name in sorted(value.sources)}
    return [note for name in sources for note in _on_setting(elaborator, name)]


def _on_setting(elaborator: Elaborator, name: str) -> list[Note]:
    settings = elaborator.session.settings
    if name not in settings.entries:
        return []
    value, origin = settings.entries[name]
    override = settings.overrides.get(name)
    place = override.span if override is not None and origin == COMMAND_LINE else None
    return [Note(f"the setting `{name}` is {_said(value)}", place)]


def _said(value: Value) -> str:
    """A part of a message as a reader writes it."""
    match value:
        case str():
            return value
        case bool() | None:
            return {True: "true", False: "false", None: "none"}[value]
        case int() | float():
            return repr(value)
        case tuple():
            return f"[{', '.join(map(_said, value))}]"
        case RunTimeNumber(value=int() | float()):
            return repr(plain(value))
        case _:
            return describe(value)
