"""An ONNX file to a checked model: whole, acyclic, and with all its tensors in its own folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from compiler.errors.diagnostics import DataError, UsageError

_MOST_ELEMENTS = 2**31
_MOST_BYTES = 2**31
# Bits of an element by ONNX's number of its type; 0 for texts and unknown ones.
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    14: 64,
    15: 128,
    16: 16,
    17: 8,
    18: 8,
    19: 8,
    20: 8,
    21: 4,
    22: 4,
    23: 4,
    24: 8,
    25: 2,
    26: 2,
}


def onnx_module() -> Any:
    """The package `onnx`. Raises UsageError where it is absent."""
    try:
        import onnx  # an extra
    except ImportError as error:
        raise UsageError("reading ONNX needs the package `onnx`", "pip install 'dlc[onnx]'") from error
    return onnx


def evaluated(proto: Any, opsets: Mapping[str, int] | None, inputs: Mapping[str, Any]) -> list[Any]:
    """The results of a node or a model by the evaluator of `onnx`, which raises errors of many kinds."""
    from onnx.reference import ReferenceEvaluator  # slow to import

    evaluator: Any = ReferenceEvaluator
    made = evaluator(proto) if opsets is None else evaluator(proto, opsets=dict(opsets))
    return list(made.run(None, dict(inputs)))


def read_model(path: Path) -> Any:
    """The model of a file, its functions inlined. Raises DataError for a file that is no whole, valid model."""
    onnx = onnx_module()
    model = _parsed(onnx, path)
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            message = f"the model has operators of opset {opset.version}, and the package `onnx` knows up to {newest}"
            raise DataError(message, path, fix="pip install --upgrade onnx, or export with an older opset")
    for tensor in _tensors(onnx, model.graph):
        _expect_plausible(onnx, tensor, path)
    folder = path.parent
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(folder))
    except Exception as error:  # the library raises many kinds
        raise DataError(f"a tensor outside of the file cannot be read: {_first_line(error)}", path) from error
    try:
        onnx.checker.check_model(model, full_check=False)
    except ValueError as error:
        raise DataError(f"the model is not valid: {_first_line(error)}", path, fix="export it again") from error
    except onnx.checker.ValidationError as error:
        raise DataError(f"the model is not valid: {_first_line(error)}", path, fix="export it again") from error
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _parsed(onnx: Any, path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(f"the file has {size:,} bytes, and an ONNX model at most {_MOST_BYTES:,}", path)
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    except DataError:
        raise
    except Exception as error:  # the parser's own kinds of error differ between its implementations
        raise DataError("this is not a whole ONNX model", path, fix="export it again, or copy it again") from error
    if not model.HasField("graph") or not model.opset_import:
        raise DataError("this is not a whole ONNX model", path, fix="export it again, or copy it again")
    return model


def _tensors(onnx: Any, graph: Any) -> list[Any]:
    """The constants of a graph and of those inside of it."""
    found = list(graph.initializer) + [s.values for s in graph.sparse_initializer]
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += attribute.tensors
            inner = [attribute.g] if attribute.HasField("g") else []
            for graph_inside in (*inner, *attribute.graphs):
                found += _tensors(onnx, graph_inside)
    return found


def _expect_plausible(onnx: Any, tensor: Any, path: Path) -> None:
    """Refuse a tensor whose declared size its content does not have, or that lies outside of the folder."""
    name = tensor.name or "a constant"
    elements = math.prod(tensor.dims)
    if any(extent < 0 for extent in tensor.dims) or elements > _MOST_ELEMENTS:
        shape = " × ".join(map(str, tensor.dims))
        raise DataError(f"`{name}` is declared with {shape} elements, and at most {_MOST_ELEMENTS:,} are read", path)
    bits = _BITS.get(tensor.data_type, 0)
    needed = (elements * bits + 7) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _expect_inside(tensor, needed, path)
    elif tensor.HasField("raw_data") and bits and len(tensor.raw_data) != needed:
        raise DataError(f"`{name}` has {len(tensor.raw_data):,} bytes, and its shape asks for {needed:,}", path)
    elif not tensor.HasField("raw_data") and bits and elements:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        held = max(len(getattr(tensor, field)) for field in fields)
        if held == 0:
            raise DataError(
                f"`{name}` is declared with {elements:,} elements and has none", path, fix="export it again"
            )


def _expect_inside(tensor: Any, needed: int, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.parent.resolve()
    place = (folder / location).resolve()
    parts = PurePosixPath(location).parts
    if not location or ".." in parts or PurePosixPath(location).is_absolute() or folder not in place.parents:
        raise DataError(
            f"`{tensor.name}` lies in `{location}`, which leads out of the folder of the model",
            path,
            fix="put the file of the weights beside the model, and export again",
        )
    if not place.is_file():
        raise DataError(
            f"`{tensor.name}` lies in `{location}`, which is not there", path, fix="copy it beside the model"
        )
    offset = int(entries["offset"]) if entries.get("offset", "0").isdigit() else -1
    if offset < 0 or offset + needed > place.stat().st_size:
        raise DataError(f"`{location}` ends before `{tensor.name}` does", path, fix="copy it again")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def place_of(proto: Any) -> str:
    """The name of a node, or of the first value that it makes."""
    return proto.name or f"{proto.op_type} that makes `{next((o for o in proto.output if o), '')}`"
