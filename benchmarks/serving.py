"""Requests a second and latencies of `dlc serve`: one row a request, as JSON, over connections that stay open.

    python benchmarks/serving.py RUN --rate 5000 --connections 32 --seconds 10

Requests come at a constant rate, whether or not earlier ones are answered, and the latency of each counts from the time
at which it was due. With `--rate 0`, each connection asks again as soon as it is answered. The server runs beside in a
process of its own; the result is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

_TICK = 0.001  # seconds between looks at the clock


class Load:
    """Requests that are due, connections that are free, and what was measured."""

    def __init__(self, requests: Sequence[bytes], rate: float, seconds: float) -> None:
        self._requests, self._rate, self._seconds = requests, rate, seconds
        self.free: deque[Connection] = deque()
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.lost = 0
        self._late: deque[float] = deque()
        self._sent = 0
        self._end = 0.0

    async def run(self) -> None:
        """Ask for so many seconds, and wait for what is not answered then."""
        begin = time.perf_counter()
        self._end = begin + self._seconds
        count = int(self._rate * self._seconds)
        if not self._rate:
            for connection in [*self.free]:
                self.go_on(connection)
        while self._sent + len(self._late) < count:
            now = time.perf_counter()
            while self._sent + len(self._late) < min(count, int((now - begin) * self._rate)):
                self._late.append(begin + (self._sent + len(self._late)) / self._rate)
                if self.free:
                    self._send(self.free.popleft(), self._late.popleft())
            await asyncio.sleep(_TICK)
        while len(self.latencies) + self.lost < self._sent or self._late or time.perf_counter() < self._end:
            await asyncio.sleep(0.01)
            if time.perf_counter() > self._end + 30:
                raise SystemExit("the server does not answer")

    def answered(self, connection: Connection, status: str) -> None:
        self.latencies.append(time.perf_counter() - connection.due)
        self.statuses[status] += 1
        self.go_on(connection)

    def go_on(self, connection: Connection) -> None:
        if not self._rate:
            if time.perf_counter() < self._end:
                self._send(connection, time.perf_counter())
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self.free.append(connection)

    def _send(self, connection: Connection, due: float) -> None:
        self._sent += 1
        connection.due = due
        connection.transport.write(self._requests[self._sent % len(self._requests)])


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self.due = 0.0
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self._load.free.append(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        begin = self._received.find(b"content-length: ") + len(b"content-length: ")
        length = int(self._received[begin : self._received.find(b"\r", begin)])
        if len(self._received) >= head + 4 + length:
            status, self._received = self._received[9:12].decode(), b""
            self._load.answered(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost += 1


@contextmanager
def server(arguments: Sequence[str]) -> Generator[dict[str, Any]]:
    """`dlc serve` in a process, and what it says at its start."""
    command = [sys.executable, "-m", "runtime.cli", "serve", "--port", "0", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] not in ("}\n", ""):
            lines.append(process.stdout.readline())
        try:
            yield json.loads("".join(lines))
        finally:
            process.terminate()


def requests_for(said: dict[str, Any], count: int = 64) -> list[bytes]:
    """Requests of one row each with made-up numbers, as the inputs of the model ask for them."""
    drawn = random.Random(0)
    parts = urlsplit(said["url"])
    head = f"POST {parts.path}/infer HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    found: list[bytes] = []
    for _ in range(count):
        inputs: list[dict[str, Any]] = []
        for info in said["inputs"]:
            if info["datatype"] == "BYTES":
                raise SystemExit(f"{info['name']} is text, and only numbers are made up")
            shape = [1, *info["shape"][1:]]
            size = 1
            for extent in shape:
                size *= extent
            whole = [drawn.randrange(2 if info["datatype"] == "BOOL" else 17) for _ in range(size)]
            values = [value > 0 for value in whole] if info["datatype"] == "BOOL" else whole
            inputs.append({"name": info["name"], "shape": shape, "datatype": info["datatype"], "data": values})
        body = json.dumps({"inputs": inputs}).encode()
        found.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return found


async def measured(said: dict[str, Any], rate: float, connections: int, seconds: float) -> dict[str, Any]:
    """What a load of so many seconds gives, after a tenth of it that is not counted."""
    parts = urlsplit(said["url"])
    for part in (seconds / 10, seconds):
        load = Load(requests_for(said), rate, part)
        opened = [
            await asyncio.get_running_loop().create_connection(
                lambda load=load: Connection(load), parts.hostname, parts.port
            )
            for _ in range(connections)
        ]
        begin, used = time.perf_counter(), time.process_time()
        await load.run()
        elapsed, used = time.perf_counter() - begin, time.process_time() - used
        for transport, _ in opened:
            transport.abort()
        ordered = sorted(load.latencies)
    return {
        "requests_per_second": round(len(ordered) / elapsed, 1),
        "milliseconds": {name: round(1000 * ordered[int(share * (len(ordered) - 1))], 3) for name, share in _SHARES},
        "statuses": dict(load.statuses),
        "client_share_of_a_core": round(used / elapsed, 3),
    }


_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("most", 1.0))


def batches_of(said: dict[str, Any]) -> float:
    """The mean number of rows of a batch, as the server's metrics have it."""
    parts = urlsplit(said["url"])
    with urllib.request.urlopen(f"http://{parts.netloc}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    values = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
    return values["dlc_batch_rows_sum"] / values["dlc_batch_rows_count"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run; further arguments go to `dlc serve`")
    parser.add_argument("--rate", type=float, default=5000.0, help="requests a second; 0 for as many as are answered")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    given, further = parser.parse_known_args()
    with server([given.run, *further]) as said:
        found = uvloop.run(measured(said, given.rate, given.connections, given.seconds))
        rows = batches_of(said)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found |= {"mean_rows_of_a_batch": round(rows, 2), "server_cpu_seconds": round(used.ru_utime + used.ru_stime, 2)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
