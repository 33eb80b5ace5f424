"""Pages of `dlc view` for tests: small texts, their documents, and a browser that collects what goes wrong."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compiler.interface import Options
from runtime.cli.main import main
from runtime.view.document import Page
from runtime.view.viewed import viewed_file

SMALL = """import "parts.dl"

model Net(hidden = 12) {
    input x: f32[batch, 6]
    for i in 0..2 {
        x = x |> dense(hidden) |> relu
    }
    y = scaled(x)
    output logits = y
        |> dense(3)
}

train Net {
    target label: i32[batch] in 0..3
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 16
    seed = 1
}
"""
PARTS = """## Twice `x`, "as it is".
fn scaled(x) = 2 * x
"""


def written(folder: Path, name: str = "net.dl", text: str = SMALL) -> Path:
    """The small model as a file."""
    folder.mkdir(exist_ok=True)
    (folder / "parts.dl").write_text(PARTS)
    path = folder / name
    path.write_text(text)
    return path


def page_of(path: Path) -> Page:
    viewed = viewed_file(path, Options(threads=1), None, (), None)
    return viewed.page(viewed.reading())


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command prints as JSON."""
    assert main([str(argument) for argument in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def data_in(html: str, name: str) -> Any:
    """The data that a page holds under a name: `document`, or `code`, whose stages stay packed."""
    found = re.search(rf'<script type="[a-z/]*" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1] if name == "code" else zlib.decompress(base64.b64decode(found[1])))


def chromium() -> str:
    """The command of a browser. Skips where there is none, or nothing that drives it."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((command for command in map(shutil.which, names) if command), None)
    if found is None:
        pytest.skip("there is no Chromium")
    return found


@contextmanager
def browser() -> Generator[Any]:
    """A browser that runs as long as the context."""
    command = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def opened(running: Any, address: str, scheme: str = "light") -> Generator[Any]:
    """A page that must not complain, and must ask for nothing but itself and its own server."""
    tab = running.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address)
    tab.wait_for_selector(".row.head", state="attached")
    yield tab
    origin = address.split("#")[0].split("?")[0]
    outside = [url for url in asked if not url.startswith((origin, "data:", "blob:"))]
    tab.close()
    assert wrong == [], wrong
    assert outside == []
