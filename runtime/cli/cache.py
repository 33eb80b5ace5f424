"""Show or clear the cache of code, images and rows of large data. It only saves time: nothing is lost with it."""

from __future__ import annotations

from compiler.errors.diagnostics import DataError, size
from compiler.support.cache import CacheInfo, ObjectCache
from runtime.cli.common import print_json
from runtime.cli.parser import Namespace, Parser
from runtime.data.decoded import usual_cache
from runtime.data.streaming.packs import usual_packs
from runtime.reporting.terminal import say

EXAMPLES = ("dlc cache info", "dlc cache clear", "dlc cache path")


def configure(parser: Parser) -> None:
    parser.add_argument("action", choices=["info", "clear", "path"], metavar="ACTION", help="info, clear or path")
    parser.add_json()


def run(arguments: Namespace) -> int:
    information = ObjectCache().info()
    if arguments.action == "path":
        print(information.path)
    elif arguments.action == "info":
        _print_information(information, arguments.json)
    else:
        before, amount = _amount()
        ObjectCache().clear()
        usual_cache().clear()
        usual_packs().clear()
        left, kept = _amount()
        say(f"cleared {before - left} entries, {size(amount - kept)}, from {information.path}")
        if left or information.why_unused:
            problem = information.why_unused or f"{information.path}: {left} entries cannot be removed"
            raise DataError(problem, fix="check owners and permissions")
    return 0


def _amount() -> tuple[int, int]:
    """All entries, of compiled code, of images and of rows, and their bytes."""
    code, (sets, amount), (packs, of_rows) = ObjectCache().info(), usual_cache().info(), usual_packs().info()
    return code.entries + sets + packs, code.bytes + amount + of_rows


def _print_information(information: CacheInfo, as_json: bool) -> None:
    sets, amount = usual_cache().info()
    packs, of_rows = usual_packs().info()
    if as_json:
        code = {"path": str(information.path), "entries": information.entries, "bytes": information.bytes}
        kept = {"image_sets": sets, "image_bytes": amount, "row_sets": packs, "row_bytes": of_rows}
        print_json({**code, **kept, "why_unused": information.why_unused or None})
    else:
        print(f"path     {information.path}\nentries  {information.entries}\nsize     {size(information.bytes)}")
        print(f"images   {sets} sets, {size(amount)}")
        print(f"rows     {packs} sets, {size(of_rows)}")
        if information.why_unused:
            print(f"not used: {information.why_unused}")
