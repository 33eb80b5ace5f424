"""Files that are given as models and are none: their kind, and the command that was probably meant."""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError

_WEIGHTS = ".safetensors"
_BEGINNING = 1 << 16  # bytes of a file, which may be large


def expect_model(path: Path) -> None:
    """Raise UsageError for a file that is neither called `.dl` nor begins like a model file. Raises OSError."""
    if path.suffix == ".dl":
        return
    with path.open("rb") as file:
        text = file.read(_BEGINNING).decode("utf-8-sig", "replace")
    from compiler.syntax.declarations import begins_with_declaration  # the lexer, which a model file does without

    if not begins_with_declaration(text):
        raise UsageError(f"{path} is no model file", _meant(path))


def _meant(path: Path) -> str:
    run = next((folder for folder in path.parents if (folder / "run.json").is_file()), None)
    if run is not None:
        return f"it is a part of the run {run}: name the run, where a command takes one, or the model file"
    model = next(iter(sorted(path.parent.glob("*.dl"))), "model.dl")
    if path.suffix == _WEIGHTS:
        return f"weights go with a model file: dlc eval {model} --weights {path}"
    return f"name the model file (.dl); where this is its data: dlc train {model} --data {path}"
