"""The page on a server of its own: on the loopback interface, for whoever knows its token, until a signal ends it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from compiler.errors.diagnostics import DlcError, UsageError
from compiler.inspection.reading import Reading
from runtime.support.files import JsonObject, JsonValue
from runtime.view.page_text import page_text
from runtime.view.session import Session, events_as_text
from runtime.view.viewed import Viewed

HOST = "127.0.0.1"
_MOST_BYTES = 1 << 20  # of a text
_SECONDS = 2.0  # of a profile
_LOOK = 1.0  # seconds between looks at a run, and at the file
_HEARTBEAT = 15.0  # seconds after which a silent stream of events says that it is alive

Answer = Callable[[Request], Awaitable[Response]]
Begun = Callable[[str, Reading], None]


class Server:
    """Answers requests about one session. `token` is what a browser shows for the first time, and then keeps."""

    def __init__(self, viewed: Viewed, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self._port, self._cookie = port, f"dlc-view-{port}"
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._queues: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.session = Session(viewed, self._tell, waits=token is not None)
        self.application = Starlette(lifespan=self._lifespan, routes=self._routes())

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}/?token={self.token}"

    def _routes(self) -> list[Route]:
        posted: dict[str, Answer] = {"/text": self._edited, "/save": self._saved, "/order": self._ordered}
        posted |= {"/profile": self._of_version(self._measured), "/values": self._of_version(self._values)}
        asked: dict[str, Answer] = {"/document": self._document, "/events": self._events}
        asked |= {"/code/{symbol}": self._of_version(self._code)}
        asked |= {"/training": self._training, "/comparison": self._comparison}
        return [
            Route("/", self._page),
            Route("/favicon.ico", self._nothing),  # which browsers ask of any page
            *(Route(path, self._guarded(answer)) for path, answer in asked.items()),
            *(Route(path, self._guarded(answer), methods=["POST"]) for path, answer in posted.items()),
        ]

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        self._loop = asyncio.get_running_loop()
        watching = asyncio.create_task(self._watch())
        yield
        watching.cancel()
        self.session.close()

    async def _watch(self) -> None:
        """Follow a run that is training, and a file that is edited elsewhere."""
        while True:
            if self._queues:  # nobody else is told of a run
                await run_in_threadpool(self.session.tell_of_run)
            await run_in_threadpool(self.session.follow_file)
            await asyncio.sleep(_LOOK)

    # Who may ask

    def _refusal(self, request: Request) -> Response | None:
        """No page of another site asks in the user's name: neither by another name of this host, nor by a form."""
        if request.headers.get("host", "") not in self._hosts:
            return PlainTextResponse("this server answers to its own address alone\n", 421)
        origin = request.headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return PlainTextResponse("requests of other sites are refused\n", 403)
        given = request.cookies.get(self._cookie) or request.headers.get("x-dlc-token") or ""
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return PlainTextResponse("the address needs the token that `dlc view` printed\n", 403)
        return None

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: Request) -> Response:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            try:
                return await answer(request)
            except DlcError as error:
                return JSONResponse({"error": str(error), "fix": error.fix}, 409)

        return guarded

    def _of_version(self, answer: Answer) -> Answer:
        """Nothing of one text is told a page that shows another, as another page may edit."""

        async def of_version(request: Request) -> Response:
            seen = request.headers.get("x-dlc-version")
            if seen is not None and seen != str(self.session.shown.version):
                raise UsageError("another page shows another text", "open this one anew")
            return await answer(request)

        return of_version

    async def _page(self, request: Request) -> Response:
        given = request.query_params.get("token")
        if given is not None:
            if request.headers.get("host", "") not in self._hosts:
                return PlainTextResponse("this server answers to its own address alone\n", 421)
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return PlainTextResponse("this is not the token that `dlc view` printed\n", 403)
            found = RedirectResponse("/", 303)
            found.set_cookie(self._cookie, self.token, httponly=True, samesite="strict")
            return found
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            document = self.session.document(self.session.shown)
        except DlcError as error:  # as where a run is deleted
            return PlainTextResponse(f"{error}\n{error.fix}\n", 409)
        text = page_text(self.session.viewed.title, document, {}, asks_server=True)
        return HTMLResponse(
            text.encode("utf-8", "backslashreplace"), headers={"cache-control": "no-store", "x-frame-options": "DENY"}
        )

    async def _nothing(self, request: Request) -> Response:
        return Response(status_code=204)

    # Answers

    async def _document(self, request: Request) -> Response:
        return JSONResponse(self.session.document(self.session.shown))

    async def _code(self, request: Request) -> Response:
        found = self.session.code(request.path_params["symbol"])
        return JSONResponse(found or {"error": "there is no such kernel", "fix": ""}, 200 if found else 404)

    async def _values(self, request: Request) -> Response:
        from runtime.view.values_part import question_of  # loads inference, and every format of data

        asked = question_of(await _json_of(request))
        return JSONResponse(await run_in_threadpool(self.session.values, asked))

    async def _comparison(self, request: Request) -> Response:
        row = request.query_params.get("row", "0")
        if not (row.isascii() and row.isdigit() and len(row) < 10):
            return JSONResponse({"error": f"{row[:20]} is no row", "fix": "give a whole number from 0 on"}, 400)
        return JSONResponse(await run_in_threadpool(self.session.comparison, int(row)))

    async def _edited(self, request: Request) -> Response:
        text = await _text_of(request)
        if text is None:
            return _NO_TEXT
        shown = await run_in_threadpool(self.session.edit, text)
        return JSONResponse(self.session.document(shown))

    async def _saved(self, request: Request) -> Response:
        found = await _json_of(request)
        text = _text_in(found)
        if text is None:
            return _NO_TEXT
        over = found.get("over") if isinstance(found, dict) else None
        saves = await run_in_threadpool(self.session.save, text, over if isinstance(over, int) else None)
        return JSONResponse({"saved": True, "saves": saves})

    async def _measured(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.session.measure, _SECONDS))

    async def _training(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.session.trained().to_json))

    async def _ordered(self, request: Request) -> Response:
        text = await _text_of(request)
        if text is None:
            return _NO_TEXT
        await run_in_threadpool(self.session.trained().order, text)
        return JSONResponse({"told": text})

    async def _events(self, request: Request) -> Response:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._queues.add(queue)
        shown = self.session.shown
        if shown.is_whole:  # it became so before the page was listening
            queue.put_nowait(events_as_text("whole", {"version": shown.version}))

        async def stream() -> AsyncGenerator[str]:
            try:
                while True:
                    try:
                        event = await asyncio.wait_for(queue.get(), _HEARTBEAT)
                    except TimeoutError:
                        event = ": alive\n\n"
                    if event is None:
                        return
                    yield event
            finally:
                self._queues.discard(queue)

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    def _tell(self, kind: str, data: JsonObject) -> None:
        event = events_as_text(kind, data)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: [queue.put_nowait(event) for queue in self._queues])

    def end_streams(self) -> None:
        """Let open streams of events end, for which a server that closes waits."""
        for queue in self._queues:
            queue.put_nowait(events_as_text("closed", {}))  # so that no browser asks again and again
            queue.put_nowait(None)


