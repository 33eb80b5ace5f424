"""Write a trained model as a C library: a header, a static library with the weights, an example, and a manifest.

The library computes the bits that `dlc predict` does. It allocates nothing and needs no system: all memory is the
caller's. `cc -std=c99 DIR/example.c DIR/libmodel.a -o example` builds a program that reads rows and writes outputs.
"""

from __future__ import annotations

from pathlib import Path

from compiler import driver
from compiler.driver import PREDICTION
from compiler.errors.diagnostics import UsageError
from runtime.cli.parser import Namespace, Parser
from runtime.cli.trained import add_trained, trained_of
from runtime.exports.c_library import c_files
from runtime.inference.model import runtime_settings, weight_names
from runtime.reporting.terminal import say
from runtime.runs.tensor_files import replace_tensors
from runtime.support.files import replace_file

EXAMPLES = (
    "dlc export RUN --to c -o library",
    "dlc export RUN --to c --machine neon -o library",
    "dlc export model.dl --weights weights.safetensors --to c -o library",
)


def configure(parser: Parser) -> None:
    add_trained(parser, runs=False)
    parser.add_argument("--to", required=True, choices=["c"], metavar="FORM", help="c: a C library")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write, which is made")


def run(arguments: Namespace) -> int:
    trained = trained_of(arguments)
    program, tensors = trained.program, trained.tensors
    folder = Path(arguments.output)
    settings = runtime_settings(program)
    library = driver.exported_library(program, PREDICTION, trained.options, tensors, settings)
    files = c_files(program, library, {setting.name: setting.value for setting in program.settings})
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    replace_tensors(folder / "weights.safetensors", {name: tensors[name] for name in weight_names(program)})
    size = len(files["libmodel.a"])
    say(f"{program.model} for {library.machine.name} in {folder}: libmodel.a has {size / 1024:.0f} KiB")
    return 0
