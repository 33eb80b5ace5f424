"""A server in a process: signals, connections of those who mean harm, newer weights, a short load."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from served_models import PAIR, server

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import dlc
from compiler.driver import Array
from runtime.cli.main import main
from runtime.runs.checkpoint import best_checkpoint, write_checkpoint

ROW = {
    "inputs": [
        {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.5, -1.0, 2.0, 0.25]},
        {"name": "kind", "shape": [1], "datatype": "INT32", "data": [3]},
    ]
}
HEAD = b"POST /v2/models/Pair/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("serving")
    drawn = np.random.default_rng(1)
    np.savez(
        folder / "pairs.npz",
        x=drawn.normal(size=(64, 4)).astype(np.float32),
        kind=drawn.integers(0, 5, 64).astype(np.int32),
        label=drawn.integers(0, 3, 64).astype(np.int32),
    )
    (folder / "model.dl").write_text(PAIR.replace("epochs", 'data = npz("pairs.npz")\n    epochs'), encoding="utf-8")
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "runs" / "first"), "--threads", "1"]) == 0
    return folder / "runs" / "first"


@pytest.fixture(scope="module")
def place(run: Path) -> Generator[tuple[str, int]]:
    """The address of a server that takes bodies of up to 4,000 bytes and eight connections."""
    with server(run, "--threads", "1", "--max-body", "4000", "--max-connections", "8") as (_, said):
        yield address(said)


def address(said: dict[str, Any]) -> tuple[str, int]:
    parts = urlsplit(said["url"])
    return str(parts.hostname), int(parts.port or 0)


def asked(place: tuple[str, int], document: object = ROW) -> dict[str, Any]:
    connection = http.client.HTTPConnection(*place, timeout=20)
    connection.request("POST", "/v2/models/Pair/infer", json.dumps(document), {"content-type": "application/json"})
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def predicted(run: Path) -> Array:
    """The scores of `ROW`."""
    inputs = {"x": np.array([[0.5, -1.0, 2.0, 0.25]], np.float32), "kind": np.array([3], np.int32)}
    return dlc.load(run, threads=1).predict(inputs)["scores"]


def raw(place: tuple[str, int], *pieces: bytes) -> bytes:
    """All that a server sends until it closes the connection, or for a second."""
    with socket.create_connection(place, timeout=5) as opened:
        for piece in pieces:
            opened.sendall(piece)
        opened.settimeout(1)
        found = b""
        try:
            while piece := opened.recv(65536):
                found += piece
        except TimeoutError:
            pass
        return found


HOSTILE: dict[str, tuple[list[bytes], bytes]] = {
    "no HTTP": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], b"400"),
    "no method": ([b"/ HTTP/1.1\r\n\r\n"], b"400"),
    "a path of bytes": ([b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n"], b"400"),
    "CONNECT": ([b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n"], b"40"),
    "an asterisk": ([b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n"], b"40"),
    "two lengths": ([HEAD + b"content-length: 5\r\ncontent-length: 7\r\n\r\n{}"], b"400"),
    "a length and chunks": ([HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"], b"400"),
    "a negative length": ([HEAD + b"content-length: -5\r\n\r\n"], b"400"),
    "a length of 30 digits": ([HEAD + b"content-length: " + b"9" * 30 + b"\r\n\r\n"], b"400"),
    "a length that is too large": ([HEAD + b"content-length: 4001\r\n\r\n"], b"413"),
    "chunks that are too large": ([HEAD + b"transfer-encoding: chunked\r\n\r\n", b"800\r\n" + b" " * 2048 + b"\r\n"] * 1
        + [b"800\r\n" + b" " * 2048 + b"\r\n"], b"413"),
    "a chunk of no size": ([HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n"], b"400"),
    "long headers": ([HEAD + b"x: " + b"a" * 70_000], b"431"),
    "many headers": ([HEAD, *[b"x: a\r\n" * 2000 for _ in range(8)]], b"431"),
    "a long path": ([b"GET /" + b"a" * 70_000], b"431"),
    "less than the length, then a request": ([HEAD + b"content-length: 2\r\n\r\n{}" + b"GET"], b"400"),
    "an upgrade": ([b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"], b"200"),
    "HTTP/1.0": ([b"GET /v2/health/live HTTP/1.0\r\n\r\n"], b"200"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_request_is_answered_or_closed(case: str, place: tuple[str, int]) -> None:
    pieces, status = HOSTILE[case]
    found = raw(place, *pieces)
    assert found.startswith(b"HTTP/1.1 " + status), found[:200]
    if not status.startswith(b"2"):
        assert b'"fix":' in found
    assert asked(place)["model_name"] == "Pair"


def test_head_is_answered_without_a_body(place: tuple[str, int]) -> None:
    answer = raw(place, b"HEAD /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"content-length: " in head
    assert body == b""


def test_a_window_is_bounded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for window in ("1e300", "inf", "nan", "-1", "10001"):
        assert main(["serve", str(run), "--batch-window", window]) == 2
        assert "a number of milliseconds from 0 to 10000" in capsys.readouterr().err


def test_requests_in_one_piece_are_answered_in_their_order(place: tuple[str, int]) -> None:
    def request(number: int) -> bytes:
        body = json.dumps({**ROW, "id": str(number)}).encode()
        return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body

    found = raw(place, b"".join(map(request, range(5))))
    assert found.count(b"HTTP/1.1 200") == 5
    places = [found.index(b'"id":"%d"' % number) for number in range(5)]
    assert places == sorted(places)


def test_a_request_in_parts_is_answered_as_a_whole_one(place: tuple[str, int]) -> None:
    def lines(answer: bytes) -> list[bytes]:
        return [line for line in answer.split(b"\r\n") if not line.startswith(b"date:")]

    body = json.dumps({**ROW, "id": "seven"}).encode()
    head = HEAD + b"content-length: %d\r\n" % len(body)
    whole = raw(place, head + b"\r\n" + body)
    assert whole.startswith(b"HTTP/1.1 200")
    assert b'"id":"seven"' in whole
    assert lines(raw(place, head + b"\r\n", body[:50], body[50:])) == lines(whole)
    closing = raw(place, head + b"connection: close\r\n\r\n" + body)
    assert sorted(lines(closing)) == sorted([*lines(whole), b"connection: close"])


def test_a_refused_request_leaves_its_connection_open(place: tuple[str, int]) -> None:
    wrong = HEAD + b"content-length: 2\r\n\r\n{}"
    body = json.dumps(ROW).encode()
    found = raw(place, wrong, HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert found.startswith(b"HTTP/1.1 400")
    assert b"HTTP/1.1 200" in found


def test_more_connections_than_the_limit_are_told(place: tuple[str, int]) -> None:
    opened = [socket.create_connection(place, timeout=5) for _ in range(8)]
    try:
        time.sleep(0.2)
        assert raw(place).startswith(b"HTTP/1.1 503")
    finally:
        for connection in opened:
            connection.close()
    time.sleep(0.2)
    assert asked(place)["model_name"] == "Pair"


def test_a_client_that_goes_leaves_the_server_as_it_was(place: tuple[str, int]) -> None:
    body = json.dumps(ROW).encode()
    for part in (
        HEAD[:20],
        HEAD + b"content-length: 900\r\n\r\n{",
        HEAD + b"content-length: %d\r\n\r\n" % len(body) + body,
    ):
        with socket.create_connection(place, timeout=5) as opened:
            opened.sendall(part)
    assert asked(place)["model_name"] == "Pair"


def test_a_short_load_gives_the_bits_of_a_prediction(run: Path, place: tuple[str, int]) -> None:
    wanted = predicted(run)
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: asked(place), range(300)):
            assert np.array(found["outputs"][0]["data"], np.float32).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_once_requests_are_answered(number: signal.Signals, run: Path) -> None:
    body = json.dumps(ROW).encode()
    with server(run, "--batch-window", "700", "--threads", "1") as (process, said):
        with socket.create_connection(address(said), timeout=10) as opened:
            opened.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.2)
            process.send_signal(number)
            found = b""
            while piece := opened.recv(65536):
                found += piece
        assert found.startswith(b"HTTP/1.1 200")
        assert process.wait(20) == 0
        assert "no request was cut off" in process.communicate()[1]


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_newer_weights_take_the_place_and_broken_ones_do_not(run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run, tmp_path / "runs" / "first"))
    with server(run.parent, "--reload-every", "0.1", "--threads", "1") as (process, said):
        place, first = address(said), said["version"]
        before = asked(place)
        found = best_checkpoint(run / "checkpoints").checkpoint
        for values in found.weights.values():
            values *= 2
        newer = write_checkpoint(run / "checkpoints", found, is_best=True)
        until(lambda: asked(place)["model_version"] == f"first@{newer.name}")
        after = asked(place)
        assert after["outputs"] != before["outputs"]
        assert np.array(after["outputs"][0]["data"], np.float32).tobytes() == predicted(run).tobytes()
        broken = write_checkpoint(run / "checkpoints", found, is_best=True)
        with (broken / "weights.safetensors").open("r+b") as file:
            os.ftruncate(file.fileno(), 100)
        for values in found.weights.values():
            values *= np.float32("nan")
        write_checkpoint(run / "checkpoints", found, is_best=True)
        time.sleep(1)
        assert asked(place)["model_version"] == f"first@{newer.name}" != first
        process.send_signal(signal.SIGTERM)
        said_last = process.communicate()[1]
        assert process.returncode == 0
        assert "holds NaN" in said_last
        assert f"{newer.name} is served as before" in said_last


def test_a_newer_run_takes_the_place_if_it_has_the_same_inputs_and_outputs(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(run, folder / "first")
    model = run.parents[1] / "model.dl"
    text, other = model.read_text(encoding="utf-8"), run.parents[1] / "other.dl"
    other.write_text(text.replace("output scores", "output points").replace("(scores", "(points"), encoding="utf-8")
    with server(folder, "--reload-every", "0.1", "--threads", "1") as (process, said):
        place = address(said)
        assert said["version"].startswith("first@")
        time.sleep(1.1)  # runs are told apart by the second in which they began
        assert main(["train", str(model), "--set", "width=5", "--out", str(folder / "second")]) == 0
        until(lambda: asked(place)["model_version"].startswith("second@"))
        scores = np.array(asked(place)["outputs"][0]["data"], np.float32)
        assert scores.tobytes() == predicted(folder / "second").tobytes()
        time.sleep(1.1)
        assert main(["train", str(other), "--out", str(folder / "third")]) == 0
        until(lambda: 'dlc_reloads_total{result="refused"}' in metrics_of(place))
        assert asked(place)["model_version"].startswith("second@")
        process.send_signal(signal.SIGTERM)
        assert "has other inputs or outputs" in process.communicate()[1]


def metrics_of(place: tuple[str, int]) -> str:
    connection = http.client.HTTPConnection(*place, timeout=20)
    connection.request("GET", "/metrics")
    found = connection.getresponse().read().decode()
    connection.close()
    return found


def test_a_port_in_use_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(run), "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err


def test_what_cannot_be_served_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 1
    assert main(["serve", str(run / "source" / "model.dl"), "--port", "0"]) == 2
    assert main(["serve", str(run), "--port", "70000"]) == 2
    said = capsys.readouterr().err
    for message in ("there is no such run", "give --weights", "from 0 to 65535"):
        assert message in said


def test_a_missing_package_names_the_extra(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtime.cli.serve._PACKAGES", ("json", "no_such_package"))
    assert main(["serve", str(run)]) == 2
    said = capsys.readouterr().err
    assert "needs no_such_package" in said
    assert "pip install 'dlc[serve]'" in said


def test_a_batch_beyond_the_memory_is_told_before_anyone_is_served(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(run), "--port", "0", "--max-batch", str(10**12)]) == 1
    said = capsys.readouterr().err
    assert "a batch of 1,000,000,000,000 rows" in said
    assert "hint: take a smaller --max-batch" in said
