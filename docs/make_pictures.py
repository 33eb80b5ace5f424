"""Draws the pictures of terminals in `pictures/` anew, from what the commands print.

Run it from the root of the repository: `python docs/make_pictures.py`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script sees its own folder only

from rich.console import Console  # noqa: E402
from rich.terminal_theme import TerminalTheme  # noqa: E402
from rich.text import Text  # noqa: E402

from compiler.support.palette import COLOURS, channels  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
WIDTH = 80
_UP, _ERASE = "\x1b[1A", "\x1b[2K"  # to the line before, and what stands in a line goes
_STEERING = re.compile(r"\x1b\[[?0-9;]*[A-Zhl]")  # of the cursor; colours end with `m`

# A layer that gives its input's width back, but for a typing error.
MISTAKE = """layer block(hidden: int)(x: [..., n]) -> [..., n] {
    inner = x |> dense(hidden) |> relu
    return x + inner
}

model Digits(width = 64, classes = 10) {
    input pixels: f32[batch, 64]
    output logits = pixels / 16 |> block(2 * width) |> dense(classes)
}
"""
COMMANDS: dict[str, Sequence[str]] = {
    "training": ("train", "model.dl", "--epochs", "5", "--out", "digits"),
    "error": ("check", "mistake.dl"),
}

# A dark page, with the colours of the pages in the order of a terminal's: red, green, yellow, blue, magenta, cyan.
_DARK, _LIGHT = (channels(COLOURS[name][1]) for name in ("paper", "ink"))
_TERMINAL = ("error", "text", "warning", "forward", "word", "call")
_RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN = (channels(COLOURS[name][1]) for name in _TERMINAL)
_THEME = TerminalTheme(_DARK, _LIGHT, [_DARK, _RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN, _LIGHT])
# The SVG of rich without the fonts that it fetches from elsewhere.
_FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def printed(words: Sequence[str], folder: Path) -> str:
    """All that a command leaves on a terminal, in a folder with `model.dl`, its data and `mistake.dl`, with colours."""
    example = ROOT / "examples" / "digits"
    for name in ("model.dl", "digits.csv.gz"):
        shutil.copy(example / name, folder)
    (folder / "mistake.dl").write_text(MISTAKE)
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    for name in ("NO_COLOR", "COLUMNS"):
        environment.pop(name, None)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, WIDTH, 0, 0))
    command = [sys.executable, "-m", "runtime.cli", *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        shown = b"".join(_received(ours))
    os.close(ours)
    lines: list[str] = []
    for line in shown.decode().replace("\r", "").split("\n"):
        if _UP in line:
            lines.pop()
        lines.append(_STEERING.sub("", line.rpartition(_ERASE)[2]))
    return "\n".join(line for line in lines if line)


def _received(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal, until its other side is closed: Linux says so by an error."""
    with suppress(OSError):
        while received := os.read(terminal, 1 << 16):
            yield received


def picture(name: str, words: Sequence[str], text: str) -> str:
    """A terminal that shows a command and its text, as SVG."""
    console = Console(width=WIDTH, record=True, file=StringIO(), color_system="truecolor")
    console.print(Text.from_ansi(f"\x1b[2m$\x1b[0m \x1b[1mdlc {' '.join(words)}\x1b[0m\n{text.rstrip()}"))
    return console.export_svg(title="", theme=_THEME, code_format=_FORMAT, unique_id=name)


def main() -> None:
    """Write every picture."""
    PICTURES.mkdir(exist_ok=True)
    for name, words in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            text = printed(words, Path(folder))
        (PICTURES / f"{name}.svg").write_text(picture(name, words, text))


if __name__ == "__main__":
    main()
