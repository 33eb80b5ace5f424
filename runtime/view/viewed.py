"""A model file or a run as it is opened: the source of its text, its compilation, and its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import driver
from compiler.driver import DimensionsOf, Options
from compiler.errors.diagnostics import Source, SourceError
from compiler.inspection.reading import Reading, read
from compiler.support.processors import usable_cores
from compiler.support.record import record
from runtime.analysis.profile import as_json, profile, weights_of
from runtime.data.dimensions import dimensions_if_there
from runtime.runs.directory import open_run
from runtime.runs.trained import choices_of, open_trained_run
from runtime.support.files import JsonObject
from runtime.view.document import Page, document_of
from runtime.view.run_part import run_to_json

if TYPE_CHECKING:
    from compiler.inspection.plan import Forms
    from runtime.analysis.profile import Weights

Overrides = tuple[tuple[str, str], ...]


@record(eq=False)
class Viewed:
    """`path` is the main file, and `within` the folder of what it imports; `run` is there where a run was opened.

    `batch` is how many rows a step has, where that was asked for. `other` is a run that this run is compared with.
    """

    path: Path
    title: str
    options: Options
    dimensions_of: DimensionsOf
    experiment: str | None = None
    overrides: Overrides = ()
    within: Path | None = None
    run: Path | None = None
    batch: int | None = None
    other: Viewed | None = None

    def reading(self, text: str | None = None) -> Reading:
        """What its text says, or another text in its place. Raises UsageError."""
        root = self.path if text is None else Source(str(self.path), text)
        return read(root, self.experiment, self.overrides, self.dimensions_of, self.within)

    def page(
        self,
        reading: Reading,
        measured: JsonObject | None = None,
        with_code: bool = True,
        go_on: Callable[[], None] = lambda: None,
        forms: Forms | None = None,
    ) -> Page:
        """The data of the page; see `document_of`."""
        page = document_of(reading, self._options(reading), self.title, measured, with_code, go_on, forms)
        return page if self.run is None else replace(page, document={**page.document, "run": run_to_json(self.run)})

    def profile(self, reading: Reading, seconds: float) -> JsonObject:
        """The profile of a step, or of a call where nothing is trained: that of a run has its weights.

        Raises SourceError for a text with mistakes.
        """
        if reading.subject is None:
            raise SourceError(tuple(f for f in reading.findings if f.severity == "error"))
        program = reading.subject.program
        weights: Weights | None = None
        if self.run is not None:
            trained = open_trained_run(self.run, False, self.overrides, self.options)
            weights = weights_of(trained.tensors, trained.program)
        options = replace(self._options(reading), threads=usable_cores())
        mode = "infer" if program.plan is None else "train"
        return as_json(profile(program, mode, options.batch, options, seconds, weights).report)

    def _options(self, reading: Reading) -> Options:
        if reading.subject is None:
            return self.options
        program = reading.subject.program
        rows = self.batch or (program.plan.usual_rows if program.plan is not None else 1)
        return driver.options_of(program, replace(self.options, batch=rows))


def viewed_file(
    path: Path, options: Options, experiment: str | None, overrides: Overrides, within: Path | None
) -> Viewed:
    title = "/".join(path.absolute().parts[-2:])
    return Viewed(path, title, options, dimensions_if_there, experiment, overrides, within)


def viewed_run(folder: Path, options: Options, overrides: Overrides) -> Viewed:
    """The copy of the text that a run keeps, with its choices. Raises CheckpointError."""
    run = open_run(folder)
    choices = choices_of(run)
    every = choices.overrides + overrides
    options = replace(options, dtype=choices.dtype)
    return Viewed(
        run.program,
        folder.name,
        options,
        lambda _: choices.dimensions,
        choices.experiment,
        every,
        run.path / "source",
        folder,
    )
