"""Models, plans, profiles, graphs, runs and results as a notebook shows them: HTML, and plain text beside it.

A notebook asks for the HTML by the method `_repr_html_`, the convention of Jupyter and marimo.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, overload

from compiler.driver import STEP_OF_MODE, Array, Options, Program, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.support.palette import style
from compiler.support.record import record
from compiler.syntax.highlighting import PATTERNS
from runtime.inference.model import parameter_count, weight_names
from runtime.reporting.charts import CHART_STYLE
from runtime.reporting.elements import column_table, curves_section, pairs, rows, scalar_heading, shown, tables
from runtime.reporting.plan_text import print_plan
from runtime.reporting.profile_text import foot_of, head_of, profile_text, table_of
from runtime.reporting.runs_text import print_runs
from runtime.reporting.units import duration
from runtime.runs.listing import RunSummary, curves_of
from runtime.support.files import JsonObject, JsonValue
from runtime.train.events import EpochEnded, TrainingProgressed, event_as_json

_WIDTH = 100  # columns of plain text, which a notebook does not wrap
_COLOUR = re.compile("\x1b\\[[0-9;]*m")  # a notebook asks all programs for colours, and a `repr` has none
_MOST_ROWS = 20  # of a table that is sorted by what matters

# The colour of letters comes from the notebook; the others are dark where one of its themes says so.
_DARK_MARKS = '[data-jp-theme-light="false"], .dark, .vscode-dark, .vscode-high-contrast'
_DARK = f":is({_DARK_MARKS}) .dlc"
_COLOURS = style(".dlc", _DARK)
_MARKS = f'{_DARK_MARKS}, [data-jp-theme-light="true"], .light, .vscode-light'
_UNMARKED = f":root:not(:has({_MARKS}), {_MARKS}) .dlc .graph"
_STYLE = """
.dlc { --line: color-mix(in srgb, currentColor 15%, transparent);
  --quiet: color-mix(in srgb, currentColor 65%, transparent); font: var(--body)/1.5 var(--sans); }
.dlc h3 { margin: 0.8rem 0 0.2rem; font-size: 1em; } .dlc p { margin: 0.2rem 0; }
.dlc table { border-collapse: collapse; font: inherit; margin: 0.3rem 0; font-variant-numeric: tabular-nums; }
.dlc td, .dlc th { padding: 0.1rem 0.8rem 0.1rem 0; text-align: left; vertical-align: top; background: none; }
.dlc th { font-weight: 400; color: var(--quiet); border-bottom: 1px solid var(--line); }
.dlc .number { text-align: right; }
.dlc table:not(:has(th)) .number { text-align: left; } .dlc table:not(:has(th)) td:first-child { color: var(--quiet); }
.dlc .wide, .dlc .graph { overflow: auto; max-height: 40rem; } .dlc .graph { background: var(--raised); }
.dlc pre .documentation, .dlc pre .comment { opacity: 0.65; }
.dlc pre .keyword, .dlc pre .declaration { font-weight: 600; }
.dlc pre .function { color: var(--call); } .dlc pre .number { color: var(--number); }
.dlc pre .string, .dlc pre .literal { color: var(--text); } .dlc pre .keyword { color: var(--word); }
.dlc progress { width: 16rem; vertical-align: middle; } .dlc pre { margin: 0.3rem 0; }
""".strip()


def fragment(*parts: str) -> str:
    """Parts of a page as a display of their own, which brings its style."""
    return f'<div class="dlc"><style>\n{_COLOURS}{_STYLE}\n{CHART_STYLE}\n</style>\n{"".join(parts)}\n</div>'


class Figures(Mapping[str, Any]):
    """Named figures, as `--json` of the command prints them, with a table of them as text and as HTML."""

    def __init__(self, figures: Mapping[str, Any]) -> None:
        self._figures = figures

    def __getitem__(self, name: str) -> Any:
        return self._figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def _repr_html_(self) -> str:
        return fragment(tables(dict(self._figures)))


class Plan(Figures):
    """The cost of a model before it runs: parameters, operations, kernels and bytes."""

    def __repr__(self) -> str:
        return _printed(partial(print_plan, dict(self._figures)))


class Profile(Figures):
    """The time of a step, by line, layer, kernel and operation."""

    def __repr__(self) -> str:
        return profile_text(self._figures, "line", _MOST_ROWS, _WIDTH)

    def _repr_html_(self) -> str:
        """The parts of the step, and its lines, the longest first."""
        title, parts = head_of(self._figures)
        lines, rest = table_of(self._figures, "line", _MOST_ROWS)
        said = "".join(f"<p>{shown(line)}</p>" for line in (*rest, *foot_of(self._figures)))
        return fragment(f"<p>{shown(title)}</p>", column_table(parts), "<h3>lines</h3>", column_table(lines), said)


@record(eq=False)
class Picture:
    """A graph: its text, and its drawing as SVG."""

    text: str
    svg: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from compiler.inspection.show import dark_style  # the whole compiler

        dark = dark_style(f"{_DARK} .graph")
        as_system = (
            f"@media (prefers-color-scheme: dark) {{ {_UNMARKED} {{ background: none }} {dark_style(_UNMARKED)} }}"
        )
        picture = self.svg[max(self.svg.find("<svg"), 0) :]
        return fragment(f'<style>\n{dark}\n{as_system}\n</style><div class="graph">{picture}</div>')


class Runs(Sequence[RunSummary]):
    """The runs of a folder, oldest first."""

    def __init__(self, found: Sequence[RunSummary]) -> None:
        self._found = tuple(found)

    @overload
    def __getitem__(self, number: int) -> RunSummary: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[RunSummary]: ...
    def __getitem__(self, number: int | slice) -> RunSummary | Sequence[RunSummary]:
        return self._found[number]

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return _printed(partial(print_runs, self._found)) if self._found else "no runs"

    def _repr_html_(self) -> str:
        columns = dict.fromkeys(name for run in self._found for name in run.to_json())
        return fragment(rows([{name: run.to_json().get(name) for name in columns} for run in self._found]) or "no runs")


def plan_of(program: Program, options: Options, batch: int | None) -> Plan:
    """The plan of a step of `batch` rows. Raises UsageError."""
    _expect_rows(batch)
    from compiler.inspection.plan import plan  # the whole compiler

    usual = 1 if program.plan is None else program.plan.usual_rows
    return Plan(plan(program, replace(options, batch=usual if batch is None else batch)).to_json())


def graph_of(program: Program, mode: str, depth: int) -> Picture:
    """The graph of a prediction or of a training's loss. Raises UsageError."""
    _expect_mode(mode)
    if type(depth) is not int or depth < 1:
        raise UsageError(f"`depth` cannot be {depth!r}", "give a whole number of at least 1")
    from compiler.inspection.show import graph_of_program  # the whole compiler

    return Picture(graph_of_program(program, mode, "text"), graph_of_program(program, mode, "svg", depth))


