"""Writes the end of `coming-from.md`: the names of other frameworks, from `compiler/errors/other_names.json`.

Run it from the root of the repository: `python docs/make_names.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script sees its own folder only

from compiler.errors.other_names import FORMS, OTHER_NAMES  # noqa: E402

PAGE = ROOT / "docs" / "coming-from.md"
BEGIN = "## Names\n\n"


def page_of_names(page: str) -> str:
    """The page with its tables anew, one for each chapter of names, and one of expressions."""
    parts = [page.partition(BEGIN)[0] + BEGIN]
    for chapter in dict.fromkeys(row.chapter for row in OTHER_NAMES):
        rows = [(row.elsewhere, row.here) for row in OTHER_NAMES if row.chapter == chapter]
        parts.append(_table(chapter, rows))
    parts.append(_table("Expressions", [(names, form) for form, names in FORMS.items()]))
    return parts[0] + "\n".join(parts[1:])


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {', '.join(f'`{name}`' for name in names.split())} | `{_escaped(here)}` |" for names, here in rows]
    return "\n".join([f"### {title}", "", "| there | here |", "|---|---|", *lines, ""])


def _escaped(code: str) -> str:
    return code.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page_of_names(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
