"""Data sources to arrays: the parts that a training or an evaluation needs, and the rows of a prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError, Source, Span, UsageError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.arrays import as_array
from compiler.support.data_formats import TABLES
from runtime.data.arrays import array_for
from runtime.data.cutting import PartRows, columns_of_cuts, oversampled, split_rows
from runtime.data.dataset import Dataset, Field, TableOptions, columns_at
from runtime.data.formats.format import SourceOptions, SourceRequest
from runtime.data.formats.lines import OF_TABLES, TOKENS, fields_of_files, fields_of_table, text_field
from runtime.data.formats.pairs import SOURCE, TARGET
from runtime.data.making import (
    PartMaker,
    lengths_of_texts,
    matched,
    named_for_only_input,
    notes_of_unused,
    part_in_columns,
    target_column,
)
from runtime.data.part import LoadedData, LoadedPart, Part, RowNames, loaded_data
from runtime.data.pictures import looks_of, picture_rows, shows_pictures
from runtime.data.preparation import Preparation, fitted, tokenizers_of
from runtime.data.reading import format_of, read_dataset
from runtime.data.specs import Array, Cuts, DataSource, InputSpec, PartSource, SettingValue, row_shape
from runtime.data.streaming.loading import load_stream, load_stream_part, parts_for_prediction
from runtime.data.text.rows import TextRemarks, TextRows, longest_row
from runtime.data.text.tokenizer import Tokenizer
from runtime.data.windows import columns_of_series, load_series, series_part, tokenizers_of_series

_GIVEN = Span(Source("--input", ""), 1, 1, 1, 1)
# SourceOptions of the training that hold for rows to be predicted, too.
_TEXT = Path("--input")
_OF_FILES = (".txt", ".text", ".md", ".csv", ".tsv", ".gz", ".npz", ".npy", ".json", ".jsonl", ".png", ".jpg", ".jpeg")
_UNITS = {"char": "characters", "word": "words and marks", "space": "words", "bpe": "pieces"}
_KEPT = {**dict.fromkeys(TABLES, ("window",)), "csv": ("separator", "window"), "images": ("size", "channels", "fit")}


def load_training_data(
    specs: Sequence[InputSpec], data: DataSource, cuts: Cuts, known: Preparation | None = None
) -> LoadedData:
    """Read `data`, cut off fractions, fit the preparation on what remains, and read the other sources of the `cuts`.

    Without a test among these, the test part is the one that the format sets aside, if any. The tokenizers are those of
    `known`, where a training goes on. Raises DataError.
    """
    if cuts.stream:
        return load_stream(specs, data, cuts, known)
    cut_by = columns_of_cuts(cuts)
    dataset = read_dataset(data, specs, also=cut_by)
    if dataset.windows is not None:
        return load_series(specs, data, dataset, cuts, known)
    preparation = matched(specs, dataset)
    loading = PartMaker(specs, dataset.notes)
    dataset = loading.without_gaps(dataset, preparation)
    used = {name for names in preparation.columns.values() for name in names}
    if unused := sorted((set(dataset.fields) - {*used, *cut_by, *dataset.chosen_by}) | set(dataset.unread)):
        loading.notes += notes_of_unused(dataset.path, unused)
    split = split_rows(dataset, cuts, target_column(specs, preparation))
    preparation = _fitted(specs, dataset, preparation, split, known)
    preparation = replace(preparation, looks=looks_of(specs, dataset, preparation.columns, split.train))
    whole = loading.everything(dataset.fields, preparation)
    rows = split.train
    if cuts.oversample:
        rows, remark = oversampled(dataset, cuts.oversample, rows, cuts.seed)
        loading.notes.append(remark)
    train = replace(whole, rows=rows, lengths=lengths_of_texts(dataset, whole.arrays))

    def other_part(source: PartSource, rows: Array) -> Part | None:
        if isinstance(source, DataSource):
            return loading.further(source, preparation)
        return replace(whole, rows=rows) if len(rows) else None

    official = _official_test(loading, dataset, preparation, cuts)
    parts = train, other_part(cuts.validation, split.validation), official or other_part(cuts.test, split.test)
    return loaded_data(dataset, data, parts, preparation, cuts.seed, loading.notes)


def _official_test(loading: PartMaker, dataset: Dataset, preparation: Preparation, cuts: Cuts) -> Part | None:
    """The test part that a format sets aside, unless the program names another."""
    if dataset.test is None:
        return None
    if cuts.test is None:
        return loading.everything(dataset.test, preparation)
    loading.notes.append(f"{dataset.path.name}: its own test part is not used, because the program names another")
    return None


def learnt_tokenizers(dataset: Dataset, cuts: Cuts, target: str = "") -> Mapping[str, Tokenizer]:
    """The tokenizers that a training with these cuts takes from its part of the texts.

    `target` is the field of the only target.
    """
    assert dataset.text is not None
    if dataset.windows is not None:
        return tokenizers_of_series(dataset, cuts)
    split = split_rows(dataset, cuts, target)
    return tokenizers_of(dataset.text, dataset.fields, split.train)


def load_evaluation_data(
    specs: Sequence[InputSpec], source: DataSource, preparation: Preparation, stream: int = 0
) -> LoadedPart:
    """All rows of a source, or the test part where its format has one, prepared as in the training.

    With `stream`, they stay on disk, and blocks of at most so many are read.
    """
    if stream:
        return load_stream_part(specs, source, preparation, stream)
    loading = PartMaker(specs)
    return LoadedPart(loading.further(source, preparation), tuple(dict.fromkeys(loading.notes)))


def load_rows(
    path: Path, specs: Sequence[InputSpec], preparation: Preparation | None, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """The inputs in a file for a prediction; targets in it are passed over.

    `preparation` and `options` are those of the training, as far as there was one. Raises DataError, and UsageError
    where the preparation of the training is missing and needed.
    """
    inputs = [spec for spec in specs if not spec.is_target]
    if preparation is None:
        refuse_unprepared(path, options)
        refuse_numbered(path, specs, options)
    if preparation is not None and preparation.readings and not path.name.endswith((".npz", ".npy")):
        return _load_texts(path, inputs, preparation, options)
    if shows_pictures(path):
        dataset = picture_rows(path, inputs, preparation, options)
        loading = PartMaker(inputs, dataset.notes)
        part = loading.like_training(dataset, preparation, may_drop=False)
        return LoadedPart(part, dataset.notes, dataset.fields[inputs[0].name].files)
    source, kept = _given_source(path, preparation, options)
    dataset = read_dataset(source, inputs, preparation, kept, is_training=False, may_be_empty=True)
    dataset = named_for_only_input(dataset, inputs)
    if dataset.test is not None:
        dataset = replace(dataset, fields=dataset.test)
    files = next((field.files for field in dataset.fields.values() if field.files), ())
    if preparation is None:
        dataset = inputs_alone(dataset, specs, options)
    if dataset.windows is not None:
        known = preparation or Preparation(columns_of_series(dataset, inputs), table=tuple(dataset.fields))
        return LoadedPart(series_part(inputs, dataset, known), dataset.notes)
    if preparation is None and not matched(inputs, dataset).is_plain:
        raise unprepared(path)
    loading = PartMaker(inputs, dataset.notes)
    part = loading.like_training(dataset, preparation, may_drop=False)
    unused = notes_of_unused(dataset.path, set(dataset.unread) - _names_of_targets(specs, preparation))
    return LoadedPart(part, tuple(dict.fromkeys((*loading.notes, *unused))), files)


def load_row_blocks(
    path: Path, specs: Sequence[InputSpec], preparation: Preparation, options: Mapping[str, SettingValue], block: int
) -> Iterator[LoadedPart]:
    """As `load_rows`, block by block; nothing of texts and pictures, whose names stand beside. Raises DataError."""
    if preparation.readings or shows_pictures(path):
        return
    source, kept = _given_source(path, preparation, options)
    yield from parts_for_prediction([s for s in specs if not s.is_target], source, preparation, kept, block)


def _given_source(
    path: Path, preparation: Preparation | None, options: Mapping[str, SettingValue]
) -> tuple[DataSource, dict[str, SettingValue]]:
    """The source of a file for a prediction, and the options of the training that hold for it."""
    form = format_of(path).name
    kept = {name: options[name] for name in _KEPT.get(form, ()) if name in options}
    if form in TABLES and preparation is not None and not preparation.table:
        kept = {}  # the training's data was no table
    return DataSource(form, str(path.absolute()), (), _GIVEN), kept


def _names_of_targets(specs: Sequence[InputSpec], preparation: Preparation | None) -> set[str]:
    """The fields that hold targets in the training's data, and their names in the program."""
    targets = [spec.name for spec in specs if spec.is_target]
    columns = () if preparation is None else preparation.columns.items()
    return {*targets, *(column for name, found in columns if name in targets for column in found)}


