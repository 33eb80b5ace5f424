"""A model file or a run as it is opened: the source of its text, its compilation, and its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import driver
from compiler.driver import DataQuestion, DimensionsOf, Options
from compiler.errors.diagnostics import Source, SourceError
from compiler.inspection.reading import Reading, Texts, read
from compiler.support.processors import usable_cores
from compiler.support.record import record
from runtime.support.files import JsonObject
from runtime.view.document import Page, document_of

if TYPE_CHECKING:
    from compiler.inspection.forms import Forms
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
    texts: Texts = field(default_factory=Texts)

    def reading(self, text: str | None = None) -> Reading:
        """What its text says, or another text in its place. Raises UsageError."""
        root = self.path if text is None else Source(str(self.path), text)
        return read(root, self.experiment, self.overrides, self.dimensions_of, self.within, self.texts)

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
        return page if self.run is None else replace(page, document={**page.document, "run": curves_of_run(self.run)})

    def profile(self, reading: Reading, seconds: float) -> JsonObject:
        """The profile of a step, or of a call where nothing is trained: that of a run has its weights.

        Raises SourceError for a text with mistakes.
        """
        if reading.subject is None:
            raise SourceError(tuple(f for f in reading.findings if f.severity == "error"))
        from runtime.analysis.profile import as_json, profile, weights_of  # loads the schedule, and all that makes code
        from runtime.runs.trained import open_trained_run

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


def curves_of_run(run: Path) -> JsonObject:
    """The curves of a run as its page draws them. Raises DlcError while a file is being replaced."""
    from runtime.view.run_part import run_to_json  # loads what reads tensors

    return run_to_json(run)


def viewed_file(
    path: Path, options: Options, experiment: str | None, overrides: Overrides, within: Path | None
) -> Viewed:
    def dimensions_of(question: DataQuestion) -> Mapping[str, int]:
        from runtime.data.dimensions import dimensions_if_there  # loads every format of data, and few models ask

        return dimensions_if_there(question)

    title = "/".join(path.absolute().parts[-2:])
    return Viewed(path, title, options, dimensions_of, experiment, overrides, within)


def viewed_run(folder: Path, options: Options, overrides: Overrides) -> Viewed:
    """The copy of the text that a run keeps, with its choices. Raises CheckpointError."""
    from runtime.runs.directory import open_run
    from runtime.runs.trained import choices_of  # loads every format of data

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
