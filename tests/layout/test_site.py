"""The documentation site in a browser: its first page and the course, on a laptop and on a phone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from repository import ROOT
from view_pages import browser, chromium

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")

CHAPTERS = [f"docs/course/{page.stem}/" for page in sorted((ROOT / "docs" / "course").glob("[0-9]*.md"))]
PAGES = ["", "docs/course/", *CHAPTERS]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Generator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_pages_fit_their_window_and_fetch_nothing_from_elsewhere(tmp_path: Path) -> None:
    chromium()  # skips before the site is built
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wrong: list[str] = []
    with browser() as running, served(tmp_path) as address:
        for width in (1280, 390):
            wrong += looked_at(running.new_page(viewport={"width": width, "height": 900}), address, width)
    assert wrong == []


def looked_at(tab: Any, address: str, width: int) -> list[str]:
    """What is wrong with the pages in a window of this width."""
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    for page in PAGES:
        tab.goto(address + page, wait_until="load")
        across = tab.evaluate("document.documentElement.scrollWidth")
        wrong += [f"{page} is {across} pixels wide in a window of {width}"] if across > width else []
        wrong += tab.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        wrong += [f"{page} has no equation"] if page in CHAPTERS and not tab.locator(".equation math").count() else []
    tab.close()
    return wrong + [url for url in asked if not url.startswith((address, "data:"))]
