"""Sequences token by token, sampled or by beam search: from a prompt, or one for each line of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import DataError, UsageError
from compiler.support.record import record
from runtime.data.text.files import decoded
from runtime.inference.decoding import Decoder, generation_of
from runtime.inference.wording import Wording
from runtime.runs.trained import Trained


@record
class Hypothesis:
    """A sequence that beam search found: the tokens behind the prompt, and the sum of their scores."""

    tokens: tuple[int, ...]
    score: float
    is_finished: bool


def sampled(decoder: Decoder, prompts: Array, length: int, stop: Sequence[int]) -> Iterator[list[int | None]]:
    """For each of up to `length` places, the token of each sequence; None where one has ended.

    prompts: [rows, n], with n at least 1. A sequence ends with the tokens `stop`, which are given too.
    """
    decoder.restart()
    rows = prompts.shape[0]
    tokens = np.concatenate([prompts, np.zeros((rows, length), np.int64)], axis=1)
    ended = [False] * rows
    first = prompts.shape[1]
    for end in range(first, first + length):
        tokens[:, end] = decoder.next(tokens[:, :end])
        yield [None if is_over else token for is_over, token in zip(ended, tokens[:, end].tolist(), strict=True)]
        if stop:
            ended = [o or ends_with(row[first : end + 1], stop) for o, row in zip(ended, tokens, strict=True)]
            if all(ended):
                return


def growing(decoder: Decoder, prompt: Sequence[int], rows: int, stop: Sequence[int]) -> Iterator[list[list[int]]]:
    """The same lists again and again, one for each of `rows` sequences: empty at first, longer by a token each time."""
    streams: list[list[int]] = [[] for _ in range(rows)]
    yield streams
    for tokens in sampled(decoder, np.tile(np.array(prompt), (rows, 1)), decoder.generation.length, stop):
        for stream, token in zip(streams, tokens, strict=True):
            if token is not None:
                stream.append(token)
        yield streams


def ends_with(tokens: Sequence[int] | Array, stop: Sequence[int]) -> bool:
    return 0 < len(stop) <= len(tokens) and [int(t) for t in tokens[-len(stop) :]] == list(stop)


def beams(
    decoder: Decoder, prompt: Sequence[int], length: int, stop: Sequence[int], width: int, penalty: float
) -> list[Hypothesis]:
    """The likeliest continuations of a prompt, best first: `width` of them, of at most `length` tokens.

    At each place the `width` best extensions of all sequences are kept; one that ends with `stop` is complete. Scores
    of complete sequences are compared as sum / ((5 + tokens) / 6) ^ penalty: Wu et al., "Google's neural machine
    translation system", 2016, section 7. `decoder` has `width` rows.
    """
    decoder.restart()
    begin = len(prompt)
    tokens = np.tile(np.array(prompt, np.int64), (width, 1))
    sums = np.array([0.0] + [-np.inf] * (width - 1))  # all begin alike, so only one counts
    parents = np.arange(width)
    complete: list[Hypothesis] = []
    for _ in range(length):
        scores = sums[:, None] + decoder.next(tokens, parents).astype(np.float64)
        best = np.argsort(-scores.reshape(-1), kind="stable")[: 2 * width]  # of equal scores, the first comes first
        rows, chosen = np.divmod(best, scores.shape[1])
        grown = np.concatenate([tokens[rows], chosen[:, None]], axis=1)
        is_over = np.array([ends_with(row[begin:], stop) for row in grown])
        found = scores.reshape(-1)[best]
        complete += [_hypothesis(grown[k, begin:], found[k], penalty, True) for k in np.flatnonzero(is_over[:width])]
        going = np.flatnonzero(~is_over)[:width]
        tokens, sums, parents = grown[going], found[going], rows[going]
        if len(complete) >= width:  # does no sequence that goes on come before these? sums never grow
            worst = sorted(hypothesis.score for hypothesis in complete)[-width]
            ends = (tokens.shape[1] - begin + 1, length)
            if max(normalised(float(sums.max()), end, penalty) for end in ends) <= worst:
                break
    open_ = [_hypothesis(tokens[k, begin:], sums[k], penalty, False) for k in np.flatnonzero(np.isfinite(sums))]
    return sorted([*complete, *open_], key=lambda h: (not h.is_finished, -h.score))[:width]


def _hypothesis(tokens: Array, total: float, penalty: float, is_finished: bool) -> Hypothesis:
    return Hypothesis(tuple(map(int, tokens)), normalised(float(total), len(tokens), penalty), is_finished)


def normalised(total: float, length: int, penalty: float) -> float:
    return total / ((5 + length) / 6) ** penalty


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
    order = sorted(range(len(inputs)), key=lambda number: sum(map(np.count_nonzero, inputs[number].values())))
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


def _decoded(decoder: Decoder, wording: Wording, prompt: Sequence[int], rows: int) -> Iterator[Hypothesis]:
    generation, stop = decoder.generation, wording.stop()
    if generation.beam is not None:
        penalty = generation.beam.length_penalty
        yield beams(decoder, prompt, generation.length, stop, rows, penalty)[0]
        return
    for stream in list(growing(decoder, prompt, rows, stop))[-1]:
        yield Hypothesis(tuple(stream), 0.0, ends_with(stream, stop))
