"""Draws `pictures/editor.png` anew: the extension of `editors/vscode`, packaged and installed, in VS Code in a browser.

It needs what `make_page_pictures.py` needs, npm, and code-server (`npm install code-server`), which serves VS Code.

Run it from the root of the repository: `python docs/make_editor_picture.py PATH_OF_CODE_SERVER`.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "editor.png"
EXAMPLE = ROOT / "examples" / "gpt"
COLOURS = 256  # of the picture: text and flat surfaces need no more
SIZE = ViewportSize(width=1180, height=640)
PATIENCE = 60  # seconds
RIGHT, WRONG = "layer_norm(bias", "layer_norm(bais"
SETTINGS = {
    "dlc.command": [str(Path(sys.executable).with_name("dlc")), "lsp"],
    "workbench.colorTheme": "Default Light Modern",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "editor.minimap.enabled": False,
    "editor.fontSize": 13,
    "editor.renderLineHighlight": "none",
    "editor.scrollbar.horizontal": "hidden",
    "remote.autoForwardPorts": False,
    "editor.formatOnSave": False,
    "breadcrumbs.enabled": False,
    "workbench.layoutControl.enabled": False,
    "window.commandCenter": False,
    "chat.commandCenter.enabled": False,
}


def packaged(folder: Path) -> Path:
    """The extension as a file that editors install."""
    copy = folder / "vscode"
    shutil.copytree(ROOT / "editors" / "vscode", copy)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=copy, check=True)
    subprocess.run(["npm", "run", "package"], cwd=copy, check=True)
    return next(copy.glob("*.vsix"))


def workspace(folder: Path) -> Path:
    """The example with a typing error, beside its data."""
    copy = folder / "gpt"
    shutil.copytree(EXAMPLE, copy)
    model = copy / "model.dl"
    text = model.read_text("utf-8")
    assert RIGHT in text
    model.write_text(text.replace(RIGHT, WRONG), "utf-8")
    return copy


@contextmanager
def serving(program: str, folder: Path) -> Generator[str]:
    """VS Code with the extension alone; its address."""
    user, extensions, settings = folder / "user", folder / "extensions", folder / "user" / "User" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS), "utf-8")
    command = [program, "--user-data-dir", str(user), "--extensions-dir", str(extensions), "--disable-telemetry"]
    subprocess.run([*command, "--install-extension", str(packaged(folder))], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = [*command, "--disable-update-check", "--auth", "none", "--bind-addr", f"127.0.0.1:{port}"]
    with subprocess.Popen(served) as server:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > end:
            raise TimeoutError("code-server does not answer")
        time.sleep(0.2)


def shoot(browser: Browser, address: str, folder: Path) -> bytes:
    """The model in the editor, with the message of its mistake, at one and a half pixels for each of the page."""
    tab = browser.new_page(viewport=SIZE, device_scale_factor=1.5)
    tab.set_default_timeout(PATIENCE * 1000)
    tab.goto(f"{address}/?folder={folder}")
    _open(tab, "model.dl")
    tab.wait_for_selector(".codelens-decoration a")
    tab.wait_for_selector(".squiggly-error")
    tab.get_by_text("parameters").first.wait_for()
    tab.get_by_text("bais").first.hover()
    tab.wait_for_selector(".monaco-hover:not(.hidden) .hover-contents")
    tab.wait_for_timeout(1000)  # what else the editor has to draw
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    out = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def _open(tab: Page, name: str) -> None:
    tab.wait_for_selector(".monaco-workbench .part.editor")
    tab.wait_for_timeout(3000)  # keys are lost until the extensions are loaded
    tab.keyboard.press("Control+b")  # no side bar
    tab.keyboard.press("Control+p")
    tab.wait_for_selector(".quick-input-box input")
    tab.keyboard.type(name)
    tab.wait_for_selector(f".quick-input-list [aria-label^='{name}']")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".view-line")


def main(words: Sequence[str]) -> None:
    (program,) = words or ("code-server",)
    browser_command = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(executable_path=browser_command, args=["--no-sandbox"])
        with serving(program, folder) as address:
            PICTURE.write_bytes(shoot(browser, address, workspace(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
