"""Show a sample as training sees it: `preview` draws its image after augmentation.

Samples count from 0, as they stand in the data, and epochs from 1. The same sample has the same picture in an epoch of
every training with the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler import driver
from compiler.driver import Array, GraphKind, Options, Program, Purpose, Steps
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from compiler.types import array_type
from runtime.cli.common import chosen_program, compile_options, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.data.dimensions import dimensions_of
from runtime.data.loading import LoadedData
from runtime.data.part import at_epoch, in_precision, numbered, rows_of_epoch
from runtime.data.preparation import Preparation
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.reporting.terminal import print_wrapped, say, say_notes
from runtime.support.files import json_text, write_output
from runtime.support.pictures import picture_of, png_bytes
from runtime.train.jobs import load_data

EXAMPLES = (
    "dlc data preview model.dl --epoch 3 --sample 17 --out a.png",
    "dlc data preview model.dl --sample 17 --json",
)


def configure(parser: Parser) -> None:
    parser.add_argument("action", choices=["preview"], metavar="ACTION", help="preview")
    parser.add_program()
    parser.add_option("--data", "PATH", "read this data instead of the file's own", type=Path)
    parser.add_whole("--epoch", "the epoch (default: 1)", default=1)
    parser.add_whole("--sample", "the number of the sample (default: the first)", least=0)
    parser.add_option("--input", "NAME", "the input to draw, of several images")
    parser.add_option("-o, --out", "FILE", "the png file to draw")
    parser.add_compilation()
    parser.add_json("print the values of all inputs and targets as JSON")


def run(arguments: Namespace) -> int:
    program = chosen_program(arguments, dimensions_of(arguments.data))
    options = driver.options_of(program, compile_options(arguments))
    program = driver.with_wide_inputs(program, options)
    seen = preview(program, arguments.data, arguments.epoch, arguments.sample, options)
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
        return f"{array_type(values)}  from {values.min():.5g} to {values.max():.5g}, mean {values.mean():.5g}"
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


@record
class Preview:
    """`values` are those of one sample, by input and target; `changed` names what `augment` gives."""

    epoch: int
    sample: int
    values: Mapping[str, Array]
    changed: tuple[str, ...]
    preparation: Preparation
    notes: tuple[str, ...]


def preview(program: Program, path: Path | None, epoch: int, sample: int | None, options: Options) -> Preview:
    """The sample with number `sample` (from 0; by default the first) in epoch `epoch` (from 1).

    Raises UsageError where training has none.
    """
    plan = training_of(program)
    data = load_data(program, path)
    part = in_precision(data.train, options.dtype)
    batch = min(plan.batch or len(part.rows), len(part.rows))
    order = rows_of_epoch(part, plan.seed, epoch - 1, batch)
    sample = int(order.min()) if sample is None else sample
    found = np.flatnonzero(order == sample)
    if len(found) == 0:
        raise UsageError(f"epoch {epoch} of training has no sample {sample}", _where(data, sample, order))
    place = int(found[0])
    # The whole batch: a mixed-in row comes from those beside it.
    rows = order[place // batch * batch :][:batch]
    values = {name: array[sample] for name, array in part.arrays.items()}
    changed: dict[str, Array] = {}
    if program.augmentation is not None:
        arrays = at_epoch(numbered(program, part).arrays, epoch - 1)
        names = {entry.name for entry in program.augmentation.inputs}
        known = runtime_settings(program)
        if any(entry.role.value == "setting" and entry.name not in known for entry in program.augmentation.inputs):
            known = runtime_settings(program, length_of(plan, len(part.rows)))
        settings = {name: value for name, value in known.items() if name in names}
        executable = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), replace(options, batch=batch))
        tensors = driver.allocate(program, options)
        results = executable.run(Steps(tensors, arrays, rows, batch, seed=plan.seed, settings=settings))
        changed = {name: array[place % batch] for name, array in results.arrays.items()}
    return Preview(epoch, sample, {**values, **changed}, tuple(changed), data.preparation, data.notes)


def _where(data: LoadedData, sample: int, order: Array) -> str:
    for name, part in (("validation", data.validation), ("test", data.test)):
        if part is not None and part.arrays is data.train.arrays and sample in part.rows:
            return f"it belongs to the {name} part; take another, such as {data.train.rows[0]}"
    rows = len(next(iter(data.train.arrays.values())))
    if sample < rows:
        nearest = order[np.abs(order - sample).argmin()]
        return f"the windows of an epoch stand side by side; the nearest is {nearest}"
    return f"the data has {rows} samples, from 0 to {rows - 1}"
