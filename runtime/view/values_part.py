"""The answer to a page that asks for the values at a line: before and after changes, and the gradients there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from compiler.driver import Array, ParameterSpec
from compiler.errors.diagnostics import Span, UsageError
from compiler.inspection.values import Named
from compiler.support.record import record
from compiler.types import TensorType, batch_axis
from runtime.inference.prediction import class_outputs
from runtime.support.files import JsonObject, JsonValue, finite
from runtime.view.changes import Change, changes_of
from runtime.view.differences import difference_to_json, norm
from runtime.view.text_part import files_of
from runtime.view.values import value_to_json
from runtime.view.watching import Values, Watching

if TYPE_CHECKING:
    from compiler.inspection.reading import Reading

_MOST_OUTPUTS = 12  # elements that are shown before and after a change


@record
class Question:
    """`place` is a file by its number, and a line: of others, only the sizes of differences are told; None is all."""

    row: int
    place: tuple[int, int] | None = None
    changes: tuple[Change, ...] = ()
    is_backward: bool = False


def question_of(asked: JsonValue) -> Question:
    """The question in a body of JSON. Raises UsageError."""
    match asked:
        case {"row": int(row), "file": int(file), "line": int(line), "changes": changes, "backward": bool(backward)}:
            return Question(row, (file, line), changes_of(changes), backward)
        case _:
            raise UsageError("this is no question for values", "give row, file, line, changes and backward")


def values_to_json(watching: Watching, reading: Reading, asked: Question) -> JsonObject:
    """The values at a line, with those after the changes, and the differences of all lines. Raises DlcError."""
    examples, files = watching.examples, files_of(reading)
    before = watching.values(asked.row)
    after = watching.values(asked.row, asked.changes) if asked.changes else None
    slopes = watching.gradients(asked.row, asked.changes) if asked.is_backward else None
    answer = _Answer(watching, files, before, after, slopes)
    found: dict[str, JsonValue] = {
        "row": asked.row,
        "rows": len(examples.part.rows),
        "said": examples.said,
        "values": [answer.value(one) for one in before if asked.place in (None, answer.place(one.span))],
        "weights": [answer.weight(spec) for spec in answer.parameters() if asked.place in (None, answer.home(spec))],
        "tensors": list(answer.tensors(watching.row(asked.row))),
        "outputs": list(answer.outputs()),
    }
    if after is not None:
        found["differences"] = [{**answer.head(one), **difference_to_json(before[one], after[one])} for one in before]
    if slopes is not None:
        found["slopes"] = [{**answer.head(one), "norm": finite(norm(array))} for one, array in slopes.items()]
    return found


@record(eq=False)
class _Answer:
    """The parts of an answer."""

    watching: Watching
    files: Mapping[str, int]
    before: Values
    after: Values | None
    slopes: Values | None

    def place(self, span: Span) -> tuple[int, int]:
        return self.files.get(span.source.name, 0), span.line

    def home(self, spec: ParameterSpec) -> tuple[int, int]:
        """The place in the user's text that makes a parameter."""
        return self.place(
            next((s for s in (spec.span, *reversed(spec.calls)) if s.source.name in self.files), spec.span)
        )

    def head(self, one: Named) -> dict[str, JsonValue]:
        spec = next((s for s in self.parameters() if s.path == one.name and s.span == one.span), None)
        file, line = self.place(one.span) if spec is None else self.home(spec)
        return {"file": file, "line": line, "name": one.name, "path": one.path}

    def value(self, one: Named) -> JsonObject:
        def shown(values: Values) -> JsonObject:
            return value_to_json(_batch_first(values[one], one.value.type), str(one.value.type))

        found: dict[str, JsonValue] = {**self.head(one), "text": self._text(one, self.before), **shown(self.before)}
        if self.after is not None:
            found["after"] = {**shown(self.after), "text": self._text(one, self.after)}
            change = _batch_first(self.after[one].astype(np.float64) - self.before[one], one.value.type)
            found["difference"] = value_to_json(change, str(one.value.type))
        if self.slopes is not None and one in self.slopes:
            found["gradient"] = shown(self.slopes)
        return found

    def _text(self, one: Named, values: Values) -> JsonValue:
        """Tokens as text, where the data has a tokenizer for them."""
        preparation, array = self.watching.examples.preparation, values[one]
        tokenizer = None if preparation is None or array.ndim != 2 else preparation.tokenizer_of(one.name)
        return None if tokenizer is None else tokenizer.decode(array[0])

    def parameters(self) -> Iterator[ParameterSpec]:
        yield from self.watching.examples.program.parameters

    def weight(self, spec: ParameterSpec) -> JsonObject:
        """A parameter or state as it is without changes."""
        file, line = self.home(spec)
        shape, type_ = self.watching.examples.tensors[spec.path][None], str(spec.type)
        found: dict[str, JsonValue] = {
            "file": file,
            "line": line,
            "name": spec.path,
            "path": "",
            "role": spec.role.value,
        }
        found |= value_to_json(shape, type_)
        slope = next((a for one, a in (self.slopes or {}).items() if one.name == one.path == spec.path), None)
        return found if slope is None else {**found, "gradient": value_to_json(slope[None], type_)}

    def tensors(self, row: Mapping[str, Array]) -> Iterator[JsonValue]:
        """What can be changed: the inputs, without the axis of the batch, and every weight."""
        examples = self.watching.examples
        for spec in examples.program.inputs:
            if not spec.is_target:
                shape = row[spec.name].shape[1:]
                tokens = None if examples.preparation is None else examples.preparation.tokenizer_of(spec.name)
                shown = None if tokens is None else [tokens.shown(int(number)) for number in row[spec.name].flat]
                yield self._tensor(spec.name, "input", spec.type, shape, self.place(spec.span), shown)
        for spec in self.parameters():
            yield self._tensor(
                spec.path, spec.role.value, spec.type, examples.tensors[spec.path].shape, self.home(spec)
            )

    def _tensor(
        self,
        name: str,
        role: str,
        type_: TensorType,
        shape: tuple[int, ...],
        place: tuple[int, int],
        tokens: list[str] | None = None,
    ) -> JsonValue:
        return {
            "name": name,
            "role": role,
            "type": str(type_),
            "shape": list(shape),
            "file": place[0],
            "line": place[1],
            "tokens": tokens,
        }

    def outputs(self) -> Iterator[JsonValue]:
        """The loss and the model's outputs before and after the changes: the elements that change most."""
        graph = self.watching.examples.program.inference_graph
        names = {output.value.index: output.name for output in graph.outputs}
        for one, array in self.before.items():
            name = names.get(one.value.index)
            if name is not None and array.dtype.kind == "f":
                yield self._output(name, array, array if self.after is None else self.after[one], one)

    def _output(self, name: str, before: Array, after: Array, one: Named) -> JsonValue:
        shape, flat, other = before.shape[1:] if before.ndim else (), before.ravel(), after.ravel()
        ordered = np.argsort(-np.abs(other.astype(np.float64) - flat), kind="stable")[:_MOST_OUTPUTS]
        places = sorted(map(int, ordered)) if len(flat) <= _MOST_OUTPUTS else list(map(int, ordered))
        word = self._words(name, before)
        elements: list[JsonValue] = []
        for place in places:
            index = [int(n) for n in np.unravel_index(place, shape)] if shape else []
            said = word(index[-1]) if index else ""
            elements.append([index, said, finite(float(flat[place])), finite(float(other[place]))])
        return {**self.head(one), "output": name, "count": len(flat), "elements": elements}

    def _words(self, name: str, array: Array) -> Callable[[int], str]:
        """What stands for a number of the last axis, where it is a class or a token."""
        examples = self.watching.examples
        targets = [spec for spec in examples.program.inputs if spec.is_target]
        spec = next((spec for spec, of in class_outputs({name: array}, targets) if of == name), None)
        if spec is None or examples.preparation is None:
            return lambda _: ""
        words, tokenizer = examples.preparation.vocabulary_of(spec.name), examples.preparation.tokenizer_of(spec.name)
        if tokenizer is not None:
            return lambda number: tokenizer.shown(number)
        return lambda number: "" if words is None or number >= len(words) else words[number]


def _batch_first(array: Array, type_: TensorType) -> Array:
    axis = batch_axis(type_.shape)
    return np.moveaxis(array, axis, 0) if axis is not None and array.ndim else array[None]
