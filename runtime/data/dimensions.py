"""The dimensions of a model that its data decides: the shapes of fields, or the number of columns."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compiler.driver import DataQuestion, DimensionsOf, class_in
from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from runtime.data.cutting import columns_of_cuts
from runtime.data.dataset import SYNONYMS, BlockSource, Dataset, TextPlan, WindowPlan
from runtime.data.loading import learnt_tokenizers, load_training_data
from runtime.data.matching import free_columns
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.reading import is_there, located, opened_blocks, read_dataset, source_at
from runtime.data.specs import Array, DataSource, InputSpec
from runtime.data.streaming.reader import blocks_in_order
from runtime.data.streaming.series import tokenizers_of_text
from runtime.data.streaming.texts import longest_texts, tokenizers_of_blocks
from runtime.data.text.rows import TextRemarks, TextRows
from runtime.data.text.tokenizer import Tokenizer
from runtime.data.windows import columns_of_series


def dimensions_of(path: Path | None) -> DimensionsOf:
    """Asks the data at `path`, by default what `train` names. Raises DataError where it is not there."""

    def answer(question: DataQuestion) -> Mapping[str, int]:
        source = question.source if path is None else source_at(path, question.source)
        if source is None:
            return {}
        if any(class_in(name) for name in question.names):
            sizes = tuple(name for name in question.names if not class_in(name))
            found = _rows_of_classes(question, source)
            return {**found, **answer(replace(question, names=sizes))} if sizes else found
        also = (*question.targets, *columns_of_cuts(question.cuts))
        if question.cuts.stream:
            return _of_blocks(question, source, opened_blocks(source, question.inputs, also=also)[0])
        dataset = read_dataset(source, question.inputs, also=also)
        if dataset.text is not None:
            return _of_texts_in_memory(question, dataset, dataset.text)
        return _found(question, dataset) if dataset.windows is None else _of_series(question, dataset, dataset.windows)

    return answer


def dimensions_if_there(question: DataQuestion) -> Mapping[str, int]:
    """Asks what `train` names, where that exists."""
    found = question.source is not None and is_there(located(question.source))
    return dimensions_of(None)(question) if found else {}


def _rows_of_classes(question: DataQuestion, source: DataSource) -> dict[str, int]:
    """How many rows to train on each class has that is asked for."""
    train = load_training_data(question.inputs, source, replace(question.cuts, oversample="")).train
    asked = {name: found for name in question.names if (found := class_in(name)) is not None}
    blocks = _labels(train, tuple(dict.fromkeys(target for target, _ in asked.values())))
    found = dict.fromkeys(asked, 0)
    for labels in blocks:
        for name, (target, label) in asked.items():
            found[name] += int((labels[target] == label).sum())
    return found


def _labels(train: Part, targets: Sequence[str]) -> Iterator[Mapping[str, Array]]:
    """The values of some targets in the rows to train on, block by block where these stay on disk."""
    if train.stream is None:
        yield {target: train.arrays[target][train.rows] for target in targets}
        return
    for _, arrays in blocks_in_order(train.stream, 1):
        yield {target: arrays[target] for target in targets}


def _of_blocks(question: DataQuestion, source: DataSource, opened: BlockSource) -> dict[str, int]:
    """What data says that stays on disk."""
    plan, windows = opened.head.text, opened.head.windows
    if plan is None:
        return _found(question, opened.head) if windows is None else _of_series(question, opened.head, windows)
    if opened.head.windows is None:
        tokenizers = tokenizers_of_blocks(opened, source, question.cuts, _target_of(question))
    else:
        tokenizers = tokenizers_of_text(opened, source, question.cuts)

    def longest(name: str) -> int:
        return longest_texts(opened, source, tokenizers, [name])[name]

    return _of_text(question, opened.head, plan, tokenizers, longest)


def _of_texts_in_memory(question: DataQuestion, dataset: Dataset, plan: TextPlan) -> dict[str, int]:
    tokenizers = learnt_tokenizers(dataset, question.cuts, _target_of(question))
    rows = TextRows(dataset.fields, Preparation({}, tokenizers=tokenizers, readings=plan.readings), TextRemarks())
    return _of_text(question, dataset, plan, tokenizers, lambda name: int(rows.lengths(name).max()))


def _target_of(question: DataQuestion) -> str:
    return question.targets[0] if len(question.targets) == 1 else ""


def _of_text(
    question: DataQuestion,
    dataset: Dataset,
    plan: TextPlan,
    tokenizers: Mapping[str, Tokenizer],
    longest: Callable[[str], int],
) -> dict[str, int]:
    """The sizes of vocabularies, learnt from the training part, the longest text, and the most synonyms of a word."""
    fields = {spec.name: spec.mask_of or spec.name for spec in question.inputs}
    found: dict[str, int] = {}
    for spec in question.inputs:
        name = fields[spec.name]
        if name in plan.readings and spec.range_name in question.names:
            found.setdefault(str(spec.range_name), len(tokenizers[plan.readings[name].vocabulary]))
        for dimension in (n for n in spec.dimension_names if n in question.names and n not in found):
            if name in plan.readings and dataset.windows is not None:
                message = f"`text` has windows as long as the model says, and `{dimension}` is no number"
                raise DataError(message, dataset.path, fix=f"make it a setting: `model …({dimension} = 64)`")
            if name not in plan.readings:
                raise _unknown(dataset, spec, f"the data says nothing of `{spec.name}`")
            if name == SYNONYMS and spec.dimension_names.index(dimension) > 1:
                found[str(dimension)] = max(len(words) - 1 for words in dataset.fields[name].synonyms)
                continue
            found[str(dimension)] = min(longest(name), plan.longest or sys.maxsize)
    for spec in question.inputs:
        if spec.range_name in question.names and spec.range_name not in found:
            message = f"there is no text `{spec.name}`{did_you_mean(spec.name, plan.readings, '; ')}"
            raise DataError(
                message, dataset.path, fix=f"it has {quoted(plan.readings)}, which may name inputs and targets"
            )
    return found


def _of_series(question: DataQuestion, dataset: Dataset, plan: WindowPlan) -> dict[str, int]:
    """How many steps a window has, and how many columns."""
    columns = columns_of_series(dataset, question.inputs)
    found: dict[str, int] = {}
    for spec in question.inputs:
        extents = (None, None if spec.is_target else plan.length, len(columns[spec.name]))
        for name, extent in zip(spec.dimension_names, extents, strict=False):
            if name in question.names and extent is None:
                raise _unknown(dataset, spec, f"the data does not say how many steps `{spec.name}` has")
            if name in question.names and extent is not None:
                found.setdefault(str(name), extent)
    return found


def _found(question: DataQuestion, dataset: Dataset) -> dict[str, int]:
    found: dict[str, int] = {}
    for spec in question.inputs:
        if spec.range_name in question.names and dataset.table is not None and spec.name in dataset.fields:
            raise _uncounted(dataset, spec)
        if spec.range_name in question.names:
            shown = f'("{dataset.path.name}")'
            fix = f"texts have one: `data = lines{shown}`, `text{shown}` or `pairs{shown}`; or --set 'data=text{shown}'"
            message = f"`{spec.range_name}` is the size of a vocabulary, and `{dataset.format}` data has none"
            raise DataError(message, dataset.path, fix=fix)
        places = {name: i for i, name in enumerate(spec.dimension_names) if name in question.names}
        missing = {name: place for name, place in places.items() if name not in found}
        if missing and dataset.table is not None:
            found |= _of_columns(question, dataset, spec, missing)
        elif missing:
            found |= _of_field(dataset, spec, missing)
    return found


def _uncounted(dataset: Dataset, spec: InputSpec) -> DataError:
    """For a column of categories: how many there are is part of the model."""
    kind = "target" if spec.is_target else "input"
    field = dataset.fields[spec.name]
    there = len(set(field.values.tolist())) if field.is_text else None
    count = f"its column has {there}: " if there is not None else ""
    example = there if there is not None else 10
    return DataError(
        f"`{spec.range_name}` is how many categories `{spec.name}` has, which a table does not decide",
        dataset.path,
        fix=f"{count}write `{kind} {spec.name}: {spec.type} in 0..{example}`, or make `{spec.range_name}` a setting: "
        f"`model …({spec.range_name} = {example})`",
    )


def _of_field(dataset: Dataset, spec: InputSpec, places: Mapping[str, int]) -> dict[str, int]:
    field = dataset.fields.get(spec.name)
    if field is None:
        raise _unknown(dataset, spec, f"the data has no field `{spec.name}`")
    shape = field.values.shape
    if len(shape) != len(spec.type.shape):
        raise _unknown(dataset, spec, f"`{spec.name}` has rows of shape {list(shape[1:])}")
    return {name: shape[place] for name, place in places.items()}


def _of_columns(question: DataQuestion, dataset: Dataset, spec: InputSpec, places: Mapping[str, int]) -> dict[str, int]:
    """One dimension of one input or target: it takes the columns that no other takes."""
    known = [e for i, e in enumerate(spec.type.shape) if i not in places.values() and isinstance(e, int)]
    others = [other for other in question.inputs if other is not spec]
    if len(places) > 1 or any(set(other.dimension_names) & places.keys() for other in others):
        raise _unknown(dataset, spec, "columns of a table can decide one dimension of one input")
    (name,) = places
    count = free_columns(dataset, spec, others)
    width = math.prod(known)
    if count == 0 or count % width:
        raise _unknown(dataset, spec, f"{count} columns are left for `{spec.name}`")
    return {name: count // width}


def _unknown(dataset: Dataset, spec: InputSpec, message: str) -> DataError:
    names = ", ".join(name or "…" for name in spec.dimension_names)
    fix = "give the dimension with `--set`, or make it a setting of the model"
    return DataError(f"{message}, which does not determine [{names}]", dataset.path, fix=fix)