def _load_texts(
    path: Path, inputs: Sequence[InputSpec], preparation: Preparation, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """The texts of the input that takes texts: lines, or files, or the cells of a column, as in the training.

    Of a model of pairs, each line holds both. Raises DataError.
    """
    names = {n for spec in inputs if spec.mask_of is None for n in preparation.columns[spec.name]}
    if names == {SOURCE, TARGET}:
        return _load_pairs(path, inputs, preparation, options)
    if len(names) != 1:
        message = f"the model takes {quoted(sorted(names))}, and a file of lines gives one of them"
        raise DataError(message, path, fix="give an npz file with an array for each input")
    is_table = "text" in options and path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))
    passed_on = ("text", *OF_TABLES) if is_table else ("encoding", "each")
    request = SourceRequest(
        path, SourceOptions({name: options[name] for name in passed_on if name in options}), frozenset()
    )
    field = (fields_of_table if is_table else fields_of_files)(request)[TOKENS]
    loading = PartMaker(inputs)
    part = loading.everything(dict.fromkeys(names, field), preparation)
    return LoadedPart(part, tuple(loading.notes), field.files)


def given_text(argument: str, preparation: Preparation | None) -> str | None:
    """The text that a command line gives in place of a file, of a model that reads texts. Raises UsageError."""
    if preparation is None or not preparation.readings:
        return None
    if not argument.strip():
        raise UsageError("--input is empty", "give a file, or the text itself")
    is_sentence = any(map(str.isspace, argument.strip()))
    looks_like_path = "/" in argument or "*" in argument or Path(argument).suffix.lower() in _OF_FILES
    if not is_sentence and looks_like_path:
        return None
    try:
        return None if Path(argument).exists() else argument
    except OSError:  # too long for a name
        return argument


