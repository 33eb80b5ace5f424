"""Opens every tab of every line of every example's page in a browser: nothing may complain, and no tab may be empty.

    python tests/stress/check_pages.py [NAME …] [--without resnet,vgg]

It needs Chromium and playwright. The page of an experiment is one for each `train` of the text.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1] / "support")]

from repository import ROOT  # noqa: E402
from view_pages import browser, opened  # noqa: E402

TABS = ("What it is", "Graph", "Gradient", "Kernels", "Loops", "LLVM", "Assembly")
CODE = TABS[2:]  # where the words of a program may stand
VIEWS = ("Graph", "Memory", "Ledger")
ROW = ".row[role=option]:not(.idle)"


def experiments_of(model: Path) -> list[list[str]]:
    """The arguments that choose each experiment of a text; none where it has one."""
    names = re.findall(r"^train (\w+)", model.read_text("utf-8"), re.MULTILINE)
    return [["--experiment", name] for name in names] if len(names) > 1 else [[]]


def check(running: Any, page: Path) -> int:
    """Open all of a page; how many tabs that were. Raises AssertionError."""
    count = 0
    with opened(running, page.as_uri()) as tab:
        rows = tab.locator(ROW)
        for line in range(rows.count()):
            rows.nth(line).click()
            for title in TABS:
                tab.locator("#tabs").get_by_role("tab", name=title, exact=True).click()
                tab.wait_for_function("document.getElementById('body').innerText.trim().length > 0")
                text = tab.inner_text("#body")
                said = () if title in CODE else ("undefined", "NaN", "[object")
                assert not any(word in text for word in said), (line, title, text[:200])
                count += 1
        for view in VIEWS:
            tab.locator("#views").get_by_role("tab", name=view, exact=True).click()
            assert tab.locator(f"#{view.lower()}").inner_text().strip(), view
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help="examples (default: all)")
    parser.add_argument("--without", default="", help="examples to leave out")
    arguments = parser.parse_args()
    models = sorted((ROOT / "examples").glob("*/model.dl"))
    chosen = [m for m in models if m.parent.name in (arguments.names or {path.parent.name for path in models})]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, browser() as running:
        for model in chosen:
            if model.parent.name in arguments.without.split(","):
                continue
            for more in experiments_of(model):
                out, begin = Path(folder) / "page.html", time.perf_counter()
                command = [sys.executable, "-m", "runtime.cli", "view", str(model), "--html", str(out), *more]
                try:
                    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                    count = check(running, out)
                    said = f"{count} tabs, {out.stat().st_size:,} bytes, {time.perf_counter() - begin:.0f} s"
                except subprocess.CalledProcessError as error:
                    said, wrong = f"WRONG {error.stderr.strip()}", wrong + 1
                except Exception as error:
                    said, wrong = f"WRONG {type(error).__name__} {error}", wrong + 1
                print(f"{model.parent.name} {' '.join(more[1:])}: {said}", flush=True)
    print(f"{wrong} pages are wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
