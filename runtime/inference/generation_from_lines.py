"""One sequence for each line of a file, which is an input of the model: translations of a text, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import DataError, UsageError
from runtime.data.text.files import decoded
from runtime.inference.decoding import Decoder, generation_of
from runtime.inference.generation import Hypothesis, beams, ends_with, sampled
from runtime.inference.wording import Wording
from runtime.runs.trained import Trained

_AT_ONCE = 32  # lines that are decoded together, without a beam


def lines_in(path: Path) -> list[str]:
    """The lines of a file, plain or gzip. Raises DataError for a blank one, which has no answer."""
    lines = [line.strip() for line in decoded(path, "utf-8-sig").removesuffix("\n").split("\n")]
    if "" in lines:
        raise DataError("the line is empty", path, lines.index("") + 1, "give a text in each line")
    return lines


def generated_from_lines(
    trained: Trained, wording: Wording, prompt: Sequence[int], name: str, path: Path, seed: int, incremental: bool
) -> list[Hypothesis]:
    """A sequence for each line of the file at `path`, fed as the input `name`, in the order of the lines."""
    inputs = [_inputs(wording, name, line, path, number) for number, line in enumerate(lines_in(path), 1)]
    beam = generation_of(trained.program).beam
    rows = min(_AT_ONCE, len(inputs)) if beam is None else beam.width
    found: list[Hypothesis | None] = [None] * len(inputs)
    # Lines of one length are likely to have answers of one length, so few sequences wait for others.
    order = sorted(range(len(inputs)), key=lambda number: _tokens_of(inputs[number]))
    for first in range(0, len(order), rows if beam is None else 1):
        chosen = order[first : first + rows] if beam is None else [order[first]]
        filled = [*chosen, *[chosen[-1]] * (rows - len(chosen))]  # one program serves all
        given = {key: np.stack([inputs[number][key] for number in filled]) for key in inputs[0]}
        decoder = Decoder(trained.program, trained.tensors, trained.options, rows, given, seed + chosen[0], incremental)
        for number, hypothesis in zip(chosen, _decoded(decoder, wording, prompt, rows), strict=False):
            found[number] = hypothesis
    return [hypothesis for hypothesis in found if hypothesis is not None]


def _inputs(wording: Wording, name: str, line: str, path: Path, number: int) -> dict[str, Array]:
    try:
        return wording.inputs({name: line})
    except UsageError as error:
        raise DataError(str(error), path, number, error.fix) from error


def _tokens_of(inputs: dict[str, Array]) -> int:
    return sum(int(np.count_nonzero(array)) for array in inputs.values())


def _decoded(decoder: Decoder, wording: Wording, prompt: Sequence[int], rows: int) -> Iterator[Hypothesis]:
    generation, stop = decoder.generation, wording.stop()
    if generation.beam is not None:
        penalty = generation.beam.length_penalty
        yield beams(decoder, prompt, generation.length, stop, rows, penalty)[0]
        return
    streams: list[list[int]] = [[] for _ in range(rows)]
    for tokens in sampled(decoder, np.tile(np.array(prompt), (rows, 1)), generation.length, stop):
        for stream, token in zip(streams, tokens, strict=True):
            if token is not None:
                stream.append(token)
    for stream in streams:
        yield Hypothesis(tuple(stream), 0.0, ends_with(stream, stop))
