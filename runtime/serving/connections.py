"""Connections within limits: how many there are, how long heads of requests take to arrive, and how long they are.

A small inference request that arrives whole is answered at once, without the task and the messages of ASGI.
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from compiler.support.record import record
from runtime.serving.application import Application
from runtime.serving.metrics import Metrics
from runtime.serving.refusals import JSON, Headers, Refusal
from runtime.serving.service import Said

_MOST_HEAD = 1 << 16  # bytes of a request's first line and headers
_FRAMES = 8  # times as long as a body may be all that carries it: sizes of chunks, trailers
_MOST_WHOLE = 1 << 16  # bytes of a body that may be read and answered without another task
_LINGER = 2.0  # seconds in which the rest of a body is thrown away, so that its sender sees the answer


@record
class ConnectionLimits:
    """How long the head and the body of a request may take to arrive, and the `most_bytes` of a body."""

    most: int
    most_bytes: int
    head_seconds: float = 10.0
    body_seconds: float = 30.0


def protocol_within(limits: ConnectionLimits, metrics: Metrics, application: Application) -> type[HttpToolsProtocol]:
    """The protocol of a server's connections."""

    class Protocol(_GuardedProtocol):
        LIMITS, METRICS, APPLICATION = limits, metrics, application

    return Protocol


class _WholeResponses:
    """A transport that keeps the head of a response until its body, so that one call of the system sends both."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        # The cycle holds this transport: a reference back would leave each request to the garbage collector.
        self._transport, self._cycle = transport, weakref.proxy(cycle)
        self._head = b""
        self.close, self.is_closing = transport.close, transport.is_closing

    def write(self, data: bytes) -> None:
        awaits_body = self._cycle.expected_content_length and self._cycle.scope["method"] != "HEAD"
        if self._cycle.response_started and awaits_body and not self._head:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""


class _NoEvent:
    def set(self) -> None:
        """Nobody waits for it."""


class _WholeRequest:
    """In the place of uvicorn's cycle for a request that arrived whole, until its answer is sent."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")
    message_event = _NoEvent()

    def __init__(self) -> None:
        self.keep_alive = True  # until the server shuts down
        self.disconnected = self.response_complete = False

    @property
    def response_started(self) -> bool:
        return self.response_complete


