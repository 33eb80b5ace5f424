"""Writes the listings of `tour.md` anew: each block of text behind an indented `dlc` command is its output.

Run it from the root of the repository: `python docs/make_tour.py`.
"""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from os import chdir
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script sees its own folder only

from runtime.cli.main import main  # noqa: E402

PAGE = ROOT / "docs" / "tour.md"
LISTING = re.compile(r"(^    dlc (?P<words>[^\n]+)\n\n```text\n)(.*?)(^```\n)", re.DOTALL | re.MULTILINE)


def tour_page(page: str) -> str:
    """The page with current listings. Paths in commands count from the root of the repository."""
    return LISTING.sub(lambda block: block[1] + _output(block["words"].split()) + block[4], page)


def _output(words: list[str]) -> str:
    output = StringIO()
    with redirect_stdout(output):
        code = main(words)
    if code:
        raise SystemExit(f"dlc {' '.join(words)} ended with exit code {code}")
    return "".join(f"{line.rstrip()}\n" for line in output.getvalue().rstrip().splitlines())


if __name__ == "__main__":
    chdir(ROOT)
    PAGE.write_text(tour_page(PAGE.read_text()))
