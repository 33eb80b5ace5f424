"""No bit of an answer depends on the batch in which it was computed, and too many requests are refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT
from served_models import PAIR, trained_with_seed

pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from compiler.driver import Array
from runtime.data.part import Part
from runtime.data.specs import dtype_of, row_shape
from runtime.inference.prediction import Predictor, classes
from runtime.runs.trained import Trained
from runtime.serving import batching
from runtime.serving.batching import Answer, Batcher, Limits
from runtime.serving.metrics import Metrics
from runtime.serving.model import ServedModel
from runtime.serving.refusals import Refusal
from runtime.serving.requests import InferenceRequest

IMAGES = """
model Images {
    input image: f32[batch, 1, 8, 8]
    h = image |> conv2d(6, 3) |> batch_norm |> relu |> max_pool(2) |> flatten |> dropout(0.5)
    output chances = h |> dense(10) |> softmax
}
"""
SEQUENCE = """
model Sequence {
    input x: f32[batch, 7, 3]
    h = x |> lstm(9) |> layer_norm
    output y = mean(h, axis = 1) |> dense(2)
    output all = transpose(h, [1, 0, 2])
}
"""
NOISY = """
model Noisy {
    input x: f32[batch, 3]
    output y = x + random(batch, 3)
}
"""
CENTRED = """
model Centred {
    input x: f32[batch, 3]
    output y = x - mean(x, axis = 0)
}
"""
OPEN = """
model Open {
    input x: f32[batch, 4]
    input kind: i32[batch]
    output scores = (x |> dense(3)) + (kind |> embedding(5, 3))
}
"""
MODELS = {"pair": PAIR, "images": IMAGES, "sequence": SEQUENCE}
REQUESTS = 60


def requests_of(trained: Trained, count: int = REQUESTS) -> list[InferenceRequest]:
    drawn = np.random.default_rng(count)
    found: list[InferenceRequest] = []
    for _ in range(count):
        rows = int(drawn.integers(1, 9))
        arrays: dict[str, Array] = {}
        for spec in trained.program.inputs:
            if not spec.is_target:
                shape, dtype = (rows, *row_shape(spec)), dtype_of(spec)
                values = drawn.normal(size=shape) if dtype.kind == "f" else drawn.integers(0, spec.high or 2, shape)
                arrays[spec.name] = values.astype(dtype)
        found.append(InferenceRequest(None, arrays, rows, ()))
    return found


def alone(trained: Trained, predictor: Predictor, request: InferenceRequest) -> dict[str, Array]:
    """What `dlc predict` gives for the rows of a request."""
    part = Part(request.arrays, np.arange(request.rows))
    outputs = predictor.rows_first(predictor.predict(trained.tensors, part))
    return {**outputs, **classes(outputs, [spec for spec in trained.program.inputs if spec.is_target], None)}


def answered(
    trained: Trained, requests: list[InferenceRequest], limits: Limits, metrics: Metrics
) -> list[Answer | BaseException]:
    async def run() -> list[Answer | BaseException]:
        batcher = Batcher(ServedModel(trained, "one"), limits, metrics)

        async def asked(request: InferenceRequest) -> Answer:
            return await batcher.submit(request)

        found = await asyncio.gather(*map(asked, requests), return_exceptions=True)
        await batcher.close()
        return found

    return asyncio.run(run())


def batches(metrics: Metrics) -> int:
    lines = metrics.text().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("dlc_batch_rows_count")).split()[1]))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("most_rows", [1, 8, 13, 64], ids=lambda most: f"{most} rows")
def test_no_bit_depends_on_the_batch(name: str, most_rows: int) -> None:
    trained, metrics = trained_with_seed(MODELS[name]), Metrics()
    requests = requests_of(trained)
    found = answered(trained, requests, Limits(0.001, most_rows, REQUESTS), metrics)
    assert (batches(metrics) < REQUESTS) == (most_rows >= 8)
    predictor = Predictor(trained.program, trained.options)
    for request, answer in zip(requests, found, strict=True):
        assert isinstance(answer, Answer)
        wanted = alone(trained, predictor, request)
        assert answer.columns.keys() == wanted.keys()
        for output, values in wanted.items():
            assert answer.columns[output].shape == values.shape
            assert answer.columns[output].tobytes() == values.tobytes()


@pytest.mark.parametrize("text", [NOISY, CENTRED], ids=["draws", "the mean of a batch"])
def test_rows_that_depend_on_their_batch_are_computed_with_their_request(text: str) -> None:
    trained, metrics = trained_with_seed(text), Metrics()
    assert not ServedModel(trained, "one").compiled.is_row_by_row
    requests = requests_of(trained, 20)
    found = answered(trained, requests, Limits(0.001, 64, 20), metrics)
    predictor = Predictor(trained.program, trained.options)
    for request, answer in zip(requests, found, strict=True):
        assert isinstance(answer, Answer)
        assert answer.columns["y"].tobytes() == alone(trained, predictor, request)["y"].tobytes()


@pytest.mark.parametrize(
    ("text", "seconds", "threads"),
    [(PAIR, 60.0, {"dlc-compute_0", "MainThread"}), (PAIR, 0.0, {"dlc-compute_0"}), (OPEN, 60.0, {"dlc-compute_0"})],
    ids=["quick", "slow", "quick, with integers of any range"],
)
def test_only_what_is_quick_is_computed_in_the_loop(
    text: str, seconds: float, threads: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[str] = set()
    predict = ServedModel.predict

    def recorded(model: ServedModel, parts: Sequence[Part]) -> Mapping[str, Array]:
        used.add(threading.current_thread().name)
        return predict(model, parts)

    monkeypatch.setattr(ServedModel, "predict", recorded)
    monkeypatch.setattr(batching, "_QUICK", seconds)
    trained = trained_with_seed(text)
    found = answered(trained, requests_of(trained), Limits(0.001, 8, REQUESTS), Metrics())
    assert used == threads
    predictor = Predictor(trained.program, trained.options)
    for request, answer in zip(requests_of(trained), found, strict=True):
        assert isinstance(answer, Answer)
        wanted = alone(trained, predictor, request)
        assert all(answer.columns[name].tobytes() == values.tobytes() for name, values in wanted.items())


def test_what_runs_between_batches_has_its_turn() -> None:
    trained = trained_with_seed(PAIR)
    requests = requests_of(trained)

    async def run() -> list[int]:
        batcher = Batcher(ServedModel(trained, "one"), Limits(0.0, 1, REQUESTS), Metrics())
        running, most = 0, [0]

        def work() -> None:
            nonlocal running
            running += 1
            most.append(running)
            time.sleep(0.02)
            running -= 1

        asked = [batcher.submit(request) for request in requests]
        await asyncio.sleep(0.005)
        turns = [asyncio.create_task(batcher.between_batches(work)) for _ in range(3)]
        turns[1].cancel()
        await asyncio.gather(*asked, *turns, return_exceptions=True)
        await batcher.close()
        return most

    assert asyncio.run(run()) == [0, 1, 1]


def test_examples_are_computed_row_by_row() -> None:
    from compiler import driver

    for name in ("lenet", "vision_transformer", "resnet20"):
        assert driver.predicts_row_by_row(driver.load(ROOT / "examples" / name / "model.dl")), name


def test_a_wrong_request_does_not_spoil_those_beside_it() -> None:
    trained = trained_with_seed(PAIR)
    requests = requests_of(trained, 9)
    requests[4].arrays["kind"][0] = 5
    found = answered(trained, requests, Limits(0.001, 64, 9), Metrics())
    assert [isinstance(answer, Answer) for answer in found] == [True] * 4 + [False] + [True] * 4
    refusal = found[4]
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.where) == (422, "inputs, row 1")


def test_more_requests_than_may_wait_are_told_to_come_again() -> None:
    trained = trained_with_seed(PAIR)
    found = answered(trained, requests_of(trained, 30), Limits(0.01, 4, 5), Metrics())
    refused = [answer for answer in found if isinstance(answer, Refusal)]
    assert 0 < len(refused) < 30
    assert {(refusal.status, dict(refusal.headers)[b"retry-after"]) for refusal in refused} == {(429, b"1")}
    assert all(isinstance(answer, Answer | Refusal) for answer in found)


def test_a_batch_begins_when_it_is_full(tmp_path: Path) -> None:
    trained, metrics = trained_with_seed(PAIR), Metrics()
    requests = [request for request in requests_of(trained) if request.rows == 8][:2]
    found = answered(trained, requests, Limits(60.0, 8, 10), metrics)  # nobody waits for a minute
    assert all(isinstance(answer, Answer) for answer in found)
    assert batches(metrics) == 2
