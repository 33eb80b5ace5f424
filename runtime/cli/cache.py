"""Show or clear the cache of compiled code and decoded images. It only saves time: nothing is lost with it."""

from __future__ import annotations

from compiler import driver
from compiler.diagnostics import size
from runtime.cli.common import add_json, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.data.decoded import usual_cache
from runtime.reporting.terminal import say

EXAMPLES = ("dlc cache info", "dlc cache clear", "dlc cache path")


def configure(parser: Parser) -> None:
    parser.add_argument("action", choices=["info", "clear", "path"], metavar="ACTION", help="info, clear or path")
    add_json(parser)


def run(arguments: Namespace) -> int:
    information = driver.cache_info()
    if arguments.action == "path":
        print(information.path)
    elif arguments.action == "info":
        _print_information(information, arguments.json)
    else:
        driver.clear_cache()
        images = usual_cache()
        sets, amount = images.info()
        images.clear()
        cleared = f"{information.entries + sets} entries, {size(information.bytes + amount)}"
        say(f"cleared {cleared}, from {information.path}")
    return 0


def _print_information(information: driver.CacheInfo, as_json: bool) -> None:
    sets, amount = usual_cache().info()
    if as_json:
        code = {"path": str(information.path), "entries": information.entries, "bytes": information.bytes}
        print_json({**code, "image_sets": sets, "image_bytes": amount})
    else:
        print(f"path     {information.path}\nentries  {information.entries}\nsize     {size(information.bytes)}")
        print(f"images   {sets} sets, {size(amount)}")
