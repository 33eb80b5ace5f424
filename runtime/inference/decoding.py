"""Sequences to a model's scores of the next token of each: position by position, or from the whole window."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from compiler import driver
from compiler.driver import Array, Executable, GraphKind, InputSpec, Options, Program, Purpose, Steps, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.types import DType
from runtime.data.part import in_dtype
from runtime.data.specs import dtype_of, row_shape
from runtime.inference.model import runtime_settings

_PARENTS = "parents"


class Decoder:
    """Extends `rows` sequences at once. As long as they fit into the window, a token costs one position.

    `inputs` are those of the model beside the sequence, a row for each sequence or one for all.
    """

    def __init__(
        self,
        program: Program,
        tensors: Tensors,
        options: Options,
        rows: int = 1,
        inputs: Mapping[str, Array] | None = None,
        seed: int = 0,
        incremental: bool = True,
    ) -> None:
        self.generation = generation_of(program)
        self._program, self._tensors, self._options = program, tensors, options
        self._rows, self._seed = rows, seed
        self._feed = next(spec for spec in program.inputs if spec.name == self.generation.feed)
        (self.window,) = row_shape(self._feed)
        self._numbers = np.arange(rows)
        self._single = np.arange(1)
        # The inputs of a position are the same arrays each time, which a program need not look at again.
        self._token = np.zeros((rows, 1), dtype_of(self._feed))
        self._parents = np.arange(rows, dtype=np.int32)
        self._of_step = {self._feed.name: self._token, _PARENTS: self._parents}
        self._data = self._others(inputs or {})
        self._settings = runtime_settings(program)
        self._decoding: driver.Decoding | None = None
        if incremental:
            self._decoding = driver.compile_decoding(program, tensors, rows, options)
        self._prompt: Executable | None = None
        self._whole: Executable | None = None
        self._filled = 0  # the positions that the states hold
        self.compiling_seconds = 0.0  # of programs that are compiled when they are first needed

    def restart(self) -> None:
        """Begin other sequences, of which nothing is computed yet."""
        self._filled = 0

    def next(self, tokens: Array, parents: Array | None = None) -> Array:
        """The result of the sampler after `tokens` [rows, n]: the token of each row, or the scores of every token.

        A call goes on where the one before ended, if the sequences have grown by one token. `parents` says which
        sequence of that call each one goes on; without it, its own.
        """
        length = tokens.shape[1]
        decoding, before, self._filled = self._decoding, self._filled, 0
        if decoding is None or length > self.window:
            return self._of_window(tokens)
        self._filled = length
        if before and before == length - 1:
            return self._of_position(decoding, tokens[:, -1:], length - 1, parents)
        if length * driver.POSITIONS_OF_A_WINDOW <= self.window and not self._data:
            for place in range(length - 1):
                self._of_position(decoding, tokens[:, place : place + 1], place, None)
            return self._of_position(decoding, tokens[:, -1:], length - 1, None)
        if self._prompt is None:
            self._prompt = self._compiled(GraphKind(Purpose.PROMPT, rows=self._rows))
        data = {**self._data, self._feed.name: self._filled_up(tokens)}
        return self._run(self._prompt, decoding.tensors, data, length - 1, self._single)

    def _of_position(self, decoding: driver.Decoding, tokens: Array, place: int, parents: Array | None) -> Array:
        """From one token of each sequence, [rows, 1], and the states."""
        self._token[...] = tokens
        self._parents[...] = self._numbers if parents is None else parents
        return self._run(decoding.position, decoding.tensors, self._of_step, place, self._single)

    def _of_window(self, tokens: Array) -> Array:
        """All positions computed anew: this defines the meaning of the others."""
        if self._whole is None:
            self._whole = self._compiled(GraphKind(Purpose.WINDOW))
        data = {**self._data, self._feed.name: self._filled_up(tokens[:, -self.window :])}
        return self._run(self._whole, self._tensors, data, tokens.shape[1] - 1, self._numbers)

    def _compiled(self, kind: GraphKind) -> Executable:
        begun = time.perf_counter()
        executable = driver.compile_program(self._program, kind, self._options)
        self.compiling_seconds += time.perf_counter() - begun
        return executable

    def _run(self, program: Executable, tensors: Tensors, data: Mapping[str, Array], step: int, rows: Array) -> Array:
        """The single result of a step."""
        results = program.run(Steps(tensors, data, rows, len(rows), step, self._seed, self._settings))
        (found,) = results.arrays.values()
        return found

    def _filled_up(self, tokens: Array) -> Array:
        window = np.zeros((self._rows, self.window), dtype_of(self._feed))
        window[:, : tokens.shape[1]] = tokens
        return window

    def _others(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs beside the sequence, a row for each sequence."""
        found: dict[str, Array] = {}
        for spec in self._program.inputs:
            if spec.is_target or spec.name == self.generation.feed:
                continue
            found[spec.name] = np.ascontiguousarray(
                np.broadcast_to(self._input(spec, given), (self._rows, *row_shape(spec))),
                in_dtype(dtype_of(spec), self._options.dtype),
            )
        return found

    def _input(self, spec: InputSpec, given: Mapping[str, Array]) -> Array:
        if spec.mask_of == self.generation.feed:
            # Tokens behind the last filled position are not seen, as the model is causal.
            return np.ones(row_shape(spec), np.bool_)
        if spec.name not in given:
            what = "a mask" if spec.type.dtype is DType.BOOL else "an input"
            message = f"{self._program.model} has {what} `{spec.name}` beside `{self.generation.feed}`"
            raise UsageError(message, f"give it a value: --input {spec.name}=…")
        return given[spec.name]


def generation_of(program: Program) -> driver.Generation:
    """How sequences are decoded. Raises UsageError where the program does not say it."""
    if program.generation is None:
        fix = f"add `generate {program.model} {{ feed tokens from logits }}` to the model file"
        raise UsageError(f"nothing says how to decode {program.model}", fix)
    return program.generation
