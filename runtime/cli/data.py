"""Show a sample as training sees it: `preview` draws its image after augmentation.

Samples count from 0, as they stand in the data, and epochs from 1. The same sample has the same picture in an epoch of
every training with the same seed.
"""

from __future__ import annotations

from pathlib import Path

from compiler.driver import Array
from compiler.errors.diagnostics import UsageError
from runtime.analysis.preview import Preview, preview
from runtime.cli.common import chosen_program, compile_options, print_json
from runtime.cli.parser import Namespace, Parser, whole_number
from runtime.data.dimensions import dimensions_of
from runtime.reporting.terminal import print_wrapped, say, say_notes
from runtime.support.files import json_text, write_output
from runtime.support.pictures import picture_of, png_bytes

EXAMPLES = (
    "dlc data preview model.dl --epoch 3 --sample 17 --out a.png",
    "dlc data preview model.dl --sample 17 --json",
)


def configure(parser: Parser) -> None:
    parser.add_argument("action", choices=["preview"], metavar="ACTION", help="preview")
    parser.add_program()
    parser.add_argument("--data", type=Path, metavar="PATH", help="read this data instead of the file's own")
    parser.add_argument("--epoch", type=whole_number(1), default=1, metavar="N", help="the epoch (default: 1)")
    parser.add_argument(
        "--sample", type=whole_number(0), metavar="N", help="the number of the sample (default: the first)"
    )
    parser.add_argument("--input", metavar="NAME", help="the input to draw, of several images")
    parser.add_argument("-o", "--out", metavar="FILE", help="the png file to draw")
    parser.add_compilation()
    parser.add_json("print the values of all inputs and targets as JSON")


def run(arguments: Namespace) -> int:
    program = chosen_program(arguments, dimensions_of(arguments.data))
    seen = preview(program, arguments.data, arguments.epoch, arguments.sample, compile_options(arguments))
    say_notes(seen.notes)
    if arguments.out is not None:
        _draw(seen, arguments.input, Path(arguments.out))
    elif arguments.input is not None:
        raise UsageError("--input says which image to draw", "give --out FILE.png")
    if arguments.json:
        values = {name: array.tolist() for name, array in seen.values.items()}
        print_json({"epoch": seen.epoch, "sample": seen.sample, "changed": list(seen.changed), "values": values})
    else:
        for name, array in seen.values.items():
            tokenizer = seen.preparation.tokenizer_of(name) if array.ndim == 1 else None
            text = "" if tokenizer is None else f"  {json_text(tokenizer.decode(array))}"
            print_wrapped(f"{name:12} {_described(array, seen.preparation.vocabulary_of(name))}{text}")
    return 0


def _described(values: Array, names: tuple[str, ...] | None) -> str:
    """`3 (cat)`, or the type of an array and what lies in it."""
    if values.ndim:
        shape = ", ".join(map(str, values.shape))
        return f"{values.dtype}[{shape}]  from {values.min():.5g} to {values.max():.5g}, mean {values.mean():.5g}"
    number = values.item()
    is_named = names is not None and isinstance(number, int) and 0 <= number < len(names)
    return f"{number} ({names[number]})" if is_named and names is not None else f"{number:.6g}"


def _draw(seen: Preview, name: str | None, place: Path) -> None:
    if place.suffix.lower() != ".png":
        raise UsageError(f"{place}: pictures of samples are png files", f"give --out {place.with_suffix('.png')}")
    images = {name: image for name, values in seen.values.items() if (image := picture_of(values)) is not None}
    if name is None and len(images) != 1:
        there = f"give --input {' or '.join(images)}" if images else "give --json to see the values"
        raise UsageError(f"the sample has {len(images) or 'no'} images", there)
    if name is not None and name not in images:
        raise UsageError(f"`{name}` is no image", f"the images are {', '.join(images)}" if images else "give --json")
    write_output(place, png_bytes(images[name or next(iter(images))]))
    say(f"{place}: sample {seen.sample} in epoch {seen.epoch}")
