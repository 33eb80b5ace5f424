"""Those who send slowly, or never: each connection has a deadline, and ends with an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from runtime.serving.application import Application
from runtime.serving.connections import ConnectionLimits, protocol_within
from runtime.serving.metrics import Metrics
from runtime.serving.service import Said

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
WHOLE = HEAD + b"content-length: 2\r\n\r\n{}"
PATIENCE = 0.4


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body and answers, a little later where the path says so; a path `/early` is answered before its body."""
    message = {"type": "http.request", "more_body": scope["path"] != "/early"}
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()
    if message["type"] == "http.disconnect":
        return
    if scope["path"] == "/later":
        await asyncio.sleep(3 * PATIENCE)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def refused(headers: dict[bytes, bytes], body: bytes, say: Callable[[Said], None]) -> None:
    say((422, body, []))


AT_ONCE = cast("Application", SimpleNamespace(infer_path=b"/infer", service=SimpleNamespace(answer=refused)))


def exchange(pieces: list[bytes], pause: float = 0.0) -> tuple[bytes, float]:
    """What the server sends until it closes the connection, and when it does, for at most six seconds."""

    async def run() -> tuple[bytes, float]:
        metrics = Metrics()
        protocol = protocol_within(ConnectionLimits(9, 10_000, PATIENCE, PATIENCE), metrics, AT_ONCE)
        config = uvicorn.Config(application, http=protocol, ws="none", lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        begin = time.monotonic()

        async def send() -> None:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(pause)

        sending = asyncio.create_task(send())
        found = b""
        try:
            async with asyncio.timeout(6):
                while piece := await reader.read(65536):
                    found += piece
        except ConnectionResetError:
            pass  # closed before all was read that had been sent
        finally:
            sending.cancel()
            writer.close()
            listening.close()
        return found, time.monotonic() - begin

    return asyncio.run(run())


SLOW: dict[str, tuple[list[bytes], bytes]] = {
    "nothing": ([], b"408"),
    "empty lines": ([b"\r\n"] * 100, b"408"),
    "a head by letters": ([bytes([letter]) for letter in HEAD + b"x: " + b"a" * 500], b"408"),
    "a head without end": ([HEAD], b"408"),
    "a body by letters": ([HEAD + b"content-length: 500\r\n\r\n", *[b" "] * 400], b"408"),
    "a body that never comes": ([HEAD + b"content-length: 500\r\n\r\n"], b"408"),
    "chunks by letters": ([HEAD + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 100], b"408"),
    "a second head by letters": ([WHOLE, *[bytes([letter]) for letter in HEAD + b"x: " + b"a" * 500]], b"200"),
}


@pytest.mark.parametrize("case", SLOW)
def test_who_is_slow_is_told_and_closed(case: str) -> None:
    pieces, status = SLOW[case]
    found, seconds = exchange(pieces, pause=0.01)
    assert found.startswith(b"HTTP/1.1 " + status), found
    assert b"did not arrive within 0.4 seconds" in found
    assert PATIENCE - 0.1 < seconds < 5


def test_a_computation_may_take_longer_than_a_head() -> None:
    later = WHOLE.replace(b"POST /", b"POST /later").replace(b"host: x", b"host: x\r\nconnection: close")
    found, seconds = exchange([later])
    assert found.startswith(b"HTTP/1.1 200")
    assert seconds > 3 * PATIENCE - 0.1


def test_the_rest_of_a_body_that_was_answered_is_not_read_forever() -> None:
    early = HEAD.replace(b"POST /", b"POST /early") + b"content-length: 100000\r\n\r\n"
    found, seconds = exchange([early, *[b" " * 10] * 500], pause=0.02)
    assert found.startswith(b"HTTP/1.1 200")
    assert seconds < 4


def test_trailers_and_sizes_of_chunks_are_bounded() -> None:
    begin = HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\n"
    found, _ = exchange([begin, *[b"x: " + b"a" * 900 + b"\r\n"] * 400])
    assert found.startswith(b"HTTP/1.1 4")


def test_an_answer_at_once_leaves_the_connection_its_time() -> None:
    at_once = WHOLE.replace(b"POST /", b"POST /infer")
    found, seconds = exchange(
        [at_once, at_once, at_once + at_once, at_once.replace(b"host", b"connection: close\r\nhost")], 0.6
    )
    assert found.count(b"HTTP/1.1 422") == 4
    assert found.count(b"HTTP/1.1 200") == 1  # the last one is asked of the application
    assert 3 * PATIENCE < seconds < 5