def load_text(text: str, specs: Sequence[InputSpec], preparation: Preparation) -> LoadedPart:
    """A text as the one row of a prediction, cut into tokens as in the training. Raises DataError."""
    inputs = [spec for spec in specs if not spec.is_target]
    names = list(dict.fromkeys(n for spec in inputs if spec.mask_of is None for n in preparation.columns[spec.name]))
    texts = text.split("\t") if len(names) > 1 else [text]
    if len(names) != len(texts):
        message = f"the model takes {quoted(names)}, and this is one text"
        raise DataError(message, "--input", fix="put a tab between the texts, or give a file")
    fields = {name: text_field([part], _TEXT, [1]) for name, part in zip(names, texts, strict=True)}
    loading = PartMaker(inputs, [_read_as(name, part, preparation) for name, part in zip(names, texts, strict=True)])
    return LoadedPart(loading.everything(fields, preparation), tuple(dict.fromkeys(loading.notes)))


def _read_as(name: str, text: str, preparation: Preparation) -> str:
    """The words for what becomes of a text."""
    tokenizer = preparation.tokenizers[preparation.readings[name].vocabulary]
    (numbers,) = tokenizer.encode([text])
    case = ", in lower case" if tokenizer.rules.lower else ""
    unknown = tokenizer.unknown(text)
    strange = f"; not in the vocabulary of the training: {quoted(unknown)}" if unknown else ""
    return f"--input is no file and is read as text: {len(numbers)} {_UNITS[tokenizer.rules.unit]}{case}{strange}"


