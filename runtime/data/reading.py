"""Data sources to datasets: the place of a source, its format, and the fields that its reader returns.

The list of data formats stands here, and the choice of one by name or by the ending of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError, Source, Span
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.data_formats import TABLES, options_for
from runtime.data.conditions import Condition, read_condition
from runtime.data.dataset import BlockSource, Dataset
from runtime.data.formats.cifar import CIFAR
from runtime.data.formats.csv_files import CSV
from runtime.data.formats.format import Format, SourceOptions, SourceRequest
from runtime.data.formats.idx import IDX
from runtime.data.formats.images import IMAGES
from runtime.data.formats.json_lines import JSONL
from runtime.data.formats.lines import LINES, TEXT
from runtime.data.formats.numpy_arrays import NPY, NPZ
from runtime.data.formats.pairs import PAIRS
from runtime.data.formats.records import ARROW, PARQUET
from runtime.data.preparation import Preparation
from runtime.data.specs import DataSource, InputSpec, SettingValue
from runtime.support.files import explained


def source_at(path: Path, like: DataSource | None, key: str = "data") -> DataSource:
    """The source of `--data PATH`: of the format and options of `like`, unless the path shows another format.

    `key` of `train` can name what a single path cannot. Raises DataError.
    """
    given, path = path, path.absolute()
    span = like.span if like is not None else Span(Source("--data", ""), 1, 1, 1, 1)
    if like is not None:
        known = format_named(like.format, str(like.span))
        if like.others and not known.in_one:
            others = "".join(f', {role}="…"' for role, _ in like.others)
            fix = f"""name them all: --set '{key}={like.format}("{given}"{others})'"""
            raise DataError(f"`{like.format}` also reads {quoted(role for role, _ in like.others)} here", path, fix=fix)
        if path.is_dir() and known.holds is None and not known.endings:
            fix = "name its file" if known.in_one else f"name a file, or several by a `*`: --data '{given}/*'"
            raise DataError(f"this is a folder, and `{like.format}` reads files", path, fix=fix)
        fits_folder = path.is_dir() and known.holds is not None and known.holds(path)
        fits_name = not known.endings or path.name.lower().removesuffix(".gz").endswith(known.endings)
        if fits_folder or (not path.is_dir() and fits_name):
            return DataSource(like.format, str(path), like.options, span)
    form = format_of(path).name
    options = () if like is None else options_for(form, like.format, like.options)
    return DataSource(form, str(path), options, span)


def located(source: DataSource) -> Path:
    """Where a source is: a relative path counts from the folder of the text that names it."""
    return _beside(source, source.path)


def is_there(path: Path) -> bool:
    """Whether something lies at a path; `*` is the concern of the format."""
    return "*" in str(path) or path.exists()


def expect_there(source: DataSource) -> None:
    """Raise DataError where a file of a source is missing."""
    paths = (located(source), *(_beside(source, name) for _, name in source.others))
    absent = next((path for path in paths if not is_there(path)), None)
    if absent is not None:
        raise DataError("there is no such file or folder", absent, fix=_path_fix(source))


def _beside(source: DataSource, name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.is_absolute() else Path(source.span.source.name).absolute().parent / path


def read_dataset(
    source: DataSource,
    specs: Sequence[InputSpec],
    preparation: Preparation | None = None,
    options: Mapping[str, SettingValue] | None = None,
    also: Iterable[str] = (),
    is_training: bool = True,
    may_be_empty: bool = False,
) -> Dataset:
    """The content of a source; `specs` say which fields are wanted, beside those of `also`. Raises DataError.

    `is_training`: rows to train on are needed, and those that a folder sets aside for tests are not enough.
    `may_be_empty`: a table or arrays may have no rows.
    """
    known, request, condition = _requested(source, specs, preparation, options, also, is_training, may_be_empty)
    dataset = known.read(request)
    return dataset if condition is None else _chosen(dataset, condition)


def opened_blocks(
    source: DataSource,
    specs: Sequence[InputSpec],
    preparation: Preparation | None = None,
    options: Mapping[str, SettingValue] | None = None,
    also: Iterable[str] = (),
    is_training: bool = True,
) -> tuple[BlockSource, Condition | None]:
    """The content of a source to read block by block, and the condition on its rows. As `read_dataset`."""
    known, request, condition = _requested(source, specs, preparation, options, also, is_training, True)
    return known.stream(request), condition


def _requested(
    source: DataSource,
    specs: Sequence[InputSpec],
    preparation: Preparation | None,
    options: Mapping[str, SettingValue] | None,
    also: Iterable[str],
    is_training: bool,
    may_be_empty: bool,
) -> tuple[Format, SourceRequest, Condition | None]:
    """The format of a source, the request to its reader, and the condition on its rows. Raises DataError."""
    place = str(source.span)
    known = format_named(source.format, place)
    given = SourceOptions(dict(source.options) if options is None else options, place)
    given.check_known(known.name)
    path = located(source)
    others = {role: _beside(source, name) for role, name in source.others}
    expect_there(source)
    condition = read_condition(told, place) if (told := given.text("rows")) is not None else None
    columns = () if condition is None else tuple(condition.columns.values())
    wanted = frozenset((*(spec.name for spec in specs), *also, *columns))
    request = SourceRequest(path, given, wanted, frozenset(), (), others, is_training, may_be_empty)
    if preparation is not None and preparation.table and known.name in TABLES:
        needed = tuple(dict.fromkeys(n for spec in specs for n in preparation.columns.get(spec.name, ())))
        layouts, texts = (preparation.table, needed), frozenset(preparation.vocabularies)
        request = SourceRequest(path, given, wanted | frozenset(needed), texts, layouts, may_be_empty=may_be_empty)
    return known, request, condition


def _chosen(dataset: Dataset, condition: Condition) -> Dataset:
    """The dataset with the rows for which a condition holds. Raises DataError where there is none."""
    keep = np.flatnonzero(condition.mask(dataset.fields))
    if len(keep) == 0:
        raise DataError(f"no row satisfies `{condition.text}`", dataset.path, fix="change `rows`")
    if dataset.windows is not None:
        refuse_gaps(dataset.path, condition, int(keep[0]), int(keep[-1]), len(keep))
    note = f"{dataset.path.name}: {len(keep)} of {dataset.rows} rows satisfy `{condition.text}`"
    fields = {name: field.at(keep) for name, field in dataset.fields.items()}
    chosen_by = tuple(condition.columns.values())
    return replace(dataset, fields=fields, notes=(*dataset.notes, note), chosen_by=chosen_by)


def refuse_gaps(path: Path, condition: Condition, first: int, last: int, count: int) -> None:
    """Raise DataError where `count` rows of a series, from the place `first` to `last`, do not follow each other."""
    if last - first >= count:
        message = f"`{condition.text}` leaves gaps in a series, and windows would go over them"
        raise DataError(message, path, fix="choose rows that follow each other")


def _path_fix(source: DataSource) -> str:
    if Path(source.path).is_absolute():
        return "check the path"
    here = Path(source.path)
    found = f"; there is one at {here.absolute()}: give --data {here}" if here.exists() else ""
    text = Path(source.span.source.name)
    folder = f"the folder of {text}" if text.exists() else "the current folder"
    if source.others:  # which `--data` could not name
        return f"the path counts from {folder}; name all files with `--set 'data={source.format}(…)'`"
    return f"the path counts from {folder}; name another with --data PATH{found}"


FORMATS = (CSV, PARQUET, ARROW, JSONL, IDX, CIFAR, IMAGES, NPZ, NPY, TEXT, LINES, PAIRS)


def format_named(name: str, place: str | None = None) -> Format:
    """The format of a data source `name("…")`. Raises DataError."""
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    message = f"there is no data format `{name}`{did_you_mean(name, names, '; ')}"
    raise DataError(message, place, fix=f"the formats are {quoted(names)}")


def format_of(path: Path) -> Format:
    """The format that a path looks like: a folder goes by its content, a file by its ending. Raises DataError."""
    holding = (known for known in FORMATS if known.by_pattern and known.holds is not None and known.holds(path))
    if "*" in str(path) and (found := next(holding, None)) is not None:
        return found
    if path.is_dir():  # the first format of which it has data; idx, which knows how to complain, where there is none
        with explained(DataError, path):
            return next((known for known in FORMATS if known.holds is not None and known.holds(path)), IDX)
    name = path.name.lower().removesuffix(".gz")
    for known in FORMATS:
        if name.endswith(known.endings):
            return known
    if not path.exists():
        raise DataError("there is no such file or folder", path, fix="check the path")
    endings = [ending for known in FORMATS for ending in known.endings]
    fix = f"""use one of {", ".join(endings)}, or say the format: --set 'data=lines("{path.name}")'"""
    raise DataError("the format cannot be told from the ending of the name", path, fix=fix)
