"""Features that are not compiled yet: E09."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _model(output: str, before: str = "", inputs: str = "x: f32[batch, 6]") -> str:
    start = f"{before}\n\n" if before else ""
    lines = "".join(f"    input {line}\n" for line in inputs.split("; "))
    return f"{start}model M {{\n{lines}    output y = {output}\n}}"


def _train(**keys: str) -> str:
    known = {"loss": "mean(y ^ 2)", "optimizer": "adam()", "batch": "32"} | keys
    lines = "".join(f"    {key} = {value}\n" for key, value in known.items())
    return f"{_model('dense(1)(x)')}\n\ntrain M {{\n{lines}}}"


_LATER = "The language has this form, and it is read and its names are checked, but this version cannot compile it. "

MISSING: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0907",
        "`bf16` is not compiled yet",
        _LATER + "Use f32.",
        _model("cast(x, bf16)"),
        _model("cast(x, f32)"),
    ),
    ErrorEntry(
        "E0908",
        "a setting of `train` that is not compiled yet",
        _LATER + "`precision = bf16` is such a key; f32 and f64 are compiled.",
        _train(precision='"bf16"'),
        _train(),
    ),
)
