"""Bodies that take long to read are read in a process beside the server, with the same arrays and refusals."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise

import numpy as np
import pytest
from served_models import PAIR, trained_with_seed

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2")

from starlette.testclient import TestClient

from runtime.serving.batching import Limits
from runtime.serving.connections import ConnectionLimits
from runtime.serving.large_requests import LARGE, LargeRequests
from runtime.serving.metrics import Metrics
from runtime.serving.model import ServedModel
from runtime.serving.refusals import Refusal
from runtime.serving.requests import Interface, inference_request
from runtime.serving.server import ServerLimits, application_of
from runtime.serving.tensors import TensorInfo

ROWS, WIDTH = 100, 20_000
WIDE = Interface((TensorInfo("x", "FP32", (WIDTH,)),), (), ROWS)


def wide(**changes: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 99, ROWS * WIDTH).tolist()
    tensor = {"name": "x", "shape": [ROWS, WIDTH], "datatype": "FP32", "data": values}
    return json.dumps({"inputs": [tensor | changes]}).encode()


def test_the_loop_goes_on_while_a_body_is_read() -> None:
    body, times = wide(), list[float]()

    async def tick() -> None:
        while True:
            times.append(time.perf_counter())
            await asyncio.sleep(0.001)

    async def stalled(reader: LargeRequests) -> float:
        """The longest time without a tick, as a part of the time that the reading took."""
        times.clear()
        begin = time.perf_counter()
        found = await reader.read(body, None)
        lasted = time.perf_counter() - begin
        assert found.arrays["x"].tobytes() == wanted
        return max(later - earlier for earlier, later in pairwise(times)) / lasted

    async def run() -> list[float]:
        reader = LargeRequests(WIDE)
        await reader.read(body, None)  # the process is there
        ticking = asyncio.create_task(tick())
        shares = [await stalled(reader) for _ in range(4)]
        ticking.cancel()
        reader.close()
        return shares

    wanted = inference_request(body, None, WIDE).arrays["x"].tobytes()
    assert min(asyncio.run(run())) < 0.5  # other processes may stall it, too


def test_a_refusal_is_the_same_and_a_process_that_ends_is_followed_by_another() -> None:
    wrong, right = wide(datatype="FP64"), wide()
    with pytest.raises(Refusal) as wanted:
        inference_request(wrong, None, WIDE)

    async def run() -> None:
        reader = LargeRequests(WIDE)
        with pytest.raises(Refusal) as found:
            await reader.read(wrong, None)
        assert (found.value.status, found.value.body()) == (wanted.value.status, wanted.value.body())
        process = reader._process  # pyright: ignore[reportPrivateUsage]
        assert process is not None
        process.kill()
        with pytest.raises(Refusal) as ended:
            await reader.read(right, None)
        assert ended.value.status == 503
        assert (await reader.read(right, None)).rows == ROWS
        process = reader._process  # pyright: ignore[reportPrivateUsage]
        reader.close()
        assert process is not None
        assert process.poll() is not None

    asyncio.run(run())


def test_many_rows_are_answered_as_few_are() -> None:
    trained, rows = trained_with_seed(PAIR), 8000
    drawn = np.random.default_rng(1)
    x, kind = drawn.normal(size=(rows, 4)).astype(np.float32), drawn.integers(0, 5, rows)

    def asked(part: slice) -> dict[str, object]:
        count = len(kind[part])
        return {
            "inputs": [
                {"name": "x", "shape": [count, 4], "datatype": "FP32", "data": x[part].tolist()},
                {"name": "kind", "shape": [count], "datatype": "INT32", "data": kind[part].tolist()},
            ]
        }

    limits = ServerLimits(Limits(0.0, rows, 64), ConnectionLimits(8, 1 << 24))
    model = ServedModel(trained, "first")
    with TestClient(application_of(model, model.interface(rows), limits, Metrics(), None)) as client:
        infer = "/v2/models/Pair/infer"
        content = json.dumps(asked(slice(None))).encode()
        assert len(content) > LARGE
        answer = client.post(infer, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 200
        few = client.post(infer, json=asked(slice(0, 3)))
        for output, small in zip(answer.json()["outputs"], few.json()["outputs"], strict=True):
            assert output["data"][: len(small["data"])] == small["data"]
        wrong = content.replace(b"FP32", b"FP64")
        assert client.post(infer, content=wrong, headers={"content-type": "application/json"}).status_code == 422
