"""The bytes of an inference request to arrays by the names of the model's inputs, with every part of it checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from compiler.driver import Array
from compiler.support.record import record
from runtime.serving.refusals import Refusal
from runtime.serving.tensors import TensorInfo, array_of_bytes, array_of_json, unknown

_KEYS = ("id", "inputs", "outputs", "parameters")
_INPUT_KEYS = ("name", "shape", "datatype", "data", "parameters")
_LARGEST_EXTENT = 1 << 40


@record
class Wanted:
    """An output that a response shall have, as JSON or as bytes."""

    name: str
    datatype: str
    is_binary: bool


@record
class InferenceRequest:
    """`arrays` have the names, datatypes and shapes of the model's inputs, all with the same number of rows."""

    id: str | None
    arrays: Mapping[str, Array]
    rows: int
    wanted: tuple[Wanted, ...]


@record
class Interface:
    """What requests give and responses hold, which stays while a server runs; `most_rows` bounds a request."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    most_rows: int


def inference_request(body: bytes, header_length: int | None, interface: Interface) -> InferenceRequest:
    """The request of a body; where it has binary data, its JSON ends after `header_length` bytes. Raises Refusal."""
    text = body if header_length is None else body[:header_length]
    if header_length is not None and header_length > len(body):
        message = f"the JSON of the request has {header_length} bytes, and the body {len(body)}"
        raise Refusal(400, message, "Inference-Header-Content-Length", "give the length of the JSON alone")
    document = _document(text)
    binary = memoryview(body)[len(text) :]
    arrays, wanted = _arrays(document, binary, interface), _wanted(document, interface)
    if _has_repeated_names(text, document):
        _refuse_repeated_names(text)
    rows = {name: len(values) for name, values in arrays.items()}
    if len({*rows.values()}) != 1:
        said = ", ".join(f"`{name}` has {count}" for name, count in rows.items())
        raise Refusal(422, f"the numbers of rows differ: {said}", "inputs", "give as many rows of each input")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise Refusal(400, "`id` is not a text", "id", "give a text, or leave it out")
    return InferenceRequest(identity, arrays, next(iter(rows.values())), wanted)


def _document(text: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fix = "send JSON in UTF-8; NaN and Infinity are not JSON"
        raise Refusal(400, f"the body is not JSON: {error}", "body", fix) from None
    document = _object(found, "body")
    _refuse_other_keys(document, _KEYS, "body")
    return document


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(400, f"{where} is not a JSON object", where, "give names and values between braces")
    return cast("dict[str, Any]", value)


def _listed(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise Refusal(400, f"`{where}` is not a list", where, f'give "{where}": […] with an object for each')
    return cast("list[object]", value)


def _refuse_other_keys(value: Mapping[str, object], known: Sequence[str], where: str) -> None:
    for key in value:
        if key not in known:
            refusal = unknown("key", key, known, where)
            raise Refusal(400, refusal.error, where, refusal.fix)


def _arrays(document: Mapping[str, object], binary: memoryview, interface: Interface) -> dict[str, Array]:
    if "inputs" not in document:
        raise Refusal(400, "`inputs` is missing", "body", 'give "inputs": [{"name", "shape", "datatype", "data"}, …]')
    infos = {info.name: info for info in interface.inputs}
    found: dict[str, Array] = {}
    place = 0
    for number, given in enumerate(_listed(document["inputs"], "inputs")):
        where = f"inputs[{number}]"
        tensor = _object(given, where)
        info = _info(tensor, infos, where)
        if info.name in found:
            raise Refusal(422, f"the input `{info.name}` is given twice", where, "leave one out")
        shape = _shape(tensor, info, interface.most_rows, where)
        size = _binary_size(tensor, where)
        if size is None:
            found[info.name] = array_of_json(info, shape, tensor.get("data"), where)
        else:
            if place + size > len(binary):
                message = f"`binary_data_size` is {size}, and {len(binary) - place} bytes are left"
                raise Refusal(400, message, where, "append the bytes of all such inputs to the JSON, in their order")
            found[info.name] = array_of_bytes(info, shape, binary[place : place + size], where)
            place += size
    if missing := [name for name in infos if name not in found]:
        raise Refusal(422, f"the input `{missing[0]}` is missing", "inputs", f"give {', '.join(infos)}")
    if place != len(binary):
        message = f"{len(binary) - place} bytes behind the JSON belong to no input"
        raise Refusal(400, message, "body", "say `binary_data_size` in the parameters of each input that has bytes")
    return found


def _info(tensor: Mapping[str, object], infos: Mapping[str, TensorInfo], where: str) -> TensorInfo:
    _refuse_other_keys(tensor, _INPUT_KEYS, where)
    for key in ("name", "shape", "datatype"):
        if key not in tensor:
            raise Refusal(400, f"`{key}` is missing", where, 'an input has "name", "shape", "datatype" and "data"')
    name, datatype = tensor["name"], tensor["datatype"]
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise Refusal(400, "`name` and `datatype` are texts", where, "give both as texts")
    if name not in infos:
        raise unknown("input", name, tuple(infos), where)
    info = infos[name]
    if datatype != info.datatype:
        message = f"`{name}` is {info.datatype}, not {datatype[:40]}"
        raise Refusal(422, message, f"{where}.datatype", f"give {info.shown}")
    return info


def _shape(tensor: Mapping[str, object], info: TensorInfo, most_rows: int, where: str) -> tuple[int, ...]:
    given = tensor["shape"]
    extents = cast("list[object]", given) if isinstance(given, list) else []
    if not extents or not all(type(extent) is int and 0 <= extent < _LARGEST_EXTENT for extent in extents):
        raise Refusal(400, "`shape` is not a list of whole numbers", f"{where}.shape", f"give {info.shown}")
    rows, *row = shape = cast("list[int]", extents)
    if tuple(row) != info.row:
        message = f"`{info.name}` has the shape {[-1, *info.row]}, not {shape[:16]}"
        raise Refusal(422, message, f"{where}.shape", f"give {info.shown}")
    if not 0 < rows <= most_rows:
        message = f"the request has {rows} rows, and the server takes 1 to {most_rows} at once"
        fix = "send several requests, or start it with a larger --max-batch" if rows else "send a row"
        raise Refusal(422, message, f"{where}.shape", fix)
    return tuple(shape)


def _binary_size(tensor: Mapping[str, object], where: str) -> int | None:
    """The bytes of an input behind the JSON; None where its elements are JSON."""
    parameters = _parameters(tensor, ("binary_data_size",), where)
    if "binary_data_size" not in parameters:
        if "data" not in tensor:
            fix = "give the elements, or `binary_data_size` with the bytes behind the JSON"
            raise Refusal(400, "`data` is missing", where, fix)
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0 or "data" in tensor:
        fix = "give a whole number of bytes, and no `data`"
        raise Refusal(400, "`binary_data_size` stands beside `data`, or is no number of bytes", where, fix)
    return size


def _parameters(holder: Mapping[str, object], known: Sequence[str], where: str) -> Mapping[str, object]:
    if "parameters" not in holder:
        return {}
    found = _object(holder["parameters"], f"{where}.parameters")
    _refuse_other_keys(found, known, f"{where}.parameters")
    return found


def _flag(parameters: Mapping[str, object], name: str, where: str, usual: bool) -> bool:
    found = parameters.get(name, usual)
    if not isinstance(found, bool):
        raise Refusal(400, f"`{name}` is neither true nor false", where, "give true for bytes and false for JSON")
    return found


def _wanted(document: Mapping[str, object], interface: Interface) -> tuple[Wanted, ...]:
    usual = _flag(_parameters(document, ("binary_data_output",), "body"), "binary_data_output", "parameters", False)
    if "outputs" not in document:
        return tuple([Wanted(info.name, info.datatype, usual) for info in interface.outputs])
    datatypes = {info.name: info.datatype for info in interface.outputs}
    names = tuple(datatypes)
    found: list[Wanted] = []
    for number, given in enumerate(_listed(document["outputs"], "outputs")):
        where = f"outputs[{number}]"
        output = _object(given, where)
        _refuse_other_keys(output, ("name", "parameters"), where)
        name = output.get("name")
        if not isinstance(name, str):
            raise Refusal(400, "`name` is missing", where, f"name one of {', '.join(names)}")
        if name not in names:
            raise unknown("output", name, names, where)
        parameters = _parameters(output, ("binary_data",), where)
        found.append(Wanted(name, datatypes[name], _flag(parameters, "binary_data", where, usual)))
    if not found:
        raise Refusal(422, "`outputs` is empty", "outputs", "leave it out for all outputs")
    return tuple(found)


def _has_repeated_names(text: bytes, document: Mapping[str, Any]) -> bool:
    """Whether an object may have a name twice: the text has other quotes than those of the texts that were read.

    Of two values under one name the second was read. An escaped quote makes the answer true.
    """
    texts = len(document) + isinstance(document.get("id"), str) + len(document.get("parameters", ()))
    for tensor in (*document["inputs"], *document.get("outputs", ())):
        texts += len(tensor) + 1 + ("datatype" in tensor) + len(tensor.get("parameters", ()))
        if tensor.get("datatype") == "BYTES" and "data" in tensor:
            texts += _texts_in(tensor["data"])
    return text.count(b'"') != 2 * texts or b"\\" in text


def _texts_in(data: Sequence[object]) -> int:
    return sum(_texts_in(cast("list[object]", part)) if isinstance(part, list) else 1 for part in data)


def _refuse_repeated_names(text: bytes) -> None:
    def names(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Refusal(400, f"an object has the name `{name[:40]}` twice", "body", "leave one out")
            seen.add(name)

    try:
        json.loads(text, object_pairs_hook=names)
    except RecursionError:
        raise Refusal(400, "the lists of the body are nested too deeply", "body", "nest like the shape") from None
