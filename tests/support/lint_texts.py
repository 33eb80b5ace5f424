"""Small models and trainings, and what the lints tell of them."""

from __future__ import annotations

from compiler.errors.diagnostics import Diagnostic, Source
from compiler.programs.load import findings


def found(text: str) -> list[Diagnostic]:
    return list(findings(Source("model.dl", text), None)[0])


def told(text: str) -> list[str]:
    """`CODE line` of each finding."""
    return [f"{d.code} {d.span.line}" for d in found(text)]


def model(output: str, *lines: str, before: str = "", inputs: str = "x: f32[batch, 4]") -> str:
    """The output stands in the last line of the model, which is line 2 + inputs + lines, after those before."""
    body = [*(f"input {line}" for line in inputs.split("; ")), *lines, f"output y = {output}"]
    return before + "model M {\n" + "".join(f"    {line}\n" for line in body) + "}\n"


def trained(output: str, *lines: str, loss: str = "cross_entropy(y, label)", before: str = "", **keys: str) -> str:
    entries = {"loss": loss, "optimizer": "adam()", "batch": "8"} | keys
    train = "".join(f"    {key} = {value}\n" for key, value in entries.items())
    return f"{model(output, *lines, before=before)}\ntrain M {{\n    target label: i32[batch] in 0..3\n{train}}}\n"