def _load_pairs(
    path: Path, inputs: Sequence[InputSpec], preparation: Preparation, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """Both texts of each line of a file, cut as in the training, or else by a tab. Raises DataError."""
    kept = {name: options[name] for name in ("encoding", "separator") if name in options}
    source = DataSource("pairs", str(path.absolute()), (), _GIVEN)
    dataset = read_dataset(source, inputs, preparation, kept)
    loading = PartMaker(inputs)
    return LoadedPart(loading.everything(dataset.fields, preparation), tuple(dict.fromkeys(loading.notes)))


def _fitted(
    specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation, split: PartRows, known: Preparation | None
) -> Preparation:
    table, text = dataset.table, dataset.text
    if text is not None:
        tokenizers = tokenizers_of(text, dataset.fields, split.train) if known is None else known.tokenizers
        return replace(preparation, tokenizers=tokenizers)
    if table is None or not (table.normalise or table.missing == "mean"):
        return preparation
    return fitted(preparation, dataset.fields, specs, split.train, table.normalise)


def refuse_unprepared(data: object, options: Mapping[str, SettingValue]) -> None:
    """Raise UsageError where `options` of the training's data ask for means or deviations, which are not known here."""
    if options.get("normalise") or options.get("missing") == "mean":
        raise unprepared(data)


def refuse_numbered(data: object, specs: Sequence[InputSpec], options: Mapping[str, SettingValue]) -> None:
    """Raise UsageError where an input takes the numbers that the training gave to categories."""
    given = SourceOptions(options)
    numbered = set(given.columns("categories")) - set(given.columns("target"))
    numbered -= {spec.name for spec in specs if spec.is_target}
    if given.columns("columns"):
        numbered &= {*given.columns("columns"), *(spec.name for spec in specs)}
    if numbered:
        raise unprepared(data)


def unprepared(data: object) -> UsageError:
    message = f"{data} must be prepared as the training data was, which weights alone do not say"
    return UsageError(message, "name the run instead of the model file")


def inputs_alone(dataset: Dataset, specs: Sequence[InputSpec], options: Mapping[str, SettingValue]) -> Dataset:
    """The data with the columns that the training would take for inputs, by the names that they had there.

    Those of targets are left out: by their names, or by the option `target`. Of a series, the past of targets is an
    input.
    """
    given = SourceOptions(options)
    targets = {spec.name for spec in specs if spec.is_target} | given.names_in("target")
    table = dataset.table
    if table is None:
        return replace(dataset, fields={n: field for n, field in dataset.fields.items() if n not in targets})
    needed = sum(math.prod(row_shape(spec)) for spec in specs if not spec.is_target)
    dataset = _named(dataset, table, given)
    names = tuple(dataset.fields)
    # A place is one of the training's table only where there are more columns than the inputs take.
    places = range(-len(names), len(names)) if len(names) > needed else range(0)
    targets |= set(columns_at([t for t in given.columns("target") if t in (*names, *places)], names, dataset.path))
    chosen = given.columns("columns")
    is_whole = bool(chosen) and all(column in (*names, *places) for column in chosen)
    columns = columns_at(chosen, names, dataset.path) if is_whole else ()
    left_out = set[str]() if dataset.windows is not None else targets - set(columns)
    fields = {name: field for name, field in dataset.fields.items() if name not in left_out}
    return replace(dataset, fields=fields, table=replace(table, columns=columns))


def _named(dataset: Dataset, table: TableOptions, options: SourceOptions) -> Dataset:
    """A table without a first line of names with those that the training gave to all its columns, or to its inputs."""
    names = options.names("names")
    targets = columns_at(options.columns("target"), names, dataset.path) if names else ()
    layouts = (names, tuple(name for name in names if name not in targets), options.names("columns"))
    found = next((layout for layout in layouts if len(layout) == len(dataset.fields)), None)
    if not names or table.has_header or found is None:
        return dataset
    return replace(dataset, fields=dict(zip(found, dataset.fields.values(), strict=True)))


_PLACE = Path("arrays")  # stands where messages name a file


def part_of_arrays(
    specs: Sequence[InputSpec],
    arrays: Mapping[str, Array],
    saved: Preparation | None = None,
    may_be_empty: bool = False,
) -> Part:
    """All rows of `arrays`, which must hold each input and target of `specs` by name and nothing else.

    They hold what the data of the training held, and are prepared as it was, by `saved`: scaled where columns were.
    Raises DataError for a wrong name, shape or value, where the numbers of rows differ, and unless `may_be_empty` where
    there are none.
    """
    names = [spec.name for spec in specs]
    for name in arrays:
        if name not in names:
            raise DataError(f"no input `{name}`{did_you_mean(name, names, '; ')}", _PLACE, fix=f"give {quoted(names)}")
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"{quoted(missing)} missing", _PLACE, fix=f"give {quoted(names)}")
    fields = {name: Field(_array_of(name, arrays[name]), _PLACE) for name in names}
    counts = {name: len(field.values) if field.values.ndim else 0 for name, field in fields.items()}
    if len(set(counts.values())) != 1 or (0 in counts.values() and not may_be_empty):
        said = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise DataError(f"the numbers of rows differ or are 0: {said}", _PLACE, fix="give as many rows of each")
    if saved is not None and saved.is_of_columns:
        return part_in_columns(specs, fields, saved)
    preparation = Preparation({name: (name,) for name in names})
    notes: list[str] = []
    prepared = {spec.name: array_for(spec, fields, preparation, notes) for spec in specs}
    named = {name: RowNames(_PLACE) for name in names}
    return Part(prepared, np.arange(counts[names[0]], dtype=np.int64), names=named)


