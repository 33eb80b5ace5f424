"""Inference requests to their answers, by the batcher: the checks of heads, bodies within limits, and faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

import orjson
from starlette.types import Message, Receive, Scope, Send

from runtime.reporting.terminal import say_labelled
from runtime.serving.batching import Answer, Batcher
from runtime.serving.large_requests import LARGE, LargeRequests
from runtime.serving.metrics import Metrics
from runtime.serving.refusals import JSON, Headers, Refusal, busy, closing
from runtime.serving.requests import InferenceRequest, Interface, inference_request
from runtime.serving.responses import response_body

_BINARY = b"application/octet-stream"
_HEADER_LENGTH = b"inference-header-content-length"
_BODIES = 16  # times as long as a body may be all of them together that are not read yet

Said: TypeAlias = tuple[int, bytes, Headers]  # status, body, and the headers but for the length


class Service:
    """What the paths need: the batcher, and the interface, which stays when another model takes its place."""

    def __init__(self, batcher: Batcher, interface: Interface, most_bytes: int, metrics: Metrics) -> None:
        """`most_bytes` bounds a body."""
        self.batcher, self.interface, self.metrics = batcher, interface, metrics
        self.is_ready = True
        self._most_bytes = most_bytes
        self._held = 0  # bytes of bodies that are not read yet
        self._large = LargeRequests(interface)

    @property
    def name(self) -> str:
        return self.batcher.model.name

    async def close(self) -> None:
        """Finish what waits, and end."""
        await self.batcher.close()
        self._large.close()

    def metadata(self) -> dict[str, object]:
        return {
            "name": self.name,
            "versions": [self.batcher.model.version],
            "platform": "dlc",
            "inputs": [info.metadata() for info in self.interface.inputs],
            "outputs": [info.metadata() for info in self.interface.outputs],
        }

    async def infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one inference request."""
        try:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            header_length = self._admitted(headers)
            found = await self._read(receive, header_length)
            if found is None:
                return
            request, begin = found
            said = self._predicted(request, await self.batcher.submit(request), begin)
        except Exception as error:
            said = self._refused(error)
        status, content, extra = said
        extra.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": content})

    def answer(self, headers: Mapping[bytes, bytes], body: bytes, say: Callable[[Said], None]) -> None:
        """Answer an inference request whose body is there, as `infer` does, by one call of `say`, now or later."""
        begin = time.perf_counter()

        def answered(future: asyncio.Future[Answer]) -> None:
            try:
                said = self._predicted(request, future.result(), begin)
            except Exception as error:
                said = self._refused(error)
            say(said)

        try:
            request = inference_request(body, self._admitted(headers), self.interface)
            future = self.batcher.submit(request)
        except Exception as error:
            say(self._refused(error))
        else:
            future.add_done_callback(answered)

    def _admitted(self, headers: Mapping[bytes, bytes]) -> int | None:
        """The bytes of the JSON, where binary data follows it. Raises Refusal for a head that gets no prediction."""
        _expect_readable(headers)
        if not self.is_ready:
            raise closing()
        header_length = _header_length(headers)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most_bytes:
            raise _too_large(self._most_bytes)
        return header_length

    def _predicted(self, request: InferenceRequest, answer: Answer, begin: float) -> Said:
        content, json_length = response_body(self.name, answer.version, request, answer.columns)
        self.metrics.seconds.observe(time.perf_counter() - begin)
        self.metrics.answered(200)
        if json_length is None:
            return 200, content, [(b"content-type", JSON)]
        return 200, content, [(b"content-type", _BINARY), (_HEADER_LENGTH, b"%d" % json_length)]

    def _refused(self, error: Exception) -> Said:
        """The answer to a request that failed; the log has the details where the server itself is at fault."""
        if isinstance(error, Refusal):
            said = error.status, error.body(), [(b"content-type", JSON), *error.headers]
        else:
            say_labelled("error", f"a request failed: {type(error).__name__}: {error}")
            content = orjson.dumps({"error": "the server failed", "where": "the server", "fix": "see its log"})
            said = 500, content, [(b"content-type", JSON)]
        self.metrics.answered(said[0])
        return said

    async def _read(self, receive: Receive, header_length: int | None) -> tuple[InferenceRequest, float] | None:
        """A request, and when its body was there; None where the client has gone, or was too slow. Raises Refusal."""
        size, pieces, is_whole = 0, list[bytes](), False
        try:
            while not is_whole:
                message: Message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                self._held += len(pieces[-1])
                if size > self._most_bytes:
                    raise _too_large(self._most_bytes)
                if self._held > _BODIES * self._most_bytes:
                    raise busy("the bodies of all requests fill the memory for them", "try again")
                is_whole = not message.get("more_body", False)
            body, begin = b"".join(pieces) if len(pieces) > 1 else pieces[0], time.perf_counter()
            pieces.clear()
            if min(size, size if header_length is None else header_length) < LARGE:
                return inference_request(body, header_length, self.interface), begin
            return await self._large.read(body, header_length), begin
        finally:
            self._held -= size


def _expect_readable(headers: Mapping[bytes, bytes]) -> None:
    """Raises Refusal for a body that is encoded, or says that it is of another type.

    Forms of web pages, which may send their types to any server, are so refused. Clients of Triton name none.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        fix = "send the body as it is"
        raise Refusal(415, "bodies with a Content-Encoding are not read", "Content-Encoding", fix)
    wanted = _BINARY if _HEADER_LENGTH in headers else JSON
    kind = headers.get(b"content-type", wanted).partition(b";")[0].strip().lower()
    if kind != wanted:
        message = f"the content type is `{kind.decode('latin-1')[:80]}`"
        fix = (
            "send `Content-Type: application/json`; for JSON with binary data behind it, `application/octet-stream` "
            "and `Inference-Header-Content-Length`"
        )
        raise Refusal(415, message, "Content-Type", fix)


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    given = headers.get(_HEADER_LENGTH)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        fix = "give the length of the JSON in bytes"
        raise Refusal(400, "the length of the JSON is no number", "Inference-Header-Content-Length", fix)
    return int(given)


def _too_large(most: int) -> Refusal:
    fix = "send fewer rows in a request, or start the server with a larger --max-body"
    return Refusal(413, f"the body has more than {most:,} bytes", "body", fix)