class _GuardedProtocol(HttpToolsProtocol):
    """HTTP over one connection. A deadline runs while it owes the rest of a head, or of a body that was answered."""

    LIMITS: ConnectionLimits
    METRICS: Metrics
    APPLICATION: Application
    _deadline: asyncio.TimerHandle | None = None
    _has_begun = False  # a request, of which the end has not come
    _has_head = False
    _has_ended = False  # a request, in the bytes that are being read
    _pieces: list[bytes] | None = None  # of the body of a request that may arrive whole in these bytes
    _received = 0  # bytes since a request began
    _is_cut_off = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.METRICS.connections.set(len(self.connections))
        if len(self.connections) > self.LIMITS.most:
            fix = "close connections that are not needed, and try again"
            self._cut_off("connections", Refusal(503, "too many connections are open", "the server", fix))
            return
        self._set_deadline(self.LIMITS.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._clear_deadline()
        self.METRICS.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if self._is_cut_off or self.transport.is_closing():
            return
        had_begun, had_head = self._has_begun, self._has_head
        self._received += len(data)
        self._has_ended = False
        super().data_received(data)
        if self._pieces is not None:
            self._go_on_by_parts()
        if not self._has_begun:
            self._received = 0
            if had_begun or self._has_ended or not self._is_answered():
                self._clear_deadline()
            else:
                self._set_deadline(self.LIMITS.head_seconds)  # empty lines are no request, and extend no time
        elif not self._has_head:
            self._set_deadline(self.LIMITS.head_seconds)
            if self._received > _MOST_HEAD:
                fix = f"send at most {_MOST_HEAD} bytes before the body"
                self._cut_off("head_bytes", Refusal(431, "the headers are too long", "headers", fix))
        elif not self._is_answered():
            if not (had_begun and had_head):
                self._clear_deadline()
                self._set_deadline(self.LIMITS.body_seconds)
            if self._received > _MOST_HEAD + _FRAMES * self.LIMITS.most_bytes:
                fix = "send the body in larger chunks"
                self._cut_off("body_bytes", Refusal(413, "the framing of the body is too long", "body", fix))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun, self._has_head = True, False

    def on_headers_complete(self) -> None:
        if self._may_be_whole():
            self._pieces = []
        else:
            self._begin_cycle()
        self._has_head = True

    def _begin_cycle(self) -> None:
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _WholeResponses(self.transport, self.cycle))

    def on_body(self, body: bytes) -> None:
        if self._pieces is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._has_begun, self._has_ended = False, True
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            super().on_message_complete()
        else:
            self._answer_whole(b"".join(pieces))

    def _may_be_whole(self) -> bool:
        """Whether a request, once its body is there, can be answered without a cycle; none is under way."""
        parser = self.parser
        assert parser is not None
        if self.url != self.APPLICATION.infer_path or parser.get_method() != b"POST":
            return False
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        is_small = length.isdigit() and len(length) < 9 and int(length) <= _MOST_WHOLE
        is_plain = not self.expect_100_continue and parser.get_http_version() == "1.1"
        is_free = self._is_answered() and not self.pipeline and not self.flow.write_paused
        return is_small and is_plain and is_free and parser.should_keep_alive()

    def _go_on_by_parts(self) -> None:
        """The rest of a body comes later: as ASGI has it."""
        pieces, self._pieces = self._pieces or [], None
        self._begin_cycle()
        for piece in pieces:
            super().on_body(piece)

    def _answer_whole(self, body: bytes) -> None:
        service, cycle = self.APPLICATION.service, _WholeRequest()
        assert service is not None
        self.cycle = cast("RequestResponseCycle", cycle)
        service.answer(dict(self.headers), body, partial(self._send_whole, cycle))

    def _send_whole(self, cycle: _WholeRequest, said: Said) -> None:
        if cycle.disconnected:
            return
        status, content, headers = said
        cycle.response_complete = True
        headers.append((b"content-length", b"%d" % len(content)))
        if not cycle.keep_alive:
            headers.append((b"connection", b"close"))
        self.transport.write(_head(status, [*self.server_state.default_headers, *headers]) + content)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._has_begun and self._has_head and not self.transport.is_closing():
            self._clear_deadline()
            self._linger()

    def send_400_response(self, msg: str) -> None:
        fix = "send a request as RFC 9112 has it"
        self._cut_off("http", Refusal(400, "this is not HTTP", "the head or the chunks of the request", fix))

    def _is_answered(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        return cycle is None or cycle.response_complete

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        part, limit = ("body", "body_seconds") if self._has_begun and self._has_head else ("headers", "head_seconds")
        seconds = self.LIMITS.body_seconds if part == "body" else self.LIMITS.head_seconds
        said = f"the {part} of a request did not arrive within {seconds:g} seconds"
        self._cut_off(limit, Refusal(408, said, part, "send it at once"))

    def _cut_off(self, limit: str, refusal: Refusal) -> None:
        """Answer what cannot go on, unless another answer is under way, and close the connection."""
        self.METRICS.cut_off.labels(limit).inc()
        if self._is_cut_off or self.transport.is_closing():
            return
        self._is_cut_off = True
        is_read = self._has_begun and self._has_head and not self.cycle.response_started and not self.pipeline
        if self._is_answered() or is_read:
            self.METRICS.answered(refusal.status)
            body = refusal.body()
            headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
            self.transport.write(_head(refusal.status, headers) + body)
            self.transport.write_eof()
        if is_read:
            self.cycle.disconnected = True  # who reads the body is told that no more comes
            self.cycle.message_event.set()
        self._clear_deadline()
        self._linger()

    def _linger(self) -> None:
        """Close the connection after a while: at once, bytes that are not read would take the answer with them."""
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(_LINGER, self.transport.close)


def _head(status: int, headers: Headers) -> bytes:
    return STATUS_LINE[status] + b"".join([name + b": " + value + b"\r\n" for name, value in headers]) + b"\r\n"
