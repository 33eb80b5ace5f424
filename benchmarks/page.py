"""Measures how soon the page of `dlc view` is there, and how soon it follows a key.

    python benchmarks/page.py [FILE --set KEY=VALUE] [--repeats 5] [--keys 30] [--json]

Without a file: opening of ResNet-50 (`examples/resnet`, depth 50), and keys into `examples/resnet20`; with one, both of
it. `command` is from the start of `dlc view` to the address that it prints, `processor` what that process has computed
by then, and `opening` from there until a browser that is running already has drawn the ledger. `html` is the opening of
the file that `--html` writes. `key` is from a key to the ledger of the new text: colours, diagnostics, shapes and
figures of each line; `key, rested` the same for keys a second apart, between which code is being made. On a machine
that is busy with other work, the counts say more: bytes of the page, its elements, and calls of Python functions behind
a key.

It needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from view_pages import browser  # noqa: E402

from compiler.interface import Options  # noqa: E402
from runtime.view.viewed import viewed_file  # noqa: E402

DRAWN = ".row.head"
"""The first line of the ledger, which stands once all lines do."""
_OPENED = (ROOT / "examples" / "resnet" / "model.dl", ("depth=50",))
_TYPED = (ROOT / "examples" / "resnet20" / "model.dl", ())
_REST = 1.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="a model instead of the usual two")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of FILE")
    parser.add_argument("--repeats", type=int, default=5, help="how often a page is opened (default: 5)")
    parser.add_argument("--keys", type=int, default=30, help="how many keys are typed (default: 30)")
    parser.add_argument("--json", action="store_true", help="print all times")
    arguments = parser.parse_args()
    own = None if arguments.file is None else (arguments.file, tuple(arguments.set))
    opened, typed = own or _OPENED, own or _TYPED
    with browser() as running:
        times = {**openings(running, *opened, arguments.repeats), **keys(running, *typed, arguments.keys)}
    counts = {**sizes(*opened), "calls behind a key": calls_of_a_reading(*typed)}
    if arguments.json:
        print(json.dumps({"milliseconds": times, "counts": counts}))
        return 0
    print(f"{'milliseconds':24} {'median':>8} {'longest':>8}")
    for name, found in times.items():
        print(f"{name:24} {statistics.median(found):8.0f} {max(found):8.0f}")
    for name, count in counts.items():
        print(f"{name:24} {count:8,}")
    return 0


def openings(running: Any, model: Path, settings: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """The milliseconds of each opening."""
    times: dict[str, list[float]] = {name: [] for name in ("command", "processor", "opening", "html")}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "page.html"
        subprocess.run([*_command(model, settings), "--html", str(out)], cwd=ROOT, check=True, capture_output=True)
        for _ in range(repeats):
            begun = time.perf_counter()
            with served(model, settings) as (url, process):
                times["command"].append((time.perf_counter() - begun) * 1000)
                times["processor"].append(_processor_time(process))
                times["opening"].append(_drawing(running, url))
            times["html"].append(_drawing(running, out.as_uri()))
    return times


def keys(running: Any, model: Path, settings: Sequence[str], count: int) -> dict[str, list[float]]:
    """The milliseconds from each key of a comment to the ledger of its text."""
    times: dict[str, list[float]] = {"key": [], "key, rested": []}
    with served(model, settings) as (url, _):
        page = running.new_page(viewport={"width": 1280, "height": 720})
        page.goto(url)
        page.wait_for_selector(DRAWN)
        page.keyboard.press("e")
        page.keyboard.press("Control+Home")
        page.keyboard.type("# \n")
        page.keyboard.press("ArrowLeft")
        for name, rest in (("key", 0.0), ("key, rested", _REST)):
            for _ in range(count):
                time.sleep(rest)
                begun = time.perf_counter()
                page.keyboard.press("x")
                text = page.evaluate("document.querySelector('.over').value.split('\\n')[0]")
                page.wait_for_function(_HAS_LEDGER_OF, arg=text)
                times[name].append((time.perf_counter() - begun) * 1000)
        page.close()
    return times


_HAS_LEDGER_OF = """(text) => { const row = document.getElementById('line-0-1');
    return row && row.querySelector('.t').textContent === text && row.querySelector('.t .c3'); }"""
"""Whether the first line is `text`, coloured as a comment: the server has read it, and all figures are there."""


def sizes(model: Path, settings: Sequence[str]) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder, browser() as running:
        out = Path(folder) / "page.html"
        subprocess.run([*_command(model, settings), "--html", str(out)], cwd=ROOT, check=True, capture_output=True)
        page = running.new_page()
        page.goto(out.as_uri())
        page.wait_for_selector(DRAWN)
        elements = page.evaluate("document.querySelectorAll('*').length")
        page.keyboard.press("g")
        of_graph = page.evaluate("document.querySelectorAll('#graph *').length")
        return {"bytes of the file": out.stat().st_size, "elements": elements, "elements of the graph": of_graph}


def calls_of_a_reading(model: Path, settings: Sequence[str]) -> int:
    """The calls of functions from a text to its ledger, once all modules are imported."""
    overrides = tuple((name, value) for name, _, value in (text.partition("=") for text in settings))
    viewed = viewed_file(model, Options(threads=1), None, overrides, None)
    text = model.read_text("utf-8")

    def read() -> None:
        viewed.page(viewed.reading(text), None, with_code=False)

    read()
    return _calls(read)


def _calls(work: Callable[[], None]) -> int:
    with cProfile.Profile() as profile:
        work()
    return int(getattr(pstats.Stats(profile), "total_calls"))  # noqa: B009


def _command(model: Path, settings: Sequence[str]) -> list[str]:
    chosen = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "runtime.cli", "view", str(model), *chosen]


@contextmanager
def served(model: Path, settings: Sequence[str]) -> Generator[tuple[str, int]]:
    """The address of a page and its process, as long as the context."""
    command = _command(model, settings)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def _processor_time(process: int) -> float:
    """The milliseconds that all threads of a process have computed for."""
    spent = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[11:13]
    return 1000 * sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


def _drawing(running: Any, address: str) -> float:
    """The milliseconds until the ledger is drawn."""
    page = running.new_page(viewport={"width": 1280, "height": 720})
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(DRAWN)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found = (time.perf_counter() - begun) * 1000
    page.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