_NO_TEXT = JSONResponse(
    {"error": "the body has no text of at most 1 MB", "fix": 'send {"text": …} as JSON in UTF-8'}, 400
)


async def _text_of(request: Request) -> str | None:
    """The text in a body of JSON; None where there is none, or too long a one."""
    return _text_in(await _json_of(request))


def _text_in(found: JsonValue) -> str | None:
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str) or len(text) > _MOST_BYTES:
        return None
    with suppress(UnicodeEncodeError):  # JSON may name halves of pairs, which no file can hold
        text.encode()
        return text
    return None


async def _json_of(request: Request) -> JsonValue:
    """The body as JSON; None where it is none, or longer than a text may be."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > 2 * _MOST_BYTES:
            return None
    with suppress(ValueError, RecursionError):
        return json.loads(bytes(body))
    return None


class _Uvicorn(uvicorn.Server):
    """Tells when it listens, and lets streams end when it closes."""

    def __init__(self, config: uvicorn.Config, server: Server, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._server, self._begun = server, begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._server.end_streams()
        await super().shutdown(sockets)


def serve(viewed: Viewed, listening: socket.socket, begun: Begun, token: str | None = None) -> bool:
    """Serve the page until a signal; `begun` is given its address and its text once connections are accepted.

    Returns whether all its changes were saved.

    With a `token` that is known already, the code of kernels waits for the first figures of the training.
    """
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    server = Server(viewed, listening.getsockname()[1], token)
    config = uvicorn.Config(
        server.application,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    with suppress(KeyboardInterrupt):  # which uvicorn heeds, and then raises again
        _Uvicorn(config, server, lambda: begun(server.url, server.session.shown.reading)).run([listening])
    return server.session.is_saved
