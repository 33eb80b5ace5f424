"""Changes of texts: what may change and what stays, how often, and that every text changes in its own way."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from standard_library import applied

from compiler.evaluate import evaluate

Array: TypeAlias = np.ndarray[Any, Any]

TIME = 12
LENGTHS = np.random.default_rng(0).integers(0, TIME + 1, 200)
MASK = np.arange(TIME) < LENGTHS[:, None]
# Every word of a text is another one, `<start>` (2) begins it and `<end>` (3) ends it.
TOKENS = np.where(MASK, np.arange(TIME) + 10, 0).astype(np.int32)
TOKENS[LENGTHS > 0, 0] = 2
TOKENS[np.flatnonzero(LENGTHS > 1), LENGTHS[LENGTHS > 1] - 1] = 3
SYNONYMS = np.stack([TOKENS + 100, TOKENS + 200, TOKENS], axis=-1)


def changed(call: str, **operands: Array) -> list[Array]:
    given = {"tokens": TOKENS, "mask": MASK} | operands
    graph = applied(f"({', '.join(given)}) |> {call}", given, is_double=False)
    known = {"seed": np.array(5), "step": np.array(2)} | given
    return list(evaluate(graph, {entry.name: known[entry.name] for entry in graph.inputs}, 1).values())


def texts(tokens: Array, mask: Array) -> list[list[int]]:
    """The tokens of each text, which stand at the front, with 0 behind them."""
    assert tokens.dtype == np.int32
    assert (mask == (np.arange(TIME) < mask.sum(axis=1)[:, None])).all()
    assert (tokens[~mask] == 0).all()
    return [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)]


BEFORE = texts(TOKENS, MASK)


def is_part(part: list[int], whole: list[int]) -> bool:
    """Whether `part` is `whole` without some elements, in their order."""
    rest = iter(whole)
    return all(token in rest for token in part)


def test_deletion_leaves_out_words_but_never_all() -> None:
    after = texts(*changed("random_deletion(0.3)"))
    assert all(is_part(a, b) for a, b in zip(after, BEFORE, strict=True))
    words = sum(len([t for t in text if t >= 4]) for text in BEFORE)
    assert 0.2 < 1 - sum(len([t for t in text if t >= 4]) for text in after) / words < 0.36
    for p in (0.3, 1.0):
        for a, b in zip(texts(*changed(f"random_deletion({p})")), BEFORE, strict=True):
            assert [t for t in a if t < 4] == [t for t in b if t < 4]
            assert (max(a, default=0) >= 4) == (max(b, default=0) >= 4)
    assert texts(*changed("random_deletion(0.0)")) == BEFORE


def test_insertion_repeats_words_of_the_same_text() -> None:
    after = texts(*changed("random_insertion(0.3)"))
    grown = 0
    for a, b in zip(after, BEFORE, strict=True):
        assert {t for t in a if t >= 4} <= set(b)
        grown += len(a) > len(b)
        if len(a) < TIME:
            assert is_part(b, a)
            assert [t for t in a if t < 4] == [t for t in b if t < 4]
    assert grown > 100
    (twice, _) = changed("random_insertion(1.0)")
    short = np.flatnonzero(LENGTHS == 4)
    assert (twice[short][:, [0, 1, 3, 5]] == [2, 11, 12, 3]).all()
    assert (np.isin(twice[short][:, [2, 4]], [11, 12])).all()
    offered = texts(*changed("random_insertion(1.0)", synonyms=SYNONYMS))
    assert {t for text in offered for t in text} & set(range(111, 220))


@pytest.mark.parametrize("count", [1, 3])
def test_swaps_exchange_words_and_nothing_else(count: int) -> None:
    (after, mask) = changed(f"random_swap({count})")
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(np.sort(after, axis=1), np.sort(TOKENS, axis=1))
    np.testing.assert_array_equal(after[TOKENS < 4], TOKENS[TOKENS < 4])
    moved = (after != TOKENS).sum(axis=1)
    assert moved.max() <= 2 * count
    assert (moved[LENGTHS > 6] > 0).mean() > 0.6


def test_synonyms_take_the_place_of_their_words() -> None:
    (after, mask) = changed("synonym_replacement(0.5)", synonyms=SYNONYMS)
    np.testing.assert_array_equal(mask, MASK)
    words = TOKENS >= 4
    np.testing.assert_array_equal(after[~words], TOKENS[~words])
    which = (after - TOKENS)[words] // 100
    assert set(which.tolist()) == {0, 1, 2}
    # A third of the chosen half keeps its word, the last of the three synonyms.
    assert 0.6 < (which == 0).mean() < 0.74


@pytest.mark.parametrize("call", ["random_deletion(0.4)", "random_insertion(0.4)", "random_swap"])
def test_equal_texts_change_in_ways_of_their_own(call: str) -> None:
    row = np.flatnonzero(LENGTHS == TIME)[:1]
    (after, _) = changed(call, tokens=np.repeat(TOKENS[row], 40, axis=0), mask=np.repeat(MASK[row], 40, axis=0))
    assert len({tuple(text) for text in after.tolist()}) > 15