def part_of_texts(specs: Sequence[InputSpec], given: Mapping[str, Array], saved: Preparation) -> Part:
    """Rows of texts by the inputs that take them, as the training made its tokens, with their masks.

    Other inputs are arrays, as in the data. Raises DataError, also where a text would be cut, or filled up unmasked.
    """
    fields = {column: Field(values, _PLACE) for name, values in given.items() for column in saved.columns[name]}
    notes: list[str] = []
    texts = TextRows(fields, saved, TextRemarks())
    masked = {spec.mask_of for spec in specs}
    arrays: dict[str, Array] = {}
    for spec in specs:
        if not texts.takes(spec):
            arrays[spec.name] = array_for(spec, fields, saved, notes)
            continue
        if spec.mask_of is None:
            _refuse_lengths(spec, texts.lengths(saved.columns[spec.name][0]), spec.name in masked)
        arrays[spec.name] = texts.array(spec)
    return Part(arrays, np.arange(len(next(iter(arrays.values()))), dtype=np.int64))


def _refuse_lengths(spec: InputSpec, lengths: Array, has_mask: bool) -> None:
    most = longest_row(spec)
    wrong = lengths > most if has_mask else lengths != most
    if bool(wrong.any()):
        row = int(np.argmax(wrong))
        bound = f"at most {most}" if has_mask else str(most)
        message = f"the text of `{spec.name}` has {lengths[row]} tokens, and the model reads {bound}"
        raise DataError(message, _PLACE, row + 1, f"give a text of {bound} tokens")


def _array_of(name: str, values: object) -> Array:
    try:
        array = as_array(values)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"`{name}` is no array: {error}", _PLACE, fix="give rows of one shape") from error
    except (RuntimeError, TypeError, BufferError) as error:  # a tensor that has a gradient, or lies on a GPU
        raise DataError(f"NumPy cannot read `{name}`: {error}", _PLACE, fix="give an array on the CPU") from error
    if array.dtype.kind not in "biufUO":
        message = f"`{name}` has the dtype {array.dtype}, which is no number or text"
        raise DataError(message, _PLACE, fix="convert it to numbers")
    if array.dtype.kind == "O":
        _refuse_objects(name, array)
    return array


def _refuse_objects(name: str, array: Array) -> None:
    """Raise DataError for what is neither number nor text, such as None where a data frame misses a value."""
    if array.ndim == 0:
        message = f"`{name}` is {type(array.item()).__name__}, which is no array"
        raise DataError(message, _PLACE, fix="give an array, a column of a data frame, or a list of rows")
    for row, values in enumerate(array):
        for value in np.ravel(np.asarray(values, object)):
            if not isinstance(value, str | int | float | np.generic) or value != value:
                message = f"`{name}`: the value is {value}"
                raise DataError(message, _PLACE, row + 1, "give a number or a text, or leave the row out")
