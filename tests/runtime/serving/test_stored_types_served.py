"""Requests and responses of types that are only stored, as JSON and as bytes, and numbers that they do not have."""

from __future__ import annotations

import json
from collections.abc import Generator

import numpy as np
import pytest
from served_models import trained_with_seed

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2")

from starlette.testclient import TestClient

from compiler.driver import Array
from runtime.serving.batching import Limits
from runtime.serving.connections import ConnectionLimits
from runtime.serving.metrics import Metrics
from runtime.serving.model import ServedModel
from runtime.serving.server import ServerLimits, application_of

TYPES = {"f16": "FP16", "i8": "INT8", "i16": "INT16", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64", "bool": "BOOL"}
INFER = "/v2/models/Moved/infer"
TEXT = (
    "model Moved {\n"
    + "".join(f"    input in_{d}: {d}[batch, 2]\n" for d in TYPES)
    + "".join(f"    output out_{d} = reverse(in_{d}, 1)\n" for d in TYPES)
    + "}\n"
)
GIVEN: dict[str, Array] = {
    "f16": np.array([[0.1, -65504.0], [6e-8, 2.0]], np.float16),
    "i8": np.array([[-128, 127], [0, 1]], np.int8),
    "i16": np.array([[-(2**15), 2**15 - 1], [0, 1]], np.int16),
    "u16": np.array([[0, 2**16 - 1], [1, 2]], np.uint16),
    "u32": np.array([[0, 2**32 - 1], [1, 2]], np.uint32),
    "u64": np.array([[0, 2**64 - 1], [2**63 + 1, 2]], np.uint64),
    "bool": np.array([[True, False], [True, True]]),
}


@pytest.fixture(scope="module")
def client() -> Generator[TestClient]:
    limits = ServerLimits(Limits(0.0, 16, 64), ConnectionLimits(8, 20_000))
    model = ServedModel(trained_with_seed(TEXT), "first")
    application = application_of(model, model.interface(16), limits, Metrics(), None)
    with TestClient(application) as opened:
        yield opened


def tensor(dtype: str, **more: object) -> dict[str, object]:
    return {"name": f"in_{dtype}", "datatype": TYPES[dtype], "shape": [2, 2], **more}


def test_json_keeps_every_number(client: TestClient) -> None:
    inputs = [tensor(dtype, data=array.tolist()) for dtype, array in GIVEN.items()]
    answer = client.post(INFER, json={"inputs": inputs}).json()
    for output, (dtype, array) in zip(answer["outputs"], GIVEN.items(), strict=True):
        assert (output["name"], output["datatype"]) == (f"out_{dtype}", TYPES[dtype])
        np.testing.assert_array_equal(np.array(output["data"], array.dtype).reshape(2, 2), array[:, ::-1])


def test_bytes_are_those_of_the_arrays(client: TestClient) -> None:
    inputs = [tensor(d, parameters={"binary_data_size": array.nbytes}) for d, array in GIVEN.items()]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    body = head + b"".join(array.tobytes() for array in GIVEN.values())
    answer = client.post(INFER, content=body, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    assert answer.content[length:] == b"".join(array[:, ::-1].tobytes() for array in GIVEN.values())


@pytest.mark.parametrize(
    ("dtype", "number", "message"),
    [
        ("f16", 65520.0, "element 0 is 65520.0, which is no finite number of FP16"),
        ("i8", 128, "element 0 is 128, which is no finite number of INT8"),
        ("i16", -(2**15) - 1, "element 0 is -32769, which is no finite number of INT16"),
        ("u16", -1, "element 0 is -1, which is no finite number of UINT16"),
        ("u32", 2**32, "element 0 is 4294967296, which is no finite number of UINT32"),
        ("u64", -1, "a number is below 0"),
        ("u64", 0.5, "element 0 is 0.5, not a whole number"),
        ("bool", 1, "element 0 is 1, not true or false"),
    ],
)
def test_a_number_that_a_type_lacks_is_refused(dtype: str, number: float, message: str, client: TestClient) -> None:
    data = [number, *GIVEN[dtype].reshape(-1).tolist()[1:]]
    inputs = [tensor(d, data=data if d == dtype else array.tolist()) for d, array in GIVEN.items()]
    answer = client.post(INFER, json={"inputs": inputs})
    assert (answer.status_code, answer.json()["error"]) == (422, message)
