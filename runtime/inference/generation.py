"""Sequences token by token: sampled, one stream for each, or the likeliest ones by beam search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from compiler.driver import Array
from compiler.support.record import record
from runtime.inference.decoding import Decoder


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
    begin = len(prompt)
    tokens = np.tile(np.array(prompt, np.int64), (width, 1))
    sums = np.array([0.0] + [-np.inf] * (width - 1))  # all begin alike, so only one counts
    parents = np.arange(width)
    complete: list[Hypothesis] = []
    for _ in range(length):
        scores = sums[:, None] + decoder.next(tokens, parents).astype(np.float64)
        best = _largest(scores.reshape(-1), 2 * width)
        rows, chosen = np.divmod(best, scores.shape[1])
        grown = np.concatenate([tokens[rows], chosen[:, None]], axis=1)
        is_over = np.array([ends_with(row[begin:], stop) for row in grown])
        found = scores.reshape(-1)[best]
        complete += [_hypothesis(grown[k, begin:], found[k], penalty, True) for k in np.flatnonzero(is_over[:width])]
        going = np.flatnonzero(~is_over)[:width]
        tokens, sums, parents = grown[going], found[going], rows[going]
        if _is_settled(complete, sums, tokens.shape[1] - begin, length, width, penalty):
            break
    open_ = [_hypothesis(tokens[k, begin:], sums[k], penalty, False) for k in np.flatnonzero(np.isfinite(sums))]
    return sorted([*complete, *open_], key=lambda h: (not h.is_finished, -h.score))[:width]


def _largest(scores: Array, count: int) -> Array:
    """Where the largest numbers stand, in their order; the first of equal ones comes first."""
    return np.argsort(-scores, kind="stable")[:count]


def _hypothesis(tokens: Array, total: float, penalty: float, is_finished: bool) -> Hypothesis:
    return Hypothesis(tuple(map(int, tokens)), normalised(float(total), len(tokens), penalty), is_finished)


def normalised(total: float, length: int, penalty: float) -> float:
    return total / ((5 + length) / 6) ** penalty


def _is_settled(
    complete: Sequence[Hypothesis], sums: Array, length: int, longest: int, width: int, penalty: float
) -> bool:
    """Whether no sequence that goes on can come before the `width` complete ones: sums never grow."""
    if len(complete) < width:
        return False
    worst = sorted(hypothesis.score for hypothesis in complete)[-width]
    best = max(normalised(float(sums.max()), end, penalty) for end in (length + 1, longest))
    return best <= worst
