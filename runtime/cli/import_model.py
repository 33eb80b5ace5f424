"""Turn an ONNX model into a model file, or take weights of PyTorch, Keras or Hugging Face into one.

From ONNX, operators become layers and functions of the library. DIR gets the model with its weights, and recorded
inputs with the outputs that the ONNX model gives for them.

With --into, tensors are matched by shape, name and order, and laid out as the model has them: a matrix of PyTorch is
turned, gates of Keras are put in order, packed attention is cut. The table of all of it is printed, and kept beside the
weights in DIR. Whatever is not certain is asked about: exit code 1, with the lines of which the table takes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import UsageError
from runtime.cli.common import dimensions_if_there, folder_of_imports, model_file
from runtime.cli.failure import FAILURE
from runtime.cli.parser import Namespace, Parser, key_value

if TYPE_CHECKING:
    from runtime.imports.weights.find_table import Question

EXAMPLES = (
    "dlc import model.onnx -o imported",
    "dlc import bert.onnx --size sequence=128 -o imported",
    "dlc import resnet50.pt --into model.dl -o imported",
    "dlc import model.keras --into model.dl --table names.table -o imported",
    "dlc import gpt2 --into gpt.dl --rename 'transformer.* -> *' -o imported",
    "dlc predict model.dl --weights imported/weights.safetensors --input rows.npz",
)
_SHOWN = 24  # lines of questions on standard error; the table has all


def configure(parser: Parser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE",
        help="a model (.onnx), or weights: .pt, .pth, .safetensors, .keras or .h5, an index of several files, or a "
        "folder of Hugging Face",
    )
    parser.add_argument("--into", metavar="MODEL", help="the model file (.dl) that takes weights")
    parser.add_option("-o, --output", "DIR", "the folder for weights.safetensors and weights.table", required=True)
    parser.add_flag("--force", "with --into: replace files of these names in DIR that no earlier import wrote")
    parser.add_argument(
        "--table",
        metavar="TABLE",
        help="lines that decide how tensors are made; written where there is no such file, to be edited",
    )
    parser.add_repeated("--rename", "RULE", "call tensors of the file otherwise: 'module.* -> *'; may be repeated")
    parser.add_repeated("--fresh", "PATTERN", "tensors of the model that keep their start value; may be repeated")
    parser.add_repeated("--ignore", "PATTERN", "tensors of the file that are left out; may be repeated")
    group = parser.add_argument_group("ONNX")
    group.add_argument(
        "--size",
        dest="sizes",
        metavar="NAME=N",
        type=key_value,
        action="append",
        default=[],
        help="fix an axis that the model leaves open; may be repeated",
    )
    group.add_argument(
        "--sample",
        metavar="FILE",
        help="an npz file with inputs, to be recorded; those that decide shapes become constants",
    )
    parser.add_settings()


def run(arguments: Namespace) -> int:
    if Path(arguments.source).suffix == ".onnx" and arguments.into is None:
        if arguments.force:
            raise UsageError("--force goes with --into", "leave it out, or name another folder")
        from runtime.cli.import_onnx import import_onnx  # loads NumPy and the compiler, which --help does without

        return import_onnx(arguments)
    if arguments.into is None:
        raise UsageError("weights go into a model", "give --into MODEL.dl; a file that ends in .onnx is a whole model")
    if arguments.sizes or arguments.sample is not None:
        raise UsageError("--size and --sample go with an ONNX model", "leave them out")
    return import_weights(arguments)


def import_weights(arguments: Namespace) -> int:
    from compiler import driver  # heavy; `--help` must not pay for it
    from runtime.exports.folder import expect_own
    from runtime.imports.weights.find_table import Rules, find_table, shapes_of
    from runtime.imports.weights.sources import read_foreign
    from runtime.imports.weights.table import Table, lines_of, read_table
    from runtime.reporting.terminal import say, say_notes
    from runtime.runs.tensor_files import replace_tensors
    from runtime.support.files import replace_file, write_output

    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a folder")
    path = model_file(arguments.into)
    program = driver.load(
        path, arguments.experiment, tuple(arguments.settings), dimensions_if_there, folder_of_imports(arguments)
    )
    source = read_foreign(Path(arguments.source))
    say_notes(source.notes)
    given = None if arguments.table is None else Path(arguments.table)
    known = Table({})
    if given is not None and given.exists():
        shapes = {name: values.shape for name, values in source.tensors.items()}
        known = read_table(_text_of(given), given, shapes_of(program), shapes)
    rules = Rules(known, tuple(arguments.rename), tuple(arguments.fresh), tuple(arguments.ignore))
    found = find_table(program, source, rules)
    say_notes(found.notes)
    lines = lines_of(found.table, found.reasons)
    if found.questions:
        return _ask(found.questions, lines, given)
    print("\n".join(lines))
    text = "\n".join([f"# {source.path.name} into {path.name}{_MARK}", *lines, ""]).encode()
    if given is not None and not given.exists():
        write_output(given, text)
    expect_own(folder, _FILES, _FILES if _is_own(folder / _FILES[1]) else (), arguments.force)
    folder.mkdir(parents=True, exist_ok=True)
    replace_tensors(folder / "weights.safetensors", found.tensors(source))
    replace_file(folder / "weights.table", text)
    say(f"{len(found.table.entries)} tensors of {program.model} in {folder / 'weights.safetensors'}")
    return 0


_FILES = ("weights.safetensors", "weights.table")
_MARK = ", by dlc import"


def _is_own(table: Path) -> bool:
    """Whether a table is one that an earlier import wrote beside its weights."""
    try:
        with table.open("rb") as file:
            return file.readline(4096).rstrip().endswith(_MARK.encode())
    except OSError:
        return False


def _text_of(table: Path) -> str:
    from runtime.data.text.files import decoded  # of the readers of text, which --help does without

    return decoded(table, "utf-8-sig")


def _ask(questions: Sequence[Question], lines: Sequence[str], table: Path | None) -> int:
    """Say what is open, and write the table so far where `--table` names a new file. Nothing else is written."""
    from runtime.reporting.terminal import say_labelled
    from runtime.support.files import write_output

    asked = [
        line for question in questions for line in (question.text, *(f"  {answer}" for answer in question.answers))
    ]
    count = "1 decision is" if len(questions) == 1 else f"{len(questions)} decisions are"
    shown = asked[:_SHOWN]
    more = [f"and {len(asked) - _SHOWN} more lines"] if len(asked) > _SHOWN else []
    say_labelled("error", "\n".join([f"{count} left to you:", *shown, *more]))
    if table is None or table.exists():
        where = "TABLE" if table is None else str(table)
        print("\n".join([*lines, *(f"# {line}" for line in asked)]))
        say_labelled("hint", f"put one line for each into {where}, and give --table {where}")
        return FAILURE
    write_output(table, "\n".join([*lines, *(f"# {line}" for line in asked), ""]).encode())
    say_labelled("hint", f"{table} has the table so far: of each group of lines behind `#`, put one without it")
    return FAILURE
