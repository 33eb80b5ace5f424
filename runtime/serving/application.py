"""The server as an ASGI application: the paths of the Open Inference Protocol, and `/metrics`.

Starlette answers everything but inference, whose path is compared first: its requests are many and small.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from runtime.reporting.terminal import say_labelled
from runtime.runs.directory import version_of
from runtime.serving.batching import Batcher
from runtime.serving.metrics import CONTENT_TYPE, Metrics
from runtime.serving.refusals import JSON, Headers, Refusal, busy, closing
from runtime.serving.requests import Interface, inference_request
from runtime.serving.responses import response_body

_BINARY = b"application/octet-stream"
_HEADER_LENGTH = b"inference-header-content-length"
_EXTENSIONS = ["binary_tensor_data"]
_BODIES = 16  # times as long as a body may be all of them together that are still arriving

Lifespan: TypeAlias = Callable[[Starlette], AbstractAsyncContextManager[None]]


class Service:
    """What the paths need: the batcher, and the interface, which stays when another model takes its place."""

    def __init__(self, batcher: Batcher, interface: Interface, most_bytes: int, metrics: Metrics) -> None:
        """`most_bytes` bounds a body."""
        self.batcher, self.interface, self.metrics = batcher, interface, metrics
        self.is_ready = True
        self._most_bytes = most_bytes
        self._held = 0  # bytes of bodies that are still arriving

    @property
    def name(self) -> str:
        return self.batcher.model.name

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
            headers = _headers_of(scope)
            if not self.is_ready:
                raise closing()
            header_length = _header_length(headers)
            body = await self._body(headers, receive)
            if body is None:
                return
            begin = time.perf_counter()
            status, content, extra = await self._answer(body, header_length)
            self.metrics.seconds.observe(time.perf_counter() - begin)
        except Refusal as refusal:
            status, content, extra = refusal.status, refusal.body(), [(b"content-type", JSON), *refusal.headers]
        except Exception as error:
            status, content, extra = _failed(error)
        self.metrics.answered(status)
        extra.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, body: bytes, header_length: int | None) -> tuple[int, bytes, Headers]:
        request = inference_request(body, header_length, self.interface)
        answer = await self.batcher.submit(request)
        content, json_length = response_body(self.name, answer.version, request, answer.columns)
        if json_length is None:
            return 200, content, [(b"content-type", JSON)]
        return 200, content, [(b"content-type", _BINARY), (_HEADER_LENGTH, b"%d" % json_length)]

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The body of a request; None where the client has gone, or was too slow. Raises Refusal."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most_bytes:
            raise _too_large(self._most_bytes)
        size, pieces = 0, list[bytes]()
        try:
            while True:
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
                if not message.get("more_body", False):
                    return b"".join(pieces) if len(pieces) > 1 else pieces[0]
        finally:
            self._held -= size


def _headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers by name. Raises Refusal for a body that is encoded, or says that it is of another type.

    Forms of web pages, which may send their types to any server, are so refused. Clients of Triton name none.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
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
    return headers


def _header_length(headers: dict[bytes, bytes]) -> int | None:
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


def _failed(error: Exception) -> tuple[int, bytes, Headers]:
    """The answer where the server itself is at fault; its log has the details."""
    say_labelled("error", f"a request failed: {type(error).__name__}: {error}")
    said = {"error": "the server failed", "where": "the server", "fix": "see its log"}
    return 500, orjson.dumps(said), [(b"content-type", JSON)]


class Application:
    """The ASGI application. `service` is there once the lifespan has begun."""

    def __init__(self, lifespan: Lifespan) -> None:
        self.service: Service | None = None
        self._infer_path = ""
        self._others = Starlette(
            routes=[
                Route("/v2", self._server),
                Route("/v2/health/live", self._live),
                Route("/v2/health/ready", self._ready),
                Route("/v2/models/{name}", self._model),
                Route("/v2/models/{name}/ready", self._model_ready),
                Route("/v2/models/{name}/infer", self._infer, methods=["POST"]),
                Route("/v2/models/{name}/versions/{version}", self._model),
                Route("/v2/models/{name}/versions/{version}/ready", self._model_ready),
                Route("/v2/models/{name}/versions/{version}/infer", self._infer, methods=["POST"]),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: self._refused, Refusal: self._refused},
            lifespan=lifespan,
        )
        self._others.router.redirect_slashes = False
        self._paths = sorted({route.path for route in self._others.routes if isinstance(route, Route)})

    def begin(self, service: Service) -> None:
        self.service = service
        self._infer_path = f"/v2/models/{service.name}/infer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self._infer_path and scope["method"] == "POST":
            assert self.service is not None
            await self.service.infer(scope, receive, send)
        else:
            await self._others(scope, receive, send)

    def _served(self, request: Request) -> Service:
        """The service, if the path names its model. Raises Refusal."""
        assert self.service is not None
        name, version = request.path_params.get("name"), request.path_params.get("version")
        model = self.service.batcher.model
        if name not in (None, model.name):
            raise Refusal(404, f"there is no model `{str(name)[:80]}`", "path", f"ask for /v2/models/{model.name}")
        if version not in (None, model.version):
            message = f"version `{str(version)[:80]}` of {model.name} is not served"
            raise Refusal(404, message, "path", f"ask for /v2/models/{model.name}, or its version {model.version}")
        return self.service

    def _said(self, status: int, content: object, headers: dict[str, str] | None = None) -> Response:
        if self.service is not None:
            self.service.metrics.answered(status)
        return Response(orjson.dumps(content), status, headers, "application/json")

    async def _server(self, request: Request) -> Response:
        return self._said(200, {"name": "dlc", "version": version_of("dlc") or "", "extensions": _EXTENSIONS})

    async def _live(self, request: Request) -> Response:
        return self._said(200, {"live": True})

    async def _ready(self, request: Request) -> Response:
        is_ready = self._served(request).is_ready
        return self._said(200 if is_ready else 503, {"ready": is_ready})

    async def _model(self, request: Request) -> Response:
        return self._said(200, self._served(request).metadata())

    async def _model_ready(self, request: Request) -> Response:
        service = self._served(request)
        return self._said(200 if service.is_ready else 503, {"name": service.name, "ready": service.is_ready})

    async def _infer(self, request: Request) -> Response:
        service = self._served(request)
        return _Forwarded(service, request)

    async def _metrics(self, request: Request) -> Response:
        assert self.service is not None
        self.service.metrics.answered(200)
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE)

    async def _refused(self, request: Request, error: Any) -> Response:
        if isinstance(error, Refusal):
            refusal = error
        elif error.status_code == 405:
            allowed = error.headers["Allow"] if error.headers else ""
            message = f"{request.method} is not possible here"
            refusal = Refusal(405, message, "method", f"use {allowed}", [(b"allow", allowed.encode())])
        else:
            message = f"there is nothing at {request.url.path[:200]}"
            refusal = Refusal(error.status_code, message, "path", f"the paths are {', '.join(self._paths)}")
        headers = {name.decode(): value.decode() for name, value in refusal.headers}
        content = orjson.loads(refusal.body())
        return self._said(refusal.status, content, headers)


class _Forwarded(Response):
    """The answer to inference as a response of Starlette."""

    def __init__(self, service: Service, request: Request) -> None:
        super().__init__()
        self._service, self._request = service, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._service.infer(scope, receive, send)
