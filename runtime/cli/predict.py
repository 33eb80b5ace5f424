"""Apply a trained model to each row of a file.

Each output stands under its name. Where an output has one number for each class of a target `in 0..n`, the most likely
class stands under the target's name, as the word that it had in the training data where it was a word. For images,
`file` says which one the row is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.driver import Array, Program
from compiler.errors.diagnostics import UsageError
from compiler.support.train_keys import OF_PREDICTIONS
from runtime.cli.common import expect_settings_of_use, trained_of
from runtime.cli.parser import Namespace, Parser
from runtime.data.choices import refuse_outside_inputs
from runtime.data.loading import given_text, load_row_blocks, load_rows, load_text
from runtime.data.making import notes_of_unused
from runtime.data.part import LoadedPart, Part
from runtime.inference import given_names
from runtime.inference.prediction import (
    FORMATS,
    Predictor,
    attention_weights,
    classes,
    in_batches,
    json_lines,
    write_predictions,
)
from runtime.reporting.terminal import say, say_notes
from runtime.runs.trained import Trained

EXAMPLES = (
    "dlc predict RUN --input new.csv",
    "dlc predict RUN --input images.npy --output predictions.npz",
    "dlc predict RUN --input photo.png",
    "dlc predict RUN --input 'What is the capital of France?'",
    "dlc predict RUN --input lines.txt --attention attention.png",
)


def configure(parser: Parser) -> None:
    parser.add_trained()
    said = (
        "rows to predict: csv, npz, npy, idx or CIFAR, plain or gzip, pictures, or one text a line, or the text "
        "itself; targets are not needed"
    )
    parser.add_option("--input", "FILE", said, required=True)
    parser.add_option("-o, --output", "FILE", "a .npz or .jsonl file (default: JSON lines on standard output)")
    parser.add_option(
        "--attention", "FILE", "draw the attention weights of one row into a .png, .svg or .pdf file instead"
    )
    parser.add_whole("--row", "the row to draw, counted from 0 (default: 0)", least=0)


def run(arguments: Namespace) -> int:
    output = None if arguments.output is None else Path(arguments.output)
    if output is not None and output.suffix not in FORMATS:
        raise UsageError(f"the format of {output} is not known", f"give a name that ends in {' or '.join(FORMATS)}")
    if arguments.row is not None and arguments.attention is None:
        raise UsageError("--row goes with --attention", "leave it out: every row is predicted")
    names = None if arguments.weights is None else given_names.given_names(Path(arguments.weights))
    if names is not None and arguments.input.endswith(".npz") and arguments.attention is None:
        return predict_by(names, arguments, output)
    trained = trained_of(arguments)
    program = trained.program
    expect_settings_of_use(arguments.settings, program, read=OF_PREDICTIONS)
    options = dict(program.plan.data.options) if program.plan is not None and program.plan.data is not None else {}
    text = given_text(arguments.input, trained.preparation)
    if text is None and trained.preparation is not None and arguments.attention is None and _streams(trained):
        assert program.plan is not None, "only a training has data that it streams"
        block = program.plan.stream
        blocks = load_row_blocks(Path(arguments.input), program.inputs, trained.preparation, options, block)
        if (rows := predict_blocks(trained, blocks, output)) is not None:
            return rows
    if text is not None and trained.preparation is not None:
        loaded = load_text(text, program.inputs, trained.preparation)
    else:
        loaded = load_rows(Path(arguments.input), program.inputs, trained.preparation, options)
    say_notes(loaded.notes)
    refuse_outside_inputs(program, loaded.part)
    if arguments.attention is not None:
        return draw_attention(trained, loaded.part, arguments.row or 0, Path(arguments.attention))
    predictor = Predictor(program, trained.options, trained.sizes)
    outputs = predictor.rows_first(predictor.predict(trained.tensors, loaded.part))
    if not outputs:
        raise UsageError(f"no output of {program.model} has rows", "an output needs the axis `batch`")
    found = classes(outputs, [spec for spec in program.inputs if spec.is_target], trained.preparation)
    columns = {**_file_names(loaded.files, Path(arguments.input)), **outputs, **found}
    if output is None:
        for line in json_lines(columns):
            sys.stdout.write(line + "\n")
    else:
        write_predictions(output, columns)
        say(f"{len(loaded.part.rows)} rows in {output}")
    return 0


def _streams(trained: Trained) -> bool:
    return trained.program.plan is not None and trained.program.plan.stream > 0


def predict_blocks(trained: Trained, blocks: Iterator[LoadedPart], output: Path | None) -> int | None:
    """Predict rows block by block; JSON lines are printed as they come. None where there are no blocks."""
    program = trained.program
    predictor = Predictor(program, trained.options, trained.sizes)
    targets = [spec for spec in program.inputs if spec.is_target]
    pieces: list[dict[str, Array]] = []
    rows = 0
    for part in in_batches(_checked(program, blocks), trained.options.batch):
        outputs = predictor.rows_first(predictor.predict(trained.tensors, part))
        if not outputs:
            raise UsageError(f"no output of {program.model} has rows", "an output needs the axis `batch`")
        columns = {**outputs, **classes(outputs, targets, trained.preparation)}
        rows += len(part.rows)
        if output is None:
            sys.stdout.writelines(line + "\n" for line in json_lines(columns))
        else:
            pieces.append(columns)
    if not rows:
        return None
    if output is not None:
        write_predictions(output, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]})
        say(f"{rows} rows in {output}")
    return 0


def _checked(program: Program, blocks: Iterator[LoadedPart]) -> Iterator[Part]:
    """The parts that have rows, whose integers choose what there is; remarks are told at the end."""
    for loaded in blocks:
        say_notes(loaded.notes)
        if len(loaded.part.rows):
            refuse_outside_inputs(program, loaded.part)
            yield loaded.part


def predict_by(names: given_names.GivenNames, arguments: Namespace, output: Path | None) -> int:
    """Predict arrays that have the names and axes of the model that was imported."""
    path = Path(arguments.input)
    arrays, others = given_names.read_arrays(path, names)
    say_notes(notes_of_unused(path, others))
    trained = trained_of(arguments, dimensions=given_names.dimensions_of_arrays(arrays))
    expect_settings_of_use(arguments.settings, trained.program, read=OF_PREDICTIONS)
    part = given_names.part_of(trained.program, arrays, names, path)
    refuse_outside_inputs(trained.program, part)
    whole = all(given.rows is None for given in names.inputs.values())
    options = replace(trained.options, batch=1) if whole else trained.options
    if names.together:
        options = replace(options, batch=len(part.rows))
    found = Predictor(trained.program, options).predict(trained.tensors, part)
    columns = {name: found[own] for own, name in names.outputs.items() if own in found}
    if output is not None:
        write_predictions(output, columns)
        say(f"{len(part.rows)} rows in {output}")
        return 0
    for line in json_lines({name: np.atleast_1d(values) for name, values in columns.items()}):
        sys.stdout.write(line + "\n")
    return 0


def _file_names(files: Sequence[Path], given: Path) -> dict[str, Array]:
    """The files of rows that are files as the column `file`, counted from the folder in which all of them lie."""
    folder = next(place for place in (given, *given.parents) if place.is_dir())
    names = [os.fsencode(os.path.relpath(file, folder)).decode("utf-8", "replace") for file in files]
    return {"file": np.array(names)} if names else {}


def draw_attention(trained: Trained, part: Part, row: int, path: Path) -> int:
    from runtime.inference.prediction import tokens_along
    from runtime.plots.figure import attention_figure, write_figure  # a heavy library, and an extra

    if row >= len(part.rows):
        raise UsageError(f"--row {row}: there are {len(part.rows)} rows", "rows count from 0")
    weights = attention_weights(trained.program, trained.tensors, part, row, trained.options)
    preparation = trained.preparation
    tokens = {} if preparation is None else tokens_along(weights, trained.program, preparation, part, row)
    write_figure(attention_figure(weights, tokens), path)
    say(f"attention weights of row {row} in {path}")
    return 0
