"""The findings of `dlc check` in the data of a program: whether it is there, and fits."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compiler import driver
from compiler.driver import DataQuestion, DataSource, Program, TrainingPlan
from compiler.errors.diagnostics import DataError, Diagnostic, Source, SourceError, Span, hint
from compiler.syntax.suppressions import without_suppressed
from runtime.data.dimensions import dimensions_if_there
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.reading import is_there, located
from runtime.inference.model import length_of, length_remarks, training_of
from runtime.runs.frozen_weights import frozen_findings

_MOST_BYTES = 1 << 30
_READ_LATER = ("images",)  # formats that decode every file, and keep that for the training


def dimensions_or_mistakes(question: DataQuestion) -> tuple[Mapping[str, int], list[Diagnostic]]:
    """The dimensions that a question asks for, as far as there is data, and the mistakes of the data."""
    try:
        return dimensions_if_there(question), []
    except DataError as error:
        return {}, [] if question.source is None else [_mistake(error, question.source.span)]


def data_findings(
    file: Path | Source, experiment: str | None, overrides: tuple[tuple[str, str], ...], within: Path | None
) -> Iterator[Diagnostic]:
    """For each experiment of a file or text without mistakes; all its data is loaded as for a training, but for images.

    Files of more than a gigabyte are left to the training, too.
    """
    names = driver.subjects(file, within) if experiment is None else (experiment,)
    for name in names:
        try:
            program = driver.load(file, name, overrides, dimensions_if_there, within)
        except SourceError:  # sizes of absent data, of which the check has warned
            continue
        yield from without_suppressed(frozen_findings(program))
        if program.plan is not None and program.plan.data is not None:
            yield from without_suppressed(_findings(program, program.plan, program.plan.data))


def _findings(program: Program, plan: TrainingPlan, data: DataSource) -> Iterator[Diagnostic]:
    sources = [source for source in (data, plan.validation, plan.test) if isinstance(source, DataSource)]
    absent = [source for source in sources if not is_there(located(source))]
    for source in absent:
        message = f"the data `{source.path}` is not there, so that nothing says whether it fits"
        fix = "put it there, or name other data with `--set data=…` or `dlc train --data`"
        yield Diagnostic("W0119", message, source.span, (hint(fix),), "warning")
    if absent or data.format in _READ_LATER or sum(map(_bytes, sources)) > _MOST_BYTES:
        return
    from runtime.train.jobs import load_data  # data that is not there needs nothing of a training

    try:
        loaded = load_data(driver.with_wide_inputs(program, driver.Options()), None)
    except DataError as error:
        yield _mistake(error, _place(error, plan, sources))
        return
    yield from _poles(program, loaded.train, loaded.preparation)
    if plan.epochs is None and plan.steps is None:
        return
    length = length_of(training_of(program), len(loaded.train.rows))
    for remark in length_remarks(program, length):
        yield Diagnostic("W0120", remark.text, remark.place(plan) or data.span, (hint(remark.fix),), "warning")


def _poles(program: Program, part: Part, preparation: Preparation) -> Iterator[Diagnostic]:
    """W0108: logarithms and roots of an input or target that is out of their range in some row."""
    from compiler.lints.poles_of_data import poles_of_data  # loads the front end

    for found in poles_of_data(driver.complete(program)):
        values = part.arrays[found.name]
        is_outside = values < found.pole if found.holds_pole else values <= found.pole
        if not is_outside.any():
            continue
        row = int(is_outside.any(axis=tuple(range(1, values.ndim))).argmax())
        named = part.names.get(found.name)
        where = f"row {row}" if named is None else f"row {named.of(row)} of {named.file_of(row).name}"
        is_scaled = any(column in preparation.scales for column in preparation.columns.get(found.name, ()))
        scaled, advice = (" after `normalise`", "leave `normalise` out") if is_scaled else ("", "correct the data")
        message = f"`{found.function}` of `{found.name}`, which is {values[row].min():g} in {where}{scaled}"
        outcome = "NaN" if found.holds_pole else "infinities and NaN"
        least = f"{found.pole + (0 if found.holds_pole else 1e-7):.7g}".replace("e-0", "e-")
        fix = hint(f"keep it in range: `max(…, {least})`, or {advice}")
        yield Diagnostic("W0108", f"{message}, gives {outcome}", found.place, (fix,), "warning")


def _place(error: DataError, plan: TrainingPlan, sources: Sequence[DataSource]) -> Span:
    """The key of `train` that a fault of the data is about: by the key itself, or by the file."""
    if error.key in plan.places:
        return plan.places[error.key]
    file = Path(error.file or "").absolute()
    holding = [s for s in sources if (path := located(s).absolute()) == file or path in file.parents]
    return max(holding, key=lambda source: len(located(source).parts), default=sources[0]).span


def _bytes(source: DataSource) -> int:
    path = located(source)
    found = [Path(name) for name in glob.glob(str(path), recursive=True)] if "*" in str(path) else [path]
    files = [inner for one in found for inner in (one.rglob("*") if one.is_dir() else (one,))]
    return sum(file.stat().st_size for file in files if file.is_file())


def _mistake(error: DataError, span: Span) -> Diagnostic:
    return Diagnostic("E0701", str(error), span, (hint(error.fix),) if error.fix else ())
