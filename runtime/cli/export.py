"""Write a trained model as a library for C, Python or the web, or as an ONNX file.

The library computes the bits that `dlc predict` does, and with `--training` those of `dlc train`. It allocates nothing
and needs no system: all memory is the caller's. `cc -std=c99 DIR/example.c DIR/libmodel.a -o example` builds a program
that reads rows and writes outputs.

`--to onnx` writes DIR/model.onnx, for other tools: its outputs are those of `dlc predict` but for rounding. With
`--training` it is the training step, in plain operators, from weights and a batch to new weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from compiler.driver import Array, ExportedLibrary, LibraryTensors
from compiler.errors.diagnostics import UsageError
from runtime.analysis.evaluation_data import evaluation_data
from runtime.cli.common import trained_of
from runtime.cli.parser import Namespace, Parser
from runtime.data.part import at_epoch, numbered
from runtime.exports.c_library import Function, c_files, function_of
from runtime.exports.model_library import model_library
from runtime.exports.shared_library import shared_library
from runtime.exports.web_library import MACHINES, web_files
from runtime.exports.web_page import rows_of_page, web_page
from runtime.exports.wheel import wheel
from runtime.reporting.terminal import say, say_notes
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained
from runtime.support.files import JsonValue, replace_file

Exported: TypeAlias = tuple[dict[str, bytes], ExportedLibrary, LibraryTensors]
WEB = ("wasm", "web")
OPSET = 17  # that most tools have
EXAMPLES = (
    "dlc export RUN --to c -o library",
    "dlc export RUN --to c --training --machine neon -o library",
    "dlc export RUN --to shared -o library",
    "dlc export RUN --to python -o dist",
    "dlc export RUN --to wasm --training -o module",
    "dlc export RUN --to web --training --rows 200 -o page",
    "dlc export RUN --to onnx --opset 21 -o model",
    "dlc export model.dl --weights weights.safetensors --to c -o library",
)


def configure(parser: Parser) -> None:
    parser.add_trained(runs=False)
    parser.add_argument(
        "--to",
        required=True,
        choices=["c", "shared", "python", *WEB, "onnx"],
        metavar="FORM",
        help="c: a static library, with an example; shared: a shared one, by `cc` or ziglang; python: a wheel; "
        "wasm: modules of WebAssembly, with JavaScript; web: the same, and a page in one file; onnx: for other tools",
    )
    parser.add_flag("--training", "with the training step, which changes the weights; in ONNX, that step alone")
    parser.add_whole("--rows", "with `--to web`: put N rows of the data into the page (default: none)", 1)
    parser.add_whole("--opset", f"the version of ONNX's operators, from 17 to 21 (default: {OPSET})", 17, 21)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write, which is made")


def run(arguments: Namespace) -> int:
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    writes_weights = arguments.training if arguments.to == "onnx" else arguments.to != "python"
    _keep_sources(folder, arguments.weights if writes_weights else None)
    for option, form in (("rows", "web"), ("opset", "onnx")):
        if arguments.to != form and getattr(arguments, option) is not None:
            raise UsageError(f"--{option} goes with --to {form}", "leave it out")
    trained = trained_of(arguments)
    if arguments.training and trained.program.plan is not None and trained.program.plan.phases:
        say_notes(["parameters are unfrozen later in this training; the step is that of its first epochs"])
    if arguments.to == "onnx":
        return _onnx(trained, arguments, folder)
    files, library, tensors = (_for_the_web if arguments.to in WEB else _for_a_machine)(trained, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)
    if arguments.to != "python":
        replace_tensors(folder / "weights.safetensors", tensors.values)
    code = next(name for name in files if name.endswith((".a", ".so", ".whl", ".wasm")))
    weights = _kib(sum(array.nbytes for array in tensors.values.values()))
    content = "weights and states" if arguments.training else "weights"
    share = f", beside {weights} of {content}" if arguments.to in WEB else f", of which {weights} are {content}"
    share = "" if arguments.to == "python" else share  # those in a wheel are compressed
    say(f"{trained.program.model} for {library.machine.name}: {folder / code} has {_kib(len(files[code]))}{share}")
    return 0


def _keep_sources(folder: Path, weights: str | None) -> None:
    """Raise UsageError where the files of a library would lie among those of a run, or replace the given weights."""
    if (folder / "run.json").exists():
        raise UsageError(f"{folder} is the folder of a run", "name another folder")
    if weights is not None and (folder / "weights.safetensors").resolve() == Path(weights).resolve():
        raise UsageError(f"the weights of the library would replace {weights}", "name another folder")


def _onnx(trained: Trained, arguments: Namespace, folder: Path) -> int:
    from runtime.exports.onnx_file import onnx_file  # a heavy library, and an extra

    opset = arguments.opset or OPSET
    content, tensors = onnx_file(trained, arguments.training, opset)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.onnx"
    replace_file(file, content)
    if arguments.training:  # the step takes them as inputs
        replace_tensors(folder / "weights.safetensors", tensors.values)
    kind = "a training step" if arguments.training else "predictions"
    say(f"{trained.program.model} for {kind}, in ONNX of opset {opset}: {file} has {_kib(len(content))}")
    return 0


def _for_a_machine(trained: Trained, arguments: Namespace) -> Exported:
    library, tensors = model_library(trained, arguments.training)
    if library.machine.is_web:
        raise UsageError(f"a library for {library.machine.name} is no library of C", "take `--to wasm`")
    files = c_files(trained.program, library, tensors, *_described(trained))
    if arguments.to != "c":
        del files["libmodel.a"], files["example.c"], files["CMakeLists.txt"]
        files["libmodel.so"] = shared_library(library)
    if arguments.to == "python":
        del files["model.h"]
        files = dict([wheel(trained.program.model, library.machine, files)])
    return files, library, tensors


def _for_the_web(trained: Trained, arguments: Namespace) -> Exported:
    if arguments.machine is not None:
        raise UsageError("--machine goes with libraries of C", f"`--to {arguments.to}` is for every browser")
    machines = [replace(trained, options=replace(trained.options, machine=name)) for name in MACHINES]
    made = [model_library(one, arguments.training) for one in machines]
    library, tensors = made[0]
    files = web_files(trained.program, [library for library, _ in made], tensors, *_described(trained))
    if arguments.to == "web":
        functions = {signature.name: function_of(trained.program, signature) for signature in library.functions}
        rows = _rows_of_page(trained, functions, arguments.rows or 0)
        files["index.html"] = web_page(trained, functions, files, tensors, rows)
    return files, library, tensors


def _rows_of_page(trained: Trained, functions: Mapping[str, Function], count: int) -> dict[str, Array]:
    """So many rows of the data of the training, those set aside first."""
    if not count:
        return {}
    chosen = evaluation_data(trained, None, None)
    say_notes(chosen.notes)
    numbers = chosen.part.rows[:count]
    arrays = at_epoch(numbered(trained.program, chosen.part).arrays, 0)
    return rows_of_page(arrays, numbers, [*functions.values()])


def _described(trained: Trained) -> tuple[Mapping[str, object], JsonValue]:
    """The settings of a program, and how its data was prepared."""
    settings = {setting.name: setting.value for setting in trained.program.settings}
    return settings, None if trained.preparation is None else trained.preparation.to_json()


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"
