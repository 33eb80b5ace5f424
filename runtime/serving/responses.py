"""Outputs of a request to the bytes of its response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from compiler.driver import Array
from runtime.serving.requests import InferenceRequest
from runtime.serving.tensors import bytes_of, json_elements


def response_body(
    model: str, version: str, request: InferenceRequest, outputs: Mapping[str, Array]
) -> tuple[bytes, int | None]:
    """The body, and the bytes of its JSON where binary data follow that."""
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for wanted in request.wanted:
        values = outputs[wanted.name]
        entry: dict[str, Any] = {"name": wanted.name, "datatype": wanted.datatype, "shape": list(values.shape)}
        if wanted.is_binary:
            binary.append(bytes_of(values))
            entry["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            entry["data"] = json_elements(values)
        described.append(entry)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        document["id"] = request.id
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([text, *binary]), len(text)) if binary else (text, None)
