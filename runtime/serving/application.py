"""The server as an ASGI application: the paths of the Open Inference Protocol, and `/metrics`.

Starlette answers everything but inference, whose path is compared first: its requests are many and small. Those that
arrive whole do not even come here (`connections`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runtime.runs.directory import version_of
from runtime.serving.metrics import CONTENT_TYPE
from runtime.serving.refusals import Refusal
from runtime.serving.service import Service

_EXTENSIONS = ["binary_tensor_data"]

Lifespan: TypeAlias = Callable[[Starlette], AbstractAsyncContextManager[None]]


class Application:
    """The ASGI application. `service` is there once the lifespan has begun."""

    def __init__(self, lifespan: Lifespan) -> None:
        self.service: Service | None = None
        self.infer_path = b""  # of the version that is served
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
        self.infer_path = f"/v2/models/{service.name}/infer".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["raw_path"] == self.infer_path and scope["method"] == "POST":
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
