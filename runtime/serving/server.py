"""A model behind a socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from compiler.support.record import record
from runtime.serving.application import Application
from runtime.serving.batching import Batcher, Limits
from runtime.serving.connections import ConnectionLimits, protocol_within
from runtime.serving.metrics import Metrics
from runtime.serving.model import ServedModel
from runtime.serving.reloading import Reloader
from runtime.serving.requests import Interface
from runtime.serving.service import Service

# A thread that wants to go on in Python asks for its turn after this time. The usual 5 ms would be the latency of a
# request that is read while a batch is computed or a model loaded.
_TURN = 0.0005
# Cycles among the objects of requests are looked for after so many new ones: a command, which ends soon, waits longer.
_COLLECTIONS = (10_000, 10, 10)
_KEEP_ALIVE = 75  # seconds that an idle connection stays open, above the usual 60 of proxies


@record
class ServerLimits:
    """`batching` bounds what is computed, `connections` what arrives; at the end, answers have `last_seconds`."""

    batching: Limits
    connections: ConnectionLimits
    last_seconds: int = 30


def application_of(
    model: ServedModel, interface: Interface, limits: ServerLimits, metrics: Metrics, reloader: Reloader | None
) -> Application:
    """The ASGI application, whose lifespan begins and ends the computation."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        batcher = Batcher(model, limits.batching, metrics)
        service = Service(batcher, interface, limits.connections.most_bytes, metrics)
        application.begin(service)
        metrics.serves(model.name, model.version)
        watching = None if reloader is None else asyncio.create_task(reloader.watch(batcher, interface))
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
            await service.close()

    application = Application(lifespan)
    return application


class _Server(uvicorn.Server):
    """Ends at the first signal once all requests are answered, and at the second at once."""

    def __init__(self, config: uvicorn.Config, application: Application, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._application, self._begun = application, begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._application.service is not None:
            self._application.service.is_ready = False
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """As in uvicorn, but a signal that was heeded is not raised again."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def run_server(
    application: Application,
    listening: socket.socket,
    limits: ServerLimits,
    metrics: Metrics,
    begun: Callable[[], None],
) -> bool:
    """Serve until a signal; `begun` is called once connections are accepted. Whether all requests were answered."""
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what concerns a request is its answer, and is counted
    config = uvicorn.Config(
        application,
        http=protocol_within(limits.connections, metrics, application),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=limits.last_seconds,
    )
    gc.collect()
    gc.freeze()  # the compiler's objects stay, and are not looked through again
    turn, collections = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_TURN)
    gc.set_threshold(*_COLLECTIONS)
    try:
        server = _Server(config, application, begun)
        server.run([listening])
        return not server.force_exit
    finally:
        sys.setswitchinterval(turn)
        gc.set_threshold(*collections)
        gc.unfreeze()
