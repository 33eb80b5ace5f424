"""Write a trained model as a C library: a header, the code with the weights, an example, and a manifest.

The library computes the bits that `dlc predict` does, and with `--training` those of `dlc train`. It allocates nothing
and needs no system: all memory is the caller's. `cc -std=c99 DIR/example.c DIR/libmodel.a -o example` builds a program
that reads rows and writes outputs.
"""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError
from runtime.cli.parser import Namespace, Parser
from runtime.cli.trained import add_trained, trained_of
from runtime.exports.c_library import c_files
from runtime.exports.model_library import model_library
from runtime.exports.shared_library import shared_library
from runtime.reporting.terminal import say
from runtime.runs.tensor_files import replace_tensors
from runtime.support.files import replace_file

EXAMPLES = (
    "dlc export RUN --to c -o library",
    "dlc export RUN --to c --training --machine neon -o library",
    "dlc export RUN --to shared -o library",
    "dlc export model.dl --weights weights.safetensors --to c -o library",
)


def configure(parser: Parser) -> None:
    add_trained(parser, runs=False)
    parser.add_argument(
        "--to",
        required=True,
        choices=["c", "shared"],
        metavar="FORM",
        help="c: a static library, with an example; shared: a shared one, by `cc` or ziglang",
    )
    parser.add_argument("--training", action="store_true", help="with the training step, which changes the weights")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write, which is made")


def run(arguments: Namespace) -> int:
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    trained = trained_of(arguments)
    program = trained.program
    library, tensors = model_library(trained, arguments.training)
    files = c_files(program, library, tensors, {setting.name: setting.value for setting in program.settings})
    code = "libmodel.a"
    if arguments.to == "shared":
        del files["libmodel.a"], files["example.c"], files["CMakeLists.txt"]
        code = "libmodel.so"
        files[code] = shared_library(library, is_native=trained.options.machine is None)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    replace_tensors(folder / "weights.safetensors", tensors.values)
    size = len(files[code]) - sum(array.nbytes for array in tensors.values.values())
    say(f"{program.model} for {library.machine.name} in {folder}: {size / 1024:.0f} KiB beside its weights")
    return 0
