"""The error index: every code that `dlc` can print, with its text in `index.md`, which `dlc explain CODE` shows.

The first two digits say where a mistake lies: E01 syntax, E02 names and declarations, E03 settings and calls, E04
shapes and types, E05 layers, parameters and state, E06 `train` and experiments, E07 data, E08 runs and checkpoints,
E09 features that are not compiled yet; W01 lints; E10 and W10 what `dlc test` finds.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.support.record import record

PAGE = Path(__file__).with_suffix(".md")
_LENGTH = 5  # of a code
_LINE, _TEXT = r"([^\n]+)", r"```\n(.*?)\n```"
_ENTRY = re.compile(
    rf"### (\w+): {_LINE}\n\n<a [^\n]+</a>{_LINE}\n\nHint: {_LINE}\n\nWrong:\n\n{_TEXT}\n\nRight:\n\n{_TEXT}\n",
    re.DOTALL,
)


@record
class ErrorEntry:
    """One code: `title` is a short claim, `explanation` says why it is an error and what to do about it.

    `hint` is that of messages that have none of their own. `wrong` and `right` are the same piece of text before and
    after the correction.
    """

    code: str
    title: str
    explanation: str
    hint: str
    wrong: str
    right: str


ERRORS = {found[1]: ErrorEntry(*found.groups()) for found in _ENTRY.finditer(PAGE.read_text(encoding="utf-8"))}


def explain(code: str) -> str:
    """The long text of one code. Raises `UsageError` for a code that does not exist."""
    known = code.strip(" []:").upper()  # as a message has it: `error[E0201]:`
    entry = ERRORS.get(known)
    if entry is None:
        alike = [other for other in ERRORS if other[:3] == known[:3]]
        fix = did_you_mean(known, ERRORS)
        if alike and len(known) == _LENGTH:
            fix = f"codes that begin so are {', '.join(alike)}"
        raise UsageError(f"there is no error code `{code}`", fix or f"the codes are {', '.join(ERRORS)}")
    wrong, right = (indent(text, "    ") for text in (entry.wrong, entry.right))
    return f"{entry.code}: {entry.title}\n\n{entry.explanation}\n\nWrong:\n\n{wrong}\n\nRight:\n\n{right}\n"
