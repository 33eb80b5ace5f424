"""The part of `dlc import` for ONNX models: a model file with weights, and recorded inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import UsageError
from runtime.cli.failure import FAILURE
from runtime.cli.parser import Namespace
from runtime.imports.onnx.importing import BY_ROUNDING, MOST_APART, import_model
from runtime.inference.prediction import npz_bytes
from runtime.reporting.terminal import say, say_labelled
from runtime.runs.tensor_files import replace_tensors
from runtime.support.files import replace_file


def import_onnx(arguments: Namespace) -> int:
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    imported = import_model(Path(arguments.source), sizes_of(arguments), sample_of(arguments))
    _keep_text_of_others(folder / "model.dl", imported.text)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "model.dl", imported.text.encode())
    replace_tensors(folder / "weights.safetensors", imported.weights, imported.names.to_note())
    replace_file(folder / "inputs.npz", npz_bytes(imported.inputs))
    replace_file(folder / "outputs.npz", npz_bytes(imported.outputs))
    lines = len(imported.text.splitlines())
    count = sum(array.size for array in imported.weights.values())
    say(f"{folder / 'model.dl'} has {lines} lines, {folder / 'weights.safetensors'} {count:,} numbers")
    say(f"the largest difference from the ONNX model, on {folder / 'inputs.npz'}, is {imported.apart:.1e}")
    broken = sum(not np.isfinite(array).all() for array in imported.weights.values() if array.dtype.kind == "f")
    if broken:
        say_labelled("warning", f"{broken} of {len(imported.weights)} tensors hold numbers that are not finite")
    if imported.together:
        say("its results depend on all rows of a batch: dlc predict computes them in one")
    if imported.apart > MOST_APART:
        say_labelled("error", f"the program differs from the ONNX model by {imported.apart:.1e}")
        say_labelled("hint", "its files are written for a look at it: do not rely on them")
        return FAILURE
    if imported.apart > BY_ROUNDING:
        say_labelled("warning", f"{imported.apart:.1e} is more than the {BY_ROUNDING:.0e} that rounding usually gives")
        say_labelled("hint", "compare its results with the ONNX model's on data of yours before you rely on them")
    return 0


def _keep_text_of_others(file: Path, text: str) -> None:
    """Raise UsageError where `file` holds another text than `text`: somebody may have written it by hand."""
    if file.exists() and (not file.is_file() or file.read_bytes() != text.encode()):
        raise UsageError(f"{file} is there, with another text", "name another folder, or move the file away")


def sizes_of(arguments: Namespace) -> dict[str, int]:
    """Sizes that `--size NAME=N` fixes. Raises UsageError."""
    found: dict[str, int] = {}
    for name, value in arguments.sizes:
        if not value.isdigit() or not 0 < int(value) < 2**31:
            raise UsageError(f"--size {name}={value} is no size", "give a whole number from 1 on")
        found[name] = int(value)
    return found


def sample_of(arguments: Namespace) -> Mapping[str, Array]:
    """The arrays of `--sample FILE.npz`. Raises DataError."""
    if arguments.sample is None:
        return {}
    from runtime.data.formats.numpy_arrays import npz_fields  # of the readers of data, which few imports need

    path = Path(arguments.sample)
    if path.suffix != ".npz":
        raise UsageError(f"--sample {path} is no npz file", "save it with numpy.savez(path, name=array, …)")
    _, names = npz_fields(path, frozenset())
    fields, _ = npz_fields(path, frozenset(names))
    return {name: one.values for name, one in fields.items()}
