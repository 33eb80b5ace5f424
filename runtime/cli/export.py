"""Write a trained model as a library for C, Python or the web, or as an ONNX file.

The library computes the bits that `dlc predict` does, and with `--training` those of `dlc train`. It allocates nothing
and needs no system: all memory is the caller's. `cc -std=c99 DIR/example.c DIR/libmodel.a -o example` builds a program
that reads rows and writes outputs.

`--to onnx` writes DIR/model.onnx, for other tools: its outputs are those of `dlc predict` but for rounding. With
`--training` it is the training step, in plain operators, from weights and a batch to new weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from compiler.driver import Array, ExportedLibrary, LibraryTensors, Pieces, Program, generates_alone, without_teachers
from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import quoted
from compiler.support.train_keys import OF_PREDICTIONS
from runtime.analysis.evaluation_data import evaluation_data
from runtime.cli.common import expect_settings_of_use, trained_of
from runtime.cli.parser import Namespace, Parser
from runtime.data.part import at_epoch, numbered
from runtime.exports.c_library import Function, c_files, function_of
from runtime.exports.c_names import is_prefix
from runtime.exports.folder import ADAPTED, MANIFEST, adapted_since, expect_own, with_files, written_before
from runtime.exports.model_library import PREFIX, model_library
from runtime.exports.shared_library import shared_library
from runtime.exports.web_library import MACHINES, web_files
from runtime.exports.web_page import rows_of_page, web_page
from runtime.exports.wheel import wheel
from runtime.reporting.terminal import say, say_notes
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained
from runtime.support.files import JsonValue, replace_file

Exported: TypeAlias = tuple[Mapping[str, Pieces], ExportedLibrary, LibraryTensors]
WEB = ("wasm", "web")
WEIGHTS, ONNX = "weights.safetensors", "model.onnx"
OPSET = 17  # that most tools have
EXAMPLES = (
    "dlc export RUN --to c -o library",
    "dlc export RUN --to c --training --target aarch64-linux-gnu -o library",
    "dlc export RUN --to c --prefix digits -o library",
    "dlc export RUN --to shared -o library",
    "dlc export RUN --to python -o dist",
    "dlc export RUN --to wasm --training -o module",
    "dlc export RUN --to web --training --rows 200 -o page",
    "dlc export RUN --to onnx --opset 21 -o model",
    "dlc export model.dl --weights weights.safetensors --to c -o library",
)
_HEADERS_OF_C = re.compile(
    "assert|complex|ctype|errno|fcntl|fenv|float|inttypes|io|limits|locale|math|setjmp|signal|stdarg|stdbool|stddef|"
    "stdint|stdio|stdlib|string|tgmath|time|wchar|wctype"
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
    parser.add_option("--prefix", "NAME", f"with `--to c` and `shared`: the prefix of all names (default: {PREFIX})")
    parser.add_flag(
        "--force", "replace files of these names in DIR that no earlier export wrote, or that were changed since"
    )
    parser.add_option("-o, --output", "DIR", "the folder to write, which is made", required=True)


def run(arguments: Namespace) -> int:
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    writes_weights = arguments.training if arguments.to == "onnx" else arguments.to != "python"
    _keep_sources(folder, arguments.weights if writes_weights else None)
    for option, form in (("rows", "web"), ("opset", "onnx")):
        if arguments.to != form and getattr(arguments, option) is not None:
            raise UsageError(f"--{option} goes with --to {form}", "leave it out")
    if arguments.prefix is not None:
        _expect_prefix(arguments.prefix, arguments.to)
    if (arguments.target or "").startswith(("auto", "gpu")):  # before a device is asked for memory
        raise UsageError("an export is for processors", "leave out --target, or name a processor such as avx2")
    trained = trained_of(arguments)
    if not arguments.training:
        _expect_settings_of_predictions(arguments, trained.program)
        trained = replace(trained, program=without_teachers(trained.program))
    if arguments.training and trained.program.plan is not None and trained.program.plan.phases:
        say_notes(["parameters are unfrozen later in this training; the step is that of its first epochs"])
    if arguments.to in ("c", "shared", *WEB):
        say_notes(_of_sequences(trained.program))
    say_notes(
        [f"the sampler `{s.name}` is no part of an export: `dlc sample` runs it" for s in trained.program.samplers]
    )
    if arguments.to == "onnx":
        return _onnx(trained, arguments, folder)
    files, library, tensors = (_for_the_web if arguments.to in WEB else _for_a_machine)(trained, arguments)
    _write(folder, files, arguments)
    if arguments.to != "python":
        replace_tensors(folder / WEIGHTS, tensors.values)
    code = next(name for name in files if name.endswith((".a", ".so", ".whl", ".wasm")))
    weights = _kib(sum(array.nbytes for array in tensors.values.values()))
    content = "weights and states" if arguments.training else "weights"
    share = f", beside {weights} of {content}" if arguments.to in WEB else f", of which {weights} are {content}"
    share = "" if arguments.to == "python" else share  # those in a wheel are compressed
    size = _kib(sum(len(piece) for piece in files[code]))
    say(f"{trained.program.model} for {library.machine.name}: {folder / code} has {size}{share}")
    return 0


def _write(folder: Path, files: Mapping[str, Pieces], arguments: Namespace) -> None:
    """Put files into the folder, with a manifest that lists them. Raises UsageError for files of others there.

    The name of a wheel says of what it is, as those of all packages do, and a newer one takes its place.
    """
    if arguments.to != "python":
        before = written_before(folder)
        names = [*files, WEIGHTS]
        expect_own(folder, names, before.names, arguments.force)
        kept = () if arguments.force else tuple(name for name in adapted_since(folder, before) if name in files)
        if kept:
            stay = "stays" if len(kept) == 1 else "stay"
            say_notes([f"{quoted(kept)} in {folder} {stay}, as changed since an export wrote it; --force replaces it"])
        files = {name: content for name, content in files.items() if name not in kept}
        written = {name: b"".join(files[name]) for name in ADAPTED if name in files}
        files[MANIFEST] = (with_files(b"".join(files[MANIFEST]), names, before, written),)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, *content)


def _of_sequences(program: Program) -> list[str]:
    """Why the library of a model that extends sequences has no function for it."""
    generation = program.generation
    if generation is None or generates_alone(program):
        return []
    if generation.beam is not None:
        return ["no `generate_next`: `generate` searches by beams"]
    others = [f"`{spec.name}`" for spec in program.inputs if not spec.is_target and spec.name != generation.feed]
    return [f"no `generate_next`: the model reads {' and '.join(others)} beside `{generation.feed}`"]


def _expect_prefix(prefix: str, form: str) -> None:
    """Raises UsageError for a prefix that no library has, and where there is no library for C."""
    if form not in ("c", "shared"):
        raise UsageError("--prefix goes with --to c and --to shared", "leave it out")
    if not is_prefix(prefix):
        hint = "take up to 32 small letters, digits and single underscores, a letter first"
        if is_prefix(prefix.lower()):
            hint = f"macros have it in capitals: take `--prefix {prefix.lower()}`"
        raise UsageError(f"no names of C can begin with `{prefix}_`", hint)
    if _HEADERS_OF_C.fullmatch(prefix):
        raise UsageError(f"`{prefix}.h` is a header of C's own, which programs would miss", "name another --prefix")


def _expect_settings_of_predictions(arguments: Namespace, program: Program) -> None:
    """Raises UsageError for a setting of the training, which the library would list and not follow."""
    extends = ("generate",) if arguments.to not in ("python", "onnx") and generates_alone(program) else ()
    rows = ("validation", "test") if arguments.rows else ()
    expect_settings_of_use(arguments.settings, program, read=(*OF_PREDICTIONS, *extends, *rows))


def _keep_sources(folder: Path, weights: str | None) -> None:
    """Raise UsageError where the files of a library would lie among those of a run, or replace the given weights."""
    if (folder / "run.json").exists():
        raise UsageError(f"{folder} is the folder of a run", "name another folder")
    if weights is not None and (folder / WEIGHTS).resolve() == Path(weights).resolve():
        raise UsageError(f"the weights of the library would replace {weights}", "name another folder")


def _onnx(trained: Trained, arguments: Namespace, folder: Path) -> int:
    from runtime.exports.onnx_file import is_own_onnx, onnx_file  # a heavy library, and an extra

    opset = arguments.opset or OPSET
    content, tensors = onnx_file(trained, arguments.training, opset)
    names = [ONNX, *([WEIGHTS] if arguments.training else [])]
    expect_own(folder, names, names if is_own_onnx(folder / ONNX) else (), arguments.force)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ONNX
    replace_file(file, content)
    if arguments.training:  # the step takes them as inputs
        replace_tensors(folder / WEIGHTS, tensors.values)
    kind = "a training step" if arguments.training else "predictions"
    say(f"{trained.program.model} for {kind}, in ONNX of opset {opset}: {file} has {_kib(len(content))}")
    return 0


def _for_a_machine(trained: Trained, arguments: Namespace) -> Exported:
    prefix = arguments.prefix or PREFIX
    library, tensors = model_library(trained, arguments.training, prefix, arguments.to != "python")
    if library.machine.is_web:
        raise UsageError(f"a library for {library.machine.name} is no library of C", "take `--to wasm`")
    files = c_files(trained.program, library, tensors, *_described(trained))
    if arguments.to != "c":
        del files[f"lib{prefix}.a"], files["example.c"], files["CMakeLists.txt"]
        files[f"lib{prefix}.so"] = (shared_library(library),)
    if arguments.to == "python":
        del files[f"{prefix}.h"]
        packed = {name: b"".join(content) for name, content in files.items()}
        name, content = wheel(trained.program.model, library.machine, packed)
        files = {name: (content,)}
    return files, library, tensors


def _for_the_web(trained: Trained, arguments: Namespace) -> Exported:
    if trained.options.machine is not None:
        raise UsageError("--target goes with libraries of C", f"`--to {arguments.to}` is for every browser")
    machines = [replace(trained, options=replace(trained.options, machine=name)) for name in MACHINES]
    made = [model_library(one, arguments.training, generates=True) for one in machines]
    library, tensors = made[0]
    files = web_files(trained.program, [library for library, _ in made], tensors, *_described(trained))
    if arguments.to == "web":
        functions = {s.name: function_of(trained.program, s, library.prefix) for s in library.functions}
        rows = _rows_of_page(trained, functions, arguments.rows or 0)
        files["index.html"] = web_page(trained, functions, files, tensors, rows)
    return {name: (content,) for name, content in files.items()}, library, tensors


def _rows_of_page(trained: Trained, functions: Mapping[str, Function], count: int) -> dict[str, Array]:
    """So many rows of the data of the training, those set aside first."""
    if not count:
        return {}
    chosen = evaluation_data(trained, None, None)
    say_notes(chosen.notes)
    numbers = chosen.part.rows[:count]
    if len(numbers) < count:
        say_notes([f"the page has {len(numbers)} rows: {chosen.name} has no more"])
    arrays = at_epoch(numbered(trained.program, chosen.part).arrays, 0)
    return rows_of_page(arrays, numbers, [*functions.values()])


def _described(trained: Trained) -> tuple[Mapping[str, object], JsonValue]:
    """The settings of a program, and how its data was prepared."""
    settings = {setting.name: setting.value for setting in trained.program.settings}
    return settings, None if trained.preparation is None else trained.preparation.to_json()


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"
