"""Make new rows with a trained model, as a `sample` of the model file says.

A row depends on the seed and its number alone: the first rows are the same however many are asked for. Pictures of
bytes are drawn as they are; for others, --range says which values are black and white.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from runtime.cli.common import expect_settings_of_use, trained_of
from runtime.cli.parser import Namespace, Parser, number
from runtime.inference.prediction import json_lines, write_predictions
from runtime.inference.sampling import RowSampler, ValueRange, as_bytes, drawable, grid_of, sampler_of, unusual_rows
from runtime.reporting.terminal import say, say_labelled
from runtime.support.files import write_output
from runtime.support.pictures import png_bytes

EXAMPLES = (
    "dlc sample RUN --n 16 --out grid.png",
    "dlc sample RUN --n 64 --seed 1 --out grid.png --range 0 16",
    "dlc sample RUN --sampler ddim --set ddim.guidance=3 --out samples.npz",
)
_BOUND = number("a number", lambda value: True)
_FORMATS = (".png", ".npz", ".jsonl")


def configure(parser: Parser) -> None:
    parser.add_trained()
    parser.add_option("--sampler", "NAME", "the 'sample NAME …' to use, of a model with several")
    parser.add_whole("--n", "the number of rows (default: 16)", default=16)
    parser.add_whole("--seed", "the seed of random draws (default: 0)", least=0, default=0, metavar="S")
    said = "a .png file with a grid of pictures, a .npz or .jsonl file (default: JSON lines on standard output)"
    parser.add_option("-o, --out", "FILE", said)
    parser.add_option("--picture", "NAME", "the output to draw, where several have pictures")
    said = "the values that are black and white in a picture"
    parser.add_argument("--range", nargs=2, type=_BOUND, metavar=("LOW", "HIGH"), help=said)


def run(arguments: Namespace) -> int:
    output = None if arguments.out is None else Path(arguments.out)
    draws = output is not None and output.suffix == ".png"
    if output is not None and output.suffix not in _FORMATS:
        raise UsageError(f"the format of {output} is not known", f"give a name that ends in {', '.join(_FORMATS)}")
    if not draws and (arguments.range is not None or arguments.picture is not None):
        raise UsageError("--range and --picture are about pictures", "give --out FILE.png")
    value_range = _range(arguments.range)
    trained = trained_of(arguments)
    sampler = sampler_of(trained.program, arguments.sampler)
    expect_settings_of_use(arguments.settings, trained.program, sampler.name)
    rows = RowSampler(trained.program, sampler, trained.options).rows(trained.tensors, arguments.n, arguments.seed)
    for name, count in unusual_rows(rows).items():
        say_labelled("warning", f"{count} of {arguments.n} rows of {name} have values that are not finite")
    if output is None:
        for line in json_lines(rows):
            sys.stdout.write(line + "\n")
        return 0
    if draws:
        name, pictures = drawable(rows, arguments.picture)
        write_output(output, png_bytes(grid_of(as_bytes(name, pictures, value_range))))
    else:
        write_predictions(output, rows)
    say(f"{arguments.n} rows of {sampler.name} in {output}")
    return 0


def _range(bounds: Sequence[float] | None) -> ValueRange | None:
    """The values that --range gives. Raises UsageError where the first is not below the second."""
    if bounds is None:
        return None
    low, high = bounds
    if not low < high:
        raise UsageError(f"--range {low:g} {high:g}: there is no value between", "give the value that is black first")
    return ValueRange(low, high)
