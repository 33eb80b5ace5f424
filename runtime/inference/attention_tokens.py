"""The tokens that stand along the axes of attention weights: those of the input whose length an axis has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from compiler import driver
from compiler.driver import Array, Program
from compiler.errors.diagnostics import SourceError
from compiler.types import Shape
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.specs import InputSpec

Tokens: TypeAlias = tuple[str, ...]


def tokens_along(
    weights: Mapping[str, Array], program: Program, preparation: Preparation, part: Part, row: int
) -> dict[str, tuple[Tokens | None, Tokens | None]]:
    """For each of the attention weights of a row of `part`: the tokens of its queries and of its keys.

    None stands for an axis that has the length of no input of tokens, or of several that do not hold the same.
    """
    readers = [
        spec
        for spec in program.inputs
        if not spec.is_target and spec.type.rank == 2 and preparation.tokenizer_of(spec.name) is not None
    ]
    moved = _shapes_at_other_lengths(program, readers)
    texts = {spec.name: _tokens(preparation, spec.name, part.arrays[spec.name][part.rows[row]]) for spec in readers}

    def along(name: str, axis: int) -> Tokens | None:
        shape = weights[name].shape
        if len(shape) < -axis:
            return None
        having = {
            text
            for reader, text in texts.items()
            if len(text) == shape[axis] and (reader not in moved or moved[reader][name][axis] != shape[axis])
        }
        return having.pop() if len(having) == 1 else None

    return {name: (along(name, -2), along(name, -1)) for name in weights}


def _shapes_at_other_lengths(program: Program, readers: Sequence[InputSpec]) -> dict[str, Mapping[str, Shape]]:
    """The shapes of all weights were the texts of an input one token shorter: so the axes of its length are told.

    Only of inputs whose length the data decided, and the model allows to be another.
    """
    decided = driver.data_dimensions(program)
    found: dict[str, Mapping[str, Shape]] = {}
    for spec in readers:
        length = spec.dimension_names[1] if spec.dimension_names else None
        if length in decided:
            other = decided[length] - 1 or 2
            try:
                found[spec.name] = driver.attention_shapes(driver.resized(program, {length: other}))
            except SourceError:
                continue
    return found


def _tokens(preparation: Preparation, name: str, numbers: Array) -> Tokens:
    tokenizer = preparation.tokenizer_of(name)
    assert tokenizer is not None
    return tuple(tokenizer.shown(int(number)) for number in numbers)
