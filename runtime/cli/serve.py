"""Serve a trained model over HTTP, by the Open Inference Protocol (version 2, of KServe and Triton).

Outputs are those of `dlc predict`, with the same bits in whatever batch a request was computed. A newer checkpoint of
the run, or a newer run of a folder of runs, takes the model's place while the server runs. SIGINT and SIGTERM end it
once the requests that it has are answered.
"""

from __future__ import annotations

import argparse
import importlib.util
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import UsageError
from compiler.support.processors import usable_cores
from compiler.support.train_keys import OF_PREDICTIONS
from runtime.cli.common import expect_settings_of_use, print_json, trained_of
from runtime.cli.parser import Namespace, Parser, number
from runtime.reporting.terminal import say

if TYPE_CHECKING:
    from runtime.runs.trained import Trained
    from runtime.serving.model import ServedModel
    from runtime.serving.requests import Interface
    from runtime.serving.server import ServerLimits

EXAMPLES = (
    "dlc serve RUN",
    "dlc serve runs --port 9000 --batch-window 2 --max-batch 128",
    "dlc serve model.dl --weights weights.safetensors --host 0.0.0.0",
    "curl localhost:8000/v2/models/Digits",
)

_PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "orjson", "prometheus_client")
_AT_LEAST_0 = number("a number of at least 0", lambda value: value >= 0)
_WINDOW = number("a number of milliseconds from 0 to 10000", lambda value: 0 <= value <= 10000)
_MOST_BYTES = 1 << 34
INTERRUPTED = 130


def configure(parser: Parser) -> None:
    parser.add_trained()
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (default: 127.0.0.1)"
    )
    parser.add_whole("--port", "the port; 0 takes a free one (default: 8000)", least=0, most=65535, default=8000)
    parser.add_argument(
        "--batch-window",
        type=_WINDOW,
        default=1.0,
        metavar="MS",
        help="wait so long for requests to compute together, at most 10000; 0 takes those that are there (default: 1)",
    )
    parser.add_whole("--max-batch", "the most rows of a batch, and of a request (default: 64)", default=64)
    parser.add_whole(
        "--max-pending", "the most requests that wait; others are answered by 429 (default: 1024)", default=1024
    )
    parser.add_whole(
        "--max-body", "the most bytes of a request's body (default: 16777216)", 2, _MOST_BYTES, 1 << 24, "BYTES"
    )
    parser.add_whole("--max-connections", "the most open connections (default: 1024)", default=1024)
    parser.add_argument(
        "--reload-every",
        type=_AT_LEAST_0,
        default=5.0,
        metavar="S",
        help="look so often for newer weights, in seconds; 0 never does (default: 5)",
    )
    parser.add_json("print the model and its address as JSON on standard output")


def run(arguments: Namespace) -> int:
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"`dlc serve` needs {', '.join(missing)}", "pip install 'dlc[serve]'")
    with _listening(arguments.host, arguments.port) as listening:
        is_whole = _serve(arguments, listening)
    say("the server has ended; no request was cut off" if is_whole else "interrupted")
    return 0 if is_whole else INTERRUPTED


def _serve(arguments: Namespace, listening: socket.socket) -> bool:
    """Serve until a signal. Whether every request was answered."""
    from runtime.serving.metrics import Metrics  # packages of the extra
    from runtime.serving.model import ServedModel
    from runtime.serving.reloading import Reloader, newest, version_of
    from runtime.serving.server import application_of, run_server
    from runtime.support.memory import expect_room_for_rows

    source = Path(arguments.model), None if arguments.weights is None else Path(arguments.weights)

    def opened(place: Path) -> Trained:
        return trained_of(argparse.Namespace(**{**vars(arguments), "model": str(place)}))

    seen = newest(*source)
    trained = opened(seen.place)
    expect_settings_of_use(arguments.settings, trained.program, read=OF_PREDICTIONS)
    model = ServedModel(trained, version_of(trained))
    interface, limits, metrics = model.interface(arguments.max_batch), _limits(arguments), Metrics()
    expect_room_for_rows(trained.program, trained.options, arguments.max_batch, "take a smaller --max-batch")
    every = arguments.reload_every
    reloader = Reloader(source, opened, seen, every, metrics) if every else None
    application = application_of(model, interface, limits, metrics, reloader)

    def announce() -> None:
        _announce(arguments, listening, model, interface)

    return run_server(application, listening, limits, metrics, announce)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that a port in use is told before anything is compiled. Raises UsageError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        fix = "choose another --port (0 takes a free one), or another --host"
        raise UsageError(f"{host}, port {port}: {said}", fix) from error


def _limits(arguments: Namespace) -> ServerLimits:
    from runtime.serving.batching import Limits  # packages of the extra
    from runtime.serving.connections import ConnectionLimits
    from runtime.serving.server import ServerLimits

    return ServerLimits(
        Limits(arguments.batch_window / 1000, arguments.max_batch, arguments.max_pending),
        ConnectionLimits(arguments.max_connections, arguments.max_body),
    )


def _announce(arguments: Namespace, listening: socket.socket, model: ServedModel, interface: Interface) -> None:
    """What the server resolved to: for the reader, and with --json for programs."""
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v2/models/{model.name}"
    is_batched, threads = model.compiled.is_row_by_row, arguments.threads or usable_cores()
    if arguments.json:
        numbers = ("batch_window", "max_batch", "max_pending", "max_body", "max_connections", "reload_every")
        said: dict[str, object] = {"url": url, "model": model.name, "version": model.version}
        said["inputs"] = [info.metadata() for info in interface.inputs]
        said["outputs"] = [info.metadata() for info in interface.outputs]
        said.update(threads=threads, is_batched=is_batched, **{name: getattr(arguments, name) for name in numbers})
        print_json(said)
        sys.stdout.flush()
    way = "rows of several requests together" if is_batched else "each request alone, as its rows depend on each other"
    say(f"{model.name} {model.version}")
    say(f"  takes     {', '.join(info.shown for info in interface.inputs)}")
    say(f"  gives     {', '.join(info.shown for info in interface.outputs)}")
    say(f"  computes  {way}")
    say(f"  batches   up to {arguments.max_batch} rows, within {arguments.batch_window:g} ms; threads: {threads}")
    say(f"  waiting   up to {arguments.max_pending:,} requests, {arguments.max_connections:,} connections")
    say(f"  bodies    up to {arguments.max_body:,} bytes")
    say(f"listening: POST {url}/infer")
