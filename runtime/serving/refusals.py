"""The answer to a request that gets no prediction: a status of HTTP and a JSON body with fault, place and remedy."""

from __future__ import annotations

import orjson

from compiler.errors.diagnostics import DataError, DlcError

Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"
_PLACE = "arrays"  # the file that messages about arrays name


class Refusal(Exception):
    """`error` says what is wrong, `where` at which place of the request, `fix` what to do instead."""

    def __init__(self, status: int, error: str, where: str, fix: str, headers: Headers | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.where, self.fix = status, error, where, fix
        self.headers: Headers = headers or []

    def __reduce__(self) -> tuple[type[Refusal], tuple[object, ...]]:
        return Refusal, (self.status, self.error, self.where, self.fix, self.headers)

    def body(self) -> bytes:
        return orjson.dumps({"error": self.error, "where": self.where, "fix": self.fix})


def busy(error: str, fix: str) -> Refusal:
    """More is asked for than can wait; a client tries again after a second."""
    return Refusal(429, error, "the server", fix, [(b"retry-after", b"1")])


def closing() -> Refusal:
    """The server finishes the requests that it has, and takes no others."""
    fix = "ask the server that takes its place"
    return Refusal(503, "the server is shutting down", "the server", fix, [(b"retry-after", b"5")])


def refusal_of(error: DlcError) -> Refusal:
    """A fault that the runtime found in the values of a request, or in what they need."""
    text = str(error)
    if not isinstance(error, DataError):
        return Refusal(503, text, "the server", error.fix or "send fewer rows", [(b"retry-after", b"1")])
    place = "inputs" if error.row is None else f"inputs, row {error.row}"
    if str(error.file) == _PLACE:
        text = text.partition(": ")[2]
    return Refusal(422, text, place, error.fix or "correct the values")
