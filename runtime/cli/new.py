"""Start a project: a small commented model, its README, and made data on which it trains at once."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import say

EXAMPLES = ("dlc new rings", "dlc new curve --template regression")


@record
class Template:
    """`model.dl` and `README.md` lie in the folder `runtime/templates/NAME`; the data file is made."""

    name: str
    data_file: str
    data: Callable[[], str]


def rings() -> str:
    """Rows `x,y,ring` of points on two rings with some noise."""
    source = random.Random(0)
    rows = ["x,y,ring"]
    for number in range(400):
        name, radius = (("inner", 1.0), ("outer", 2.0))[number % 2]
        angle, distance = source.uniform(0, 2 * math.pi), source.gauss(radius, 0.15)
        rows.append(f"{distance * math.cos(angle):.4f},{distance * math.sin(angle):.4f},{name}")
    return "\n".join(rows) + "\n"


def measurements() -> str:
    """Rows `time,level` of a bent curve with noise of deviation 0.1."""
    source = random.Random(0)
    rows = ["time,level"]
    for _ in range(300):
        time = source.uniform(-2, 2)
        rows.append(f"{time:.4f},{math.sin(2 * time) + 0.3 * time + source.gauss(0, 0.1):.4f}")
    return "\n".join(rows) + "\n"


TEMPLATES = (Template("mlp", "points.csv", rings), Template("regression", "measurements.csv", measurements))


def configure(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder to make")
    names = [template.name for template in TEMPLATES]
    parser.add_option(
        "--template", "NAME", f"one of %(choices)s (default: {names[0]})", choices=names, default=names[0]
    )


def run(arguments: Namespace) -> int:
    folder = Path(arguments.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder", "name a new one; nothing was changed")
    template = next(template for template in TEMPLATES if template.name == arguments.template)
    texts = Path(__file__).parent.parent / "templates" / template.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.dl", "README.md"):
        (folder / name).write_text((texts / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / template.data_file).write_text(template.data(), encoding="utf-8")
    say(f"made {folder} with model.dl, README.md and {template.data_file}")
    say(f"next: dlc train {folder / 'model.dl'}")
    return 0
