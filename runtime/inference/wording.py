"""Texts to the tokens of a model's inputs and back, as the training data had them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from compiler.driver import Array, InputSpec, Program
from compiler.errors.diagnostics import UsageError
from runtime.data.dataset import Reading
from runtime.data.preparation import Preparation
from runtime.data.specs import dtype_of, row_shape
from runtime.data.text.tokenizer import END, START, UNKNOWN, Tokenizer
from runtime.inference.decoding import generation_of


class Wording:
    """Of one program, with the vocabularies of its run; without any, tokens are numbers in text as well."""

    def __init__(self, program: Program, preparation: Preparation | None) -> None:
        self._program, self._preparation = program, preparation
        self._generation = generation_of(program)
        self._tokenizer, self._reading = self._of(self._generation.feed)

    def prompt(self, text: str | Sequence[int] | None) -> tuple[int, ...]:
        """The tokens that a sequence begins with: of `text`, or of what `generate` says. Raises UsageError."""
        begin = self._generation.start if text is None else text
        marked = (START,) if self._reading is not None and self._reading.start else ()
        tokens = () if begin is None else self._tokens(begin, "the prompt")
        found = tokens if tokens[:1] == marked else (*marked, *tokens)
        if not found:
            if text is not None:
                raise UsageError("the prompt is empty", "give at least one token, or leave out --prompt")
            raise UsageError(
                "nothing says how a sequence begins", "give --prompt or --prompt-ids, or `start` in `generate`"
            )
        return self._known(found)

    def stop(self) -> tuple[int, ...]:
        """The tokens that end a sequence: those that `generate` says, else the mark at the end of the data's texts."""
        if self._generation.stop is not None:
            return self._known(self._tokens(self._generation.stop, "`stop` of `generate`"))
        if self._preparation is None or self._reading is None:
            return ()
        vocabulary = self._reading.vocabulary
        ends = any(r.end for r in self._preparation.readings.values() if r.vocabulary == vocabulary)
        return (END,) if ends else ()

    def text(self, tokens: Iterable[int]) -> str:
        return " ".join(map(str, tokens)) if self._tokenizer is None else self._tokenizer.decode(tokens)

    @property
    def has_words(self) -> bool:
        return self._tokenizer is not None

    def inputs(self, given: Mapping[str, str]) -> dict[str, Array]:
        """The inputs beside the sequence, from texts or lists of numbers. Raises UsageError."""
        specs = {s.name: s for s in self._program.inputs if not s.is_target and s.name != self._generation.feed}
        found: dict[str, Array] = {}
        for name, text in given.items():
            spec = specs.get(name)
            if spec is None:
                names = ", ".join(s.name for s in specs.values() if s.mask_of is None)
                raise UsageError(
                    f"there is no input `{name}` to give",
                    f"there is {names}" if names else f"`{self._generation.feed}` is the only one: --prompt",
                )
            row = self._row(spec, text)
            mask = next((s for s in specs.values() if s.mask_of == name), None)
            shape = row_shape(spec)
            if mask is not None and row.shape[1:] == shape[1:] and len(row) <= shape[0]:
                found[mask.name] = np.arange(shape[0]) < len(row)
                row = np.concatenate([row, np.zeros((shape[0] - len(row), *shape[1:]), row.dtype)])
            if row.shape != shape:
                if self._of(name)[0] is not None:
                    message = (
                        f"the text for `{name}` has {len(row)} tokens with its ends, and the model reads {shape[0]}"
                    )
                    raise UsageError(message, f"give a text of {'' if mask is None else 'at most '}{shape[0]} tokens")
                raise UsageError(
                    f"`{name}` is {list(shape)}, but the value given is {list(row.shape)}",
                    f"give {list(shape)} numbers" if mask is None else f"give at most {shape[0]} along the first axis",
                )
            found[name] = row
        return found

    def _row(self, spec: InputSpec, text: str) -> Array:
        tokenizer, reading = self._of(spec.name)
        if tokenizer is not None and reading is not None:
            tokens = tokenizer.encode([text])[0]
            return np.array([*[START] * reading.start, *tokens, *[END] * reading.end], dtype_of(spec))
        try:
            return np.array(json.loads(text), dtype_of(spec))
        except (ValueError, TypeError) as error:
            raise UsageError(f"the value of `{spec.name}` cannot be read", "give numbers, such as [1, 2, 3]") from error

    def _of(self, name: str) -> tuple[Tokenizer | None, Reading | None]:
        if self._preparation is None:
            return None, None
        fields = self._preparation.columns.get(name, ())
        reading = self._preparation.readings.get(fields[0]) if len(fields) == 1 else None
        return self._preparation.tokenizer_of(name), reading

    def _known(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The same tokens, if the model has them all. Raises UsageError."""
        feed = self._generation.feed
        declared = [spec.high for spec in self._program.inputs if spec.name == feed and spec.high is not None]
        limits = self._program.index_limits
        chosen = [limit.count for limit in limits if limit.is_direct and limit.names == (feed,) and not limit.is_own]
        limit = min((*declared, *chosen), default=None)
        if limit is not None and max(tokens) >= limit:
            fix = f"tokens of {self._program.model} are 0 to {limit - 1}"
            raise UsageError(f"there is no token {max(tokens)}", fix)
        return tokens

    def _tokens(self, value: str | Sequence[int], what: str) -> tuple[int, ...]:
        if not isinstance(value, str):
            return tuple(value)
        if self._tokenizer is None:
            given = "--prompt-ids 1,2,3" if what == "the prompt" else "--set generate.stop=[1,2,3]"
            raise UsageError(f"{what} is a text, but the model has no vocabulary", f"give tokens: {given}")
        tokens = tuple(map(int, self._tokenizer.encode([value])[0]))
        if UNKNOWN in tokens:
            message = f"{what} has parts outside the vocabulary of {len(self._tokenizer)} tokens"
            raise UsageError(message, f"leave out the parts that are read as `<unknown>`: `{self.text(tokens)}`")
        return tokens
