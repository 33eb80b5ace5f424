"""Serves a model for minutes under load, among hostile connections and changing weights: nothing may break or grow.

    python tests/stress/soak_serving.py [--minutes 5] [--clients N] [--seed N]

Clients ask for rows without a pause and compare each answer, to the bit, with a prediction by the weights that it
names. Others send what is no request, or half of one, and go. A new checkpoint is written every second, sound or
damaged in turns. At the end the server gets SIGTERM under load: what it has accepted must be answered, and its exit
code be 0. Memory (the resident set) and open file descriptors are compared between the first tenth of the time and
the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from served_models import PAIR, server  # noqa: E402

import dlc  # noqa: E402
from compiler.driver import Array  # noqa: E402
from runtime.cli.main import main as command  # noqa: E402
from runtime.runs.checkpoint import Checkpoint, best_checkpoint, write_checkpoint  # noqa: E402

ROWS = 64  # different ones that are asked for
_HEAD = b"POST /v2/models/Pair/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
HOSTILE = (
    b"\x16\x03\x01\x02\x00\x01",
    b"GET /" + b"a" * 70_000,
    _HEAD,
    _HEAD + b"content-length: 500\r\n\r\n{",
    _HEAD + b"content-length: 99999999999\r\n\r\n",
    _HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    _HEAD + b"content-length: 4\r\n\r\n[[[[",
    _HEAD + b'content-length: 40\r\n\r\n{"inputs": [{"name": "x", "shape": [1]}]}',
    b"GET /v2/models/%2e%2e/%2e%2e HTTP/1.1\r\n\r\n",
    b"\r\n" * 1000,
)


class Soak:
    """A run whose weights change, and what its server answered."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._drawn = folder, random.Random(seed)
        self.run = folder / "run"
        self._rows = self._trained()
        self._scales: dict[str, float] = {}  # of the weights, by the names of checkpoints
        self._base = best_checkpoint(self.run / "checkpoints")
        self._scales[self._base.path.name] = 1.0
        self._model = dlc.load(self.run)
        self._expected: dict[float, Array] = {}
        self._expected[1.0] = self._model.predict(self._rows)["scores"]
        self.answers: Counter[str] = Counter()
        self.is_ending = False

    def _trained(self) -> dict[str, Array]:
        drawn = np.random.default_rng(0)
        rows = {
            "x": drawn.normal(size=(ROWS, 4)).astype(np.float32),
            "kind": drawn.integers(0, 5, ROWS).astype(np.int32),
        }
        label = drawn.integers(0, 3, ROWS).astype(np.int32)
        np.savez(self._folder / "pairs.npz", x=rows["x"], kind=rows["kind"], label=label)
        text = PAIR.replace("epochs", 'data = npz("pairs.npz")\n    epochs')
        (self._folder / "model.dl").write_text(text, encoding="utf-8")
        if command(["train", str(self._folder / "model.dl"), "--out", str(self.run)]):
            raise SystemExit("the training failed")
        return rows

    def write(self, number: int) -> None:
        """A checkpoint: the weights times another number, or, every third time, one whose file is cut off."""
        found = self._base.checkpoint
        scale = 1.0 + number % 7 / 8
        weights = {name: (values * scale).astype(values.dtype) for name, values in found.weights.items()}
        if scale not in self._expected:
            for name, values in weights.items():
                self._model.parameters[name] = values
            self._expected[scale] = self._model.predict(self._rows)["scores"]
        made = Checkpoint(weights, found.optimizer, found.position, found.seed)
        path = write_checkpoint(self.run / "checkpoints", made, is_best=True)
        if number % 3 == 2:
            os.truncate(path / "weights.safetensors", 50)
        self._scales[path.name] = scale

    async def ask(self, place: tuple[str, int]) -> None:
        """One client: requests of a few rows over one connection, until the server ends."""
        reader, writer = await asyncio.open_connection(*place)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                chosen = [self._drawn.randrange(ROWS) for _ in range(self._drawn.randint(1, 5))]
                inputs = [
                    {
                        "name": "x",
                        "shape": [len(chosen), 4],
                        "datatype": "FP32",
                        "data": self._rows["x"][chosen].tolist(),
                    },
                    {
                        "name": "kind",
                        "shape": [len(chosen)],
                        "datatype": "INT32",
                        "data": self._rows["kind"][chosen].tolist(),
                    },
                ]
                body = json.dumps({"inputs": inputs}).encode()
                writer.write(_HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r")[0])
                await self._compare(head[9:12], await reader.readexactly(length), chosen)
        writer.close()

    async def _compare(self, status: str, body: bytes, chosen: list[int]) -> None:
        self.answers[status] += 1
        said = json.loads(body)
        if status != "200":
            if not (self.is_ending and status == "503"):
                raise SystemExit(f"status {status}: {said}")
            return
        name = said["model_version"].partition("@")[2]
        while name not in self._scales:  # the server saw the checkpoint before its writer went on
            await asyncio.sleep(0.01)
        found = np.array(said["outputs"][0]["data"], np.float32)
        if found.tobytes() != self._expected[self._scales[name]][chosen].tobytes():
            raise SystemExit(f"version {name}: other bits for the rows {chosen}")

    async def harm(self, place: tuple[str, int]) -> None:
        """Connections that send what is no request, or a part of one, and go after a while."""
        while not self.is_ending:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(*place)
                writer.write(self._drawn.choice(HOSTILE))
                await asyncio.sleep(self._drawn.random() / 20)
                writer.close()
            self.answers["hostile"] += 1


def held_by(process: int) -> Mapping[str, int]:
    """The resident set in KiB, and the open file descriptors, of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return {"resident_kib": int(resident.split()[1]), "descriptors": len(os.listdir(f"/proc/{process}/fd"))}


async def soaked(soak: Soak, process: int, place: tuple[str, int], clients: int, seconds: float) -> Mapping[str, int]:
    """Load, harm and new weights for so many seconds, then the signal. What was held after a tenth of the time."""
    begin = time.monotonic()
    tasks = [asyncio.create_task(soak.ask(place)) for _ in range(clients)]
    tasks += [asyncio.create_task(soak.harm(place)) for _ in range(3)]
    held: Mapping[str, int] = {}
    number = 0
    while time.monotonic() - begin < seconds:
        await asyncio.sleep(1)
        for task in tasks:
            if task.done():
                raise SystemExit(f"a client ended: {task.exception()}")
        number += 1
        await asyncio.to_thread(soak.write, number)
        if not held and time.monotonic() - begin > seconds / 10:
            held = held_by(process)
    soak.is_ending = True
    last = held_by(process)
    print(f"held after a tenth of the time: {dict(held)}; at the end: {dict(last)}")
    os.kill(process, signal.SIGTERM)
    await asyncio.gather(*tasks)
    return {name: last[name] - held[name] for name in last}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), given.seed)
        with server(soak.run, "--reload-every", "0.3", "--threads", "1") as (process, said):
            parts = urlsplit(said["url"])
            place = str(parts.hostname), int(parts.port or 0)
            grown = asyncio.run(soaked(soak, process.pid, place, given.clients, 60 * given.minutes))
            log = process.communicate(timeout=60)[1].splitlines()
        reloads = sum(line.endswith("is served") for line in log)
        refused = sum("passed over" in line or "is not served" in line for line in log)
        print(f"answers {dict(soak.answers)}; {reloads} reloads, {refused} refused; exit code {process.returncode}")
        if process.returncode or not reloads or grown["descriptors"] > 20 or grown["resident_kib"] > 30_000:
            raise SystemExit("\n".join(["the server failed, or grew", *log[-20:]]))


if __name__ == "__main__":
    main()
