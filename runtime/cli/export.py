"""Write a trained model as a C library, or as a package for Python: the code with the weights, and a manifest.

The library computes the bits that `dlc predict` does, and with `--training` those of `dlc train`. It allocates nothing
and needs no system: all memory is the caller's. `cc -std=c99 DIR/example.c DIR/libmodel.a -o example` builds a program
that reads rows and writes outputs.
"""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError
from runtime.cli.common import trained_of
from runtime.cli.parser import Namespace, Parser
from runtime.exports.c_library import c_files
from runtime.exports.model_library import model_library
from runtime.exports.shared_library import shared_library
from runtime.exports.wheel import wheel
from runtime.reporting.terminal import say
from runtime.runs.tensor_files import replace_tensors
from runtime.support.files import replace_file

EXAMPLES = (
    "dlc export RUN --to c -o library",
    "dlc export RUN --to c --training --machine neon -o library",
    "dlc export RUN --to shared -o library",
    "dlc export RUN --to python -o dist",
    "dlc export model.dl --weights weights.safetensors --to c -o library",
)


def configure(parser: Parser) -> None:
    parser.add_trained(runs=False)
    parser.add_argument(
        "--to",
        required=True,
        choices=["c", "shared", "python"],
        metavar="FORM",
        help="c: a static library, with an example; shared: a shared one, by `cc` or ziglang; python: a wheel",
    )
    parser.add_flag("--training", "with the training step, which changes the weights")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write, which is made")


def run(arguments: Namespace) -> int:
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    trained = trained_of(arguments)
    program = trained.program
    library, tensors = model_library(trained, arguments.training)
    preparation = None if trained.preparation is None else trained.preparation.to_json()
    settings = {setting.name: setting.value for setting in program.settings}
    files = c_files(program, library, tensors, settings, preparation)
    if arguments.to != "c":
        del files["libmodel.a"], files["example.c"], files["CMakeLists.txt"]
        files["libmodel.so"] = shared_library(library)
    if arguments.to == "python":
        del files["model.h"]
        files = dict([wheel(program.model, library.machine, files)])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    if arguments.to != "python":
        replace_tensors(folder / "weights.safetensors", tensors.values)
    code = next(name for name in files if name.endswith((".a", ".so", ".whl")))
    weights = _kib(sum(array.nbytes for array in tensors.values.values()))
    share = "" if arguments.to == "python" else f", of which {weights} are weights"  # a wheel is compressed
    say(f"{program.model} for {library.machine.name}: {folder / code} has {_kib(len(files[code]))}{share}")
    return 0


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"
