"""One entry of the error index."""

from __future__ import annotations

from compiler.support.record import record


@record
class ErrorEntry:
    """One code: `title` is a short claim, `explanation` says why it is an error and what to do about it.

    `wrong` and `right` are the same piece of text before and after the correction.
    """

    code: str
    title: str
    explanation: str
    wrong: str
    right: str
