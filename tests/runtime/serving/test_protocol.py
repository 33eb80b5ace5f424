"""The Open Inference Protocol: what a server says of itself, what it answers, and what it refuses in words."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import PAIR, trained_with_seed

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2")

from starlette.testclient import TestClient

from compiler.driver import Array
from runtime.inference.prediction import Predictor, classes
from runtime.runs.trained import Trained
from runtime.serving.batching import Limits
from runtime.serving.connections import ConnectionLimits
from runtime.serving.metrics import Metrics
from runtime.serving.model import ServedModel
from runtime.serving.server import ServerLimits, application_of
from runtime.serving.tensors import bytes_of

INFER = "/v2/models/Pair/infer"
BINARY = {"content-type": "application/octet-stream"}
MOST_BYTES = 20_000
ROWS = 5


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_with_seed(PAIR)


@pytest.fixture(scope="module")
def client(trained: Trained) -> Generator[TestClient]:
    limits = ServerLimits(Limits(0.0, 16, 64), ConnectionLimits(8, MOST_BYTES))
    model = ServedModel(trained, "first")
    application = application_of(model, model.interface(16), limits, Metrics(), None)
    with TestClient(application) as opened:
        yield opened


def arrays(rows: int = ROWS) -> dict[str, Array]:
    drawn = np.random.default_rng(rows)
    return {"x": drawn.normal(size=(rows, 4)).astype(np.float32), "kind": drawn.integers(0, 5, rows).astype(np.int32)}


def request(**changes: Any) -> dict[str, Any]:
    """A request with both inputs; a change `x_…` or `kind_…` replaces a key of that input, another one of the top."""
    given = arrays()
    inputs = {
        "x": {"name": "x", "shape": [ROWS, 4], "datatype": "FP32", "data": given["x"].tolist()},
        "kind": {"name": "kind", "shape": [ROWS], "datatype": "INT32", "data": given["kind"].tolist()},
    }
    top: dict[str, Any] = {}
    for name, value in changes.items():
        owner, _, key = name.partition("_")
        if owner in inputs and key:
            inputs[owner][key] = value
        else:
            top[name] = value
    return {"inputs": list(inputs.values()), **top}


def expected(trained: Trained, given: dict[str, Array]) -> dict[str, Array]:
    """What `dlc predict` gives."""
    from runtime.data.part import Part

    predictor = Predictor(trained.program, trained.options)
    outputs = predictor.rows_first(predictor.predict(trained.tensors, Part(given, np.arange(len(given["x"])))))
    return {**outputs, **classes(outputs, [s for s in trained.program.inputs if s.is_target], None)}


def test_the_server_says_what_it_serves(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "dlc"
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/Pair/ready").status_code == 200
    found = client.get("/v2/models/Pair").json()
    assert found == client.get("/v2/models/Pair/versions/first").json()
    assert found["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "kind", "datatype": "INT32", "shape": [-1]},
    ]
    assert found["outputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "label", "datatype": "INT64", "shape": [-1]},
    ]


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_json_keeps_every_bit(nested: bool, client: TestClient, trained: Trained) -> None:
    given = arrays()
    data = given["x"].tolist() if nested else given["x"].reshape(-1).tolist()
    answer = client.post(INFER, json=request(x_data=data, id="seven"))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("Pair", "first", "seven")
    for output, (name, values) in zip(found["outputs"], expected(trained, given).items(), strict=True):
        assert (output["name"], output["shape"]) == (name, list(values.shape))
        read = np.array(output["data"], values.dtype).reshape(values.shape)
        assert read.tobytes() == values.tobytes()


def test_binary_tensors_keep_every_bit(client: TestClient, trained: Trained) -> None:
    given = arrays()
    inputs = [
        {
            "name": name,
            "shape": list(values.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": values.nbytes},
        }
        for (name, values), datatype in zip(given.items(), ("FP32", "INT32"), strict=True)
    ]
    outputs = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "label"}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = head + b"".join(values.tobytes() for values in given.values())
    answer = client.post(INFER, content=body, headers={**BINARY, "inference-header-content-length": str(len(head))})
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    said = json.loads(answer.content[:length])
    wanted = expected(trained, given)
    assert said["outputs"][0]["parameters"]["binary_data_size"] == wanted["scores"].nbytes
    assert answer.content[length:] == wanted["scores"].tobytes()
    assert said["outputs"][1]["data"] == wanted["label"].tolist()


def test_texts_are_written_with_their_lengths() -> None:
    assert bytes_of(np.array(["a", "öß"])) == b"\x01\0\0\0a" + b"\x04\0\0\0" + "öß".encode()


def test_a_request_without_a_type_is_read_as_clients_of_triton_mean_it(client: TestClient) -> None:
    assert client.post(INFER, content=json.dumps(request()).encode()).status_code == 200
    given = arrays()
    asked = request(x_parameters={"binary_data_size": given["x"].nbytes}, parameters={"binary_data_output": True})
    del asked["inputs"][0]["data"]
    head = json.dumps(asked).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = client.post(INFER, content=head + given["x"].tobytes(), headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert client.post(INFER, content=head, headers={"content-type": "application/json", **headers}).status_code == 415


def test_outputs_are_chosen_by_name(client: TestClient) -> None:
    answer = client.post("/v2/models/Pair/versions/first/infer", json=request(outputs=[{"name": "label"}]))
    assert [output["name"] for output in answer.json()["outputs"]] == ["label"]


WRONG: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no inputs": (422, "the input `x` is missing", {"inputs": []}),
    "inputs are an object": (400, "`inputs` is not a list", {"inputs": {}}),
    "another key": (400, "there is no key `output`", {**request(), "output": []}),
    "the name of no input": (422, "there is no input `y`", request(x_name="y")),
    "an input twice": (422, "the input `x` is given twice", {"inputs": [request()["inputs"][0]] * 2}),
    "another datatype": (422, "`x` is FP32, not FP64", request(x_datatype="FP64")),
    "another shape": (422, "`x` has the shape [-1, 4], not [5, 3]", request(x_shape=[5, 3])),
    "a shape of texts": (400, "`shape` is not a list of whole numbers", request(x_shape=["5", 4])),
    "a shape of truth": (400, "`shape` is not a list of whole numbers", request(kind_shape=[True])),
    "a negative extent": (400, "`shape` is not a list of whole numbers", request(x_shape=[-1, 4])),
    "an enormous extent": (400, "`shape` is not a list of whole numbers", request(x_shape=[1 << 50, 4])),
    "no rows": (422, "the request has 0 rows", request(x_shape=[0, 4], x_data=[])),
    "too many rows": (422, "the request has 17 rows", request(x_shape=[17, 4])),
    "fewer elements": (422, "`data` has 3 elements", request(x_data=[1.0, 2.0, 3.0])),
    "ragged rows": (422, "at depth 2, not every element", request(x_data=[[1.0] * 4] * 4 + [[1.0] * 3])),
    "nested too deeply": (422, "element 0 is a list", request(x_data=[[[1.0]] * 4] * 5)),
    "texts for numbers": (422, "element 1 is the text '2'", request(x_data=[1.0, "2", *[0.0] * 18])),
    "null": (422, "element 0 is null", request(x_data=[None, *[0.0] * 19])),
    "truth for a number": (422, "element 2 is true", request(x_data=[0.0, 0.0, True, *[0.0] * 17])),
    "a float for an integer": (422, "element 0 is 1.0", request(kind_data=[1.0, 2, 3, 4, 0])),
    "beyond f32": (422, "no finite number of FP32", request(x_data=[1e39, *[0.0] * 19])),
    "beyond 64 bits": (422, "not a whole number", request(kind_data=[1 << 70, 0, 0, 0, 0])),
    "beyond i32": (422, "no finite number of INT32", request(kind_data=[1 << 40, 0, 0, 0, 0])),
    "beyond the declared range": (422, "5 is out of range", request(kind_data=[0, 1, 5, 0, 0])),
    "other numbers of rows": (422, "the numbers of rows differ", request(kind_shape=[4], kind_data=[0] * 4)),
    "data as a text": (400, "`data` is the text", request(x_data="0.0")),
    "no data": (400, "`data` is missing", {"inputs": [{"name": "x", "shape": [5, 4], "datatype": "FP32"}]}),
    "an unknown parameter": (400, "there is no key `priority`", request(parameters={"priority": 1})),
    "a parameter of bytes": (
        400,
        "`binary_data_size` is 80, and 0 bytes are left",
        {"inputs": [{"name": "x", "shape": [5, 4], "datatype": "FP32", "parameters": {"binary_data_size": 80}}]},
    ),
    "an unknown output": (422, "there is no output `score`", request(outputs=[{"name": "score"}])),
    "no outputs": (422, "`outputs` is empty", request(outputs=[])),
    "a number as id": (400, "`id` is not a text", request(id=7)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_explained(case: str, client: TestClient) -> None:
    status, message, document = WRONG[case]
    answer = client.post(INFER, json=document)
    said = answer.json()
    assert (answer.status_code, message in said["error"]) == (status, True), said
    assert said["where"]
    assert said["fix"]


def test_no_rows_are_not_too_many(client: TestClient) -> None:
    assert client.post(INFER, json=request(x_shape=[0, 4], x_data=[])).json()["fix"] == "send a row"
    assert "--max-batch" in client.post(INFER, json=request(x_shape=[17, 4])).json()["fix"]


GOOD = json.dumps(request())
BROKEN = {
    "nothing": (b"", "the body is not JSON"),
    "cut off": (GOOD[:-1].encode(), "the body is not JSON"),
    "NaN": (GOOD.replace("]}]", ", NaN]}]").encode(), "the body is not JSON"),
    "Infinity": (GOOD.replace('"data": [[', '"data": [[Infinity, ').encode(), "the body is not JSON"),
    "not UTF-8": (GOOD.replace('"x"', '"\xff"').encode("latin-1"), "the body is not JSON"),
    "deep nesting": (b"[" * 9000, "the body is not JSON"),
    "nesting that closes": (b"[" * 1000 + b"]" * 1000, "body is not a JSON object"),
    "a list": (b"[]", "body is not a JSON object"),
    "a name twice": (GOOD.replace('"shape": [5]', '"shape": [5], "shape": [5]').encode(), "name `shape` twice"),
    "an escaped name twice": (
        GOOD.replace('"shape": [5]', '"sh\\u0061pe": [9], "shape": [5]').encode(),
        "`shape` twice",
    ),
    "the top twice": (b'{"inputs": [], ' + GOOD[1:].encode(), "name `inputs` twice"),
    "bytes behind": (GOOD.encode() + b" 0000", "the body is not JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_json_is_explained(case: str, client: TestClient) -> None:
    body, message = BROKEN[case]
    answer = client.post(INFER, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.json()


def test_an_escaped_text_is_no_repeated_name(client: TestClient) -> None:
    answer = client.post(INFER, json=request(id='a "quoted" \\ id'))
    assert answer.json()["id"] == 'a "quoted" \\ id'


@pytest.mark.parametrize(
    ("length", "message"),
    [("x", "no number"), ("-1", "no number"), ("99999", "the JSON of the request has 99999 bytes"), ("0", "not JSON")],
)
def test_a_wrong_length_of_the_json_is_explained(length: str, message: str, client: TestClient) -> None:
    headers = {**BINARY, "inference-header-content-length": length}
    answer = client.post(INFER, content=GOOD.encode(), headers=headers)
    assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.json()


def test_bytes_that_belong_to_nothing_are_refused(client: TestClient) -> None:
    headers = {**BINARY, "inference-header-content-length": str(len(GOOD))}
    answer = client.post(INFER, content=GOOD.encode() + b"12", headers=headers)
    assert "2 bytes behind the JSON belong to no input" in answer.json()["error"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_binary_numbers_are_finite(value: float, client: TestClient) -> None:
    given = arrays()
    given["x"][2, 1] = value
    wrong = request(x_parameters={"binary_data_size": given["x"].nbytes})
    del wrong["inputs"][0]["data"]
    head = json.dumps(wrong).encode()
    headers = {**BINARY, "inference-header-content-length": str(len(head))}
    answer = client.post(INFER, content=head + given["x"].tobytes(), headers=headers)
    assert (answer.status_code, "element 9" in answer.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", INFER, {}, 405),
        ("PUT", INFER, {}, 405),
        ("POST", "/v2/models/Pair", {}, 405),
        ("POST", "/metrics", {}, 405),
        ("GET", "/", {}, 404),
        ("GET", "/v2/", {}, 404),
        ("GET", "/v2/models/Other", {}, 404),
        ("POST", "/v2/models/Other/infer", {}, 404),
        ("GET", "/v2/models/Pair/versions/second", {}, 404),
        ("GET", "/v2/models/%2e%2e/%2e%2e/etc/passwd", {}, 404),
        ("GET", "/v2/models/..%2f..%2fetc", {}, 404),
        ("GET", "/v2/models/Pair%00", {}, 404),
        ("GET", "//v2", {}, 404),
        ("POST", INFER, {"content-type": "text/plain"}, 415),
        ("POST", INFER, {"content-type": "application/octet-stream"}, 415),
        ("POST", INFER, {"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
def test_paths_methods_and_types(
    method: str, path: str, headers: dict[str, str], status: int, client: TestClient
) -> None:
    answer = client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "where", "fix"}
    if status == 405:
        assert answer.headers["allow"]


def test_a_body_has_a_limit_with_and_without_its_length(client: TestClient) -> None:
    def pieces() -> Generator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    for content in (b" " * (MOST_BYTES + 1), pieces()):
        answer = client.post(INFER, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "--max-body" in answer.json()["fix"]


def test_metrics_count_what_was_answered(client: TestClient) -> None:
    def count(text: str, series: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))

    before = client.get("/metrics")
    assert before.headers["content-type"].startswith("text/plain; version=0.0.4")
    client.post(INFER, json=request())
    client.post(INFER, json=request(x_name="y"))
    after = client.get("/metrics").text
    for series, more in {
        'dlc_responses_total{status="200"}': 2,  # with that of the metrics themselves
        'dlc_responses_total{status="422"}': 1,
        "dlc_rows_total": ROWS,
        "dlc_batch_rows_count": 1,
        "dlc_inference_seconds_count": 1,  # refusals are quick, and would hide how long predictions take
    }.items():
        assert count(after, series) - count(before.text, series) == more
    assert 'dlc_model_info{model="Pair",version="first"} 1.0' in after


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    from compiler.errors.diagnostics import CheckpointError

    spoilt = trained_with_seed(PAIR)
    name = spoilt.program.parameters[0].path
    values = spoilt.tensors[name].copy()
    values.flat[0] = np.nan
    spoilt.tensors.write(name, values)
    with pytest.raises(CheckpointError, match=f"`{name}` holds NaN"):
        ServedModel(spoilt, "spoilt")
