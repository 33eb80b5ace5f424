"""A trained model as an ONNX file: its prediction, or its training step with the weights as inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from compiler.driver import PREDICTION, TRAINING, LibraryTensors, independent_settings
from compiler.errors.diagnostics import UsageError
from runtime.exports.model_library import expect_known, settings_of, stored, training_start
from runtime.inference.model import training_of
from runtime.runs.directory import version_of
from runtime.runs.trained import Trained
from runtime.support import regular_files
from runtime.support.files import missing

try:
    from onnx import ModelProto

    from compiler.to_onnx.model import Contents
    from compiler.to_onnx.programs import onnx_of
except ImportError as error:
    raise missing("onnx", "onnx", "an ONNX file") from error


_MARK = "dlc.version"


def onnx_file(trained: Trained, with_training: bool, opset: int) -> tuple[bytes, LibraryTensors]:
    """The content of the file, and the tensors that it has, or that a training step starts from. Raises UsageError."""
    program, options = trained.program, trained.options
    if options.machine is not None:
        raise UsageError("an ONNX file is the same for every processor", "leave out --target")
    notes = _notes(trained)
    if not with_training:
        tensors = stored(trained.tensors, tuple(spec.path for spec in program.parameters))
        # A prediction that draws takes seed and step as `dlc predict` has them for its first batch.
        numbers = {**settings_of(trained), "seed": 0, "step": 0}
        contents = Contents(tensors.values, numbers, ("seed", "step"), notes)
        return onnx_of(program, PREDICTION, contents, options, opset).SerializeToString(), tensors
    if training_of(program).accumulation is not None and not training_of(program).is_sharded:
        message = f"a step of {program.model} accumulates gradients, which one ONNX model does not"
        raise UsageError(message, "leave out --training, or `accumulate`")
    start, settings = training_start(trained)
    tensors = stored(start, start.names())
    numbers = {**settings, "seed": training_of(program).seed}
    contents = Contents({}, numbers, ("seed", *independent_settings(settings)), notes)
    model = onnx_of(program, TRAINING, contents, options, opset)
    names = _names(model)
    expect_known(trained, (name for name in settings if name in names))
    return model.SerializeToString(), tensors


def is_own_onnx(file: Path) -> bool:
    """Whether a file is such a model: its metadata names what made it."""
    try:
        return _MARK.encode() in regular_files.content(file)
    except OSError:
        return False


def _names(model: ModelProto) -> set[str]:
    return {entry.name for entry in (*model.graph.input, *model.graph.initializer)}


def _notes(trained: Trained) -> dict[str, str]:
    """The metadata of the file: where it comes from, and how data became the numbers of the inputs."""
    program = trained.program
    preparation = None if trained.preparation is None else trained.preparation.to_json()
    texts = "\0".join(source.text for source in program.sources)
    settings = {setting.name: setting.value for setting in program.settings}
    notes: dict[str, object] = {"dlc.settings": settings, "dlc.preparation": preparation}
    return {
        _MARK: version_of("dlc") or "",
        "dlc.model": program.model,
        "dlc.program": hashlib.sha256(texts.encode()).hexdigest(),
        **{name: json.dumps(value) for name, value in notes.items() if value is not None},
    }
