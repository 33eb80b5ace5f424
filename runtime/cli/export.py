"""Write a trained model as a C library, as a package for Python, or as an ONNX file.

The library computes the bits that `dlc predict` does, and with `--training` those of `dlc train`. It allocates nothing
and needs no system: all memory is the caller's. `cc -std=c99 DIR/example.c DIR/libmodel.a -o example` builds a program
that reads rows and writes outputs.

`--to onnx` writes DIR/model.onnx, for other tools: its outputs are those of `dlc predict` but for rounding. With
`--training` it is the training step, in plain operators, from weights and a batch to new weights.
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
from runtime.runs.trained import Trained
from runtime.support.files import replace_file

_OPSET = 17  # the one that most tools have
EXAMPLES = (
    "dlc export RUN --to c -o library",
    "dlc export RUN --to c --training --machine neon -o library",
    "dlc export RUN --to shared -o library",
    "dlc export RUN --to python -o dist",
    "dlc export RUN --to onnx --opset 21 -o model",
    "dlc export model.dl --weights weights.safetensors --to c -o library",
)


def configure(parser: Parser) -> None:
    parser.add_trained(runs=False)
    parser.add_argument(
        "--to",
        required=True,
        choices=["c", "shared", "python", "onnx"],
        metavar="FORM",
        help="c: a static library, with an example; shared: a shared one, by `cc` or ziglang; python: a wheel; "
        "onnx: a model for other tools",
    )
    parser.add_flag("--training", "with the training step, which changes the weights; in ONNX, the step alone")
    parser.add_whole("--opset", "the version of ONNX's operators, from 17 to 21 (default: 17)", 17, 21)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write, which is made")


def run(arguments: Namespace) -> int:
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    if arguments.to != "onnx" and arguments.opset is not None:
        raise UsageError("--opset goes with --to onnx", "leave it out")
    trained = trained_of(arguments)
    return _onnx(trained, arguments, folder) if arguments.to == "onnx" else _library(trained, arguments, folder)


def _library(trained: Trained, arguments: Namespace, folder: Path) -> int:
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


def _onnx(trained: Trained, arguments: Namespace, folder: Path) -> int:
    from runtime.exports.onnx_file import onnx_file  # a heavy library, and an extra

    opset = arguments.opset or _OPSET
    content, tensors = onnx_file(trained, arguments.training, opset)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "model.onnx", content)
    if arguments.training:  # the step takes them as inputs
        replace_tensors(folder / "weights.safetensors", tensors.values)
    kind = "training step" if arguments.training else "prediction"
    file = folder / "model.onnx"
    say(f"{trained.program.model}, its {kind} in ONNX's operators of opset {opset}: {file} has {_kib(len(content))}")
    return 0


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"