def _expect_mode(mode: str) -> None:
    if mode not in STEP_OF_MODE:
        raise UsageError(f"`mode` cannot be {mode!r}", f"it is {' or '.join(STEP_OF_MODE)}")


def _expect_rows(batch: int | None) -> None:
    if batch is not None and (type(batch) is not int or batch < 1):
        raise UsageError(f"`batch` cannot be {batch!r}", "give a whole number of at least 1")


def profile_of(
    program: Program, tensors: Tensors, options: Options, mode: str, batch: int | None, seconds: float
) -> Profile:
    """A profile of a step with these weights. Raises UsageError."""
    _expect_mode(mode)
    _expect_rows(batch)
    if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
        raise UsageError(f"`seconds` cannot be {seconds!r}", "give a number above 0")
    from runtime.analysis.profile import as_json, profile, weights_of  # measuring is asked for

    measured = profile(program, mode, batch, options, seconds, weights_of(tensors, program))
    return Profile(as_json(measured.report))


def model_html(program: Program, tensors: Tensors, said: str) -> str:
    """A model: a line that says what it is, its parameters, and its text."""
    table = _parameter_table({name: tensors[name] for name in weight_names(program)})
    text = "".join(f"<pre>{_coloured(source.text)}</pre>" for source in program.sources[:1])
    count = f"{parameter_count(program):,} parameters"
    return fragment(
        f"<p>{shown(said)}</p>",
        f"<details><summary>{count}</summary>{table}</details>",
        f"<details><summary>text</summary>{text}</details>",
    )


_WORD = re.compile("|".join(f"({pattern.expression})" for pattern in PATTERNS), re.MULTILINE)


def _coloured(text: str) -> str:
    """A text of a model, with a `<span>` of its class around each word."""
    parts: list[str] = []
    end = 0
    for word in _WORD.finditer(text):
        assert word.lastindex is not None
        kind = PATTERNS[word.lastindex - 1].class_
        parts.append(f'{shown(text[end : word.start()])}<span class="{kind}">{shown(word[0])}</span>')
        end = word.end()
    return "".join([*parts, shown(text[end:])])


def parameters_html(parameters: Mapping[str, Array]) -> str:
    """The shape and the spread of each parameter."""
    return fragment(_parameter_table(parameters))


def _parameter_table(parameters: Mapping[str, Array]) -> str:
    found: list[JsonObject] = []
    for name, values in parameters.items():
        numbers = {"mean": float(values.mean()), "std": float(values.std())} if values.size else {}
        found.append({"parameter": name, "shape": str(list(values.shape)), "count": values.size, **numbers})
    return rows(found)


def training_html(
    history: Sequence[EpochEnded],
    best_epoch: int | None,
    progress: TrainingProgressed | None = None,
    share: float | None = None,
) -> str:
    """The curves of a training, above them its progress; `share` is the part of its steps that are made."""
    bar = "" if share is None else f'<p><progress value="{share:.4f}"></progress> {share:.0%}</p>'
    return fragment(bar, "" if progress is None else pairs(_progress(progress)), _curves(history, best_epoch))


def result_html(facts: Mapping[str, JsonValue], history: Sequence[EpochEnded], best_epoch: int | None) -> str:
    """The end of a training, and its curves to be opened: the cell that trained shows them already."""
    return fragment(pairs(facts), f"<details><summary>curves</summary>{_curves(history, best_epoch)}</details>")


def _curves(history: Sequence[EpochEnded], best_epoch: int | None) -> str:
    epochs: list[JsonObject] = [event_as_json(event) for event in history]
    return curves_section(curves_of(epochs), best_epoch)


def result_facts(
    reason: str, steps: int, epochs: int, seconds: float, test: Mapping[str, float]
) -> dict[str, JsonValue]:
    """The end of a training, by headings."""
    scalars = {scalar_heading(f"test_{name}"): _finite(value) for name, value in test.items()}
    return {"state": reason, "steps": steps, "epochs": epochs, "time": duration(seconds), **scalars}


def _progress(event: TrainingProgressed) -> dict[str, JsonValue]:
    scalars = {scalar_heading(name): _finite(value) for name, value in event.scalars.items()}
    return {"epoch": event.epoch, "step": event.step, **scalars, "time left": duration(event.seconds_left)}


def _finite(value: float) -> JsonValue:
    return value if math.isfinite(value) else str(value)


def _printed(write: Callable[..., None]) -> str:
    stream = io.StringIO()
    write(stream=stream)
    return _COLOUR.sub("", stream.getvalue()).rstrip()
