"""Libraries that only some commands need, and that an extra of the package brings."""

from __future__ import annotations

from compiler.errors.diagnostics import UsageError


def missing(library: str, extra: str, purpose: str) -> UsageError:
    """The error where `import library` failed."""
    return UsageError(f"{purpose} needs {library}, which is not installed", f"pip install 'dlc[{extra}]'")
