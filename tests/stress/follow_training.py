"""Trains with and without an open page, in turns, and compares times and bits.

python tests/stress/follow_training.py examples/digits/model.dl --epochs 2000 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from compiler.support.record import record
from runtime.runs.checkpoint import newest_checkpoint

TICKS = os.sysconf("SC_CLK_TCK")


@record
class Taken:
    """Seconds: of processor time of the training and of the processes that it began; of its steps by the clock."""

    own: float
    beside: float
    steps: float
    weights: tuple[bytes, ...]
    looks: int


def trained(model: str, arguments: list[str], has_page: bool, folder: Path) -> Taken:
    command = [sys.executable, "-m", "runtime.cli", "train", model, "--json", "--out", str(folder), *arguments]
    seen: list[str] = []
    with subprocess.Popen([*command, *["--view"] * has_page], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "page":
                threading.Thread(target=lambda url=event["url"]: seen.extend(events_of(url)), daemon=True).start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        own, beside = processor_time(process.pid)
    result = json.loads((folder / "result.json").read_text())
    weights = newest_checkpoint(folder / "checkpoints").checkpoint.weights
    bits = tuple(weights[name].tobytes() for name in sorted(weights))
    return Taken(own, beside, result["seconds"], bits, sum(kind == "lines" for kind in seen))


def events_of(url: str) -> Iterator[str]:
    """The kinds of the events that an open page is told of."""
    address, token = url.split("/?token=")
    request = urllib.request.Request(f"{address}/events", headers={"x-dlc-token": token})
    try:
        with urllib.request.urlopen(request, timeout=60) as stream:
            for line in stream:
                if line.startswith(b"event: "):
                    yield line[7:].decode().strip()
    except OSError:
        return


def processor_time(pid: int) -> tuple[float, float]:
    """Of a process that has ended, and of those that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, user_beside, system_beside = (int(field) / TICKS for field in fields[11:15])
    return user + system, user_beside + system_beside


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    arguments, others = parser.parse_known_args()
    found: dict[bool, list[Taken]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds + 1):  # the first round fills the caches
            for has_page in (False, True):
                taken = trained(arguments.model, others, has_page, Path(folder) / f"{number}-{has_page}")
                print(f"{number} page={has_page!s:5} own {taken.own:6.2f} s, beside {taken.beside:5.2f} s,", end=" ")
                print(f"steps {taken.steps:6.2f} s, {taken.looks} looks", flush=True)
                found[has_page] += [taken] * (number > 0)
    are_same = len({taken.weights for each in found.values() for taken in each}) == 1
    for name in ("own", "steps"):
        alone, followed = (statistics.median(getattr(taken, name) for taken in found[page]) for page in (False, True))
        print(f"{name}: {alone:.2f} s without, {followed:.2f} s with: {100 * (followed / alone - 1):+.1f} %")
    print("the weights have the same bits" if are_same else "THE WEIGHTS DIFFER")
    return 0 if are_same else 1


if __name__ == "__main__":
    sys.exit(main())
