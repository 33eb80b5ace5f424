"""Names in every declaration, used or not."""

from __future__ import annotations

from compiler.frontend import syntax
from compiler.frontend.machine import Session


def check_names(session: Session, modules: tuple[syntax.Module, ...]) -> None:
    """Record each name that means nothing, and each statement that stands where it cannot."""
