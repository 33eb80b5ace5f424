"""Turn an ONNX model into a model file with its weights, to be read, trained and compiled.

Operators become layers and functions of the library, and constants are folded. Beside `model.dl` and
`weights.safetensors` lie recorded inputs and the outputs that the ONNX model gives for them.
"""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError
from runtime.cli.parser import Namespace, Parser, key_value

EXAMPLES = (
    "dlc import model.onnx -o imported",
    "dlc import bert.onnx --size sequence=128 -o imported",
    "dlc predict imported/model.dl --weights imported/weights.safetensors --input rows.npz",
)


def configure(parser: Parser) -> None:
    parser.add_argument("source", metavar="FILE", help="a model (.onnx)")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder for model.dl and its weights")
    parser.add_repeated(
        "--size",
        "NAME=N",
        "of a .onnx file: fix an axis that it leaves open; may be repeated",
        dest="sizes",
        type=key_value,
    )
    parser.add_argument(
        "--sample",
        metavar="FILE",
        help="of a .onnx file: an npz file with its inputs, to be recorded; those that decide shapes become constants",
    )


def run(arguments: Namespace) -> int:
    if Path(arguments.source).suffix == ".onnx":
        from runtime.cli.import_onnx import import_onnx  # loads NumPy and the compiler, which --help does without

        return import_onnx(arguments)
    raise UsageError(f"{arguments.source} is no ONNX model", "name a file that ends in .onnx")
