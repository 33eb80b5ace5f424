"""Neural networks from `.dl` text, natively compiled: the Python API.

    import dlc

    model = dlc.load("model.dl", hidden=64)
    result = model.train(data="digits.csv.gz", epochs=10)
    print(result.test["accuracy"])
    logits = model.predict({"pixels": images})["logits"]

A single function of the language, with its gradient:

    square = dlc.function("fn square(x) = x * x", "square")
    square(array)
    square.gradient(array)

In Jupyter, a cell that begins with `%%dl NAME` binds NAME to the model of its text; models and results have displays.

Every error that a caller can cause is a `DlcError`: `SourceError` for mistakes in `.dl` text, `DataError`,
`UsageError`, `CheckpointError` and `TrainingError`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from compiler import driver
from compiler.driver import Options, Tensors
from compiler.errors.diagnostics import CheckpointError, DataError, DlcError, Source, SourceError, UsageError
from compiler.errors.suggestions import counted
from runtime.analysis.evaluation_data import evaluation_data
from runtime.api.arguments import (
    Data,
    Frame,
    SettingValue,
    arrays_or_path,
    frozen,
    options_of,
    overrides_of,
    parts_of,
    start_tensors,
)
from runtime.api.parameters import Parameters
from runtime.data.choices import refuse_outside, refuse_outside_inputs
from runtime.data.dimensions import dimensions_if_there
from runtime.data.loading import part_of_arrays, refuse_unprepared
from runtime.data.part import Part
from runtime.inference.buckets import Sizes
from runtime.inference.evaluation import PartEvaluator, evaluator_of
from runtime.inference.model import parameter_count, weight_names
from runtime.inference.prediction import Predictor
from runtime.inference.sampling import RowSampler, sampler_of
from runtime.reporting.units import measure, value_text
from runtime.runs.position import Position
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained, open_trained_run, program_of_run
from runtime.support.caller import for_caller
from runtime.support.regular_files import expect_model
from runtime.train.events import EpochEnded, Event, TrainingEnded, ignore, told
from runtime.train.jobs import compile_ahead, fresh_tensors, job_of, start_of
from runtime.train.keepers import MemoryKeeper, averages_of
from runtime.train.training import TrainingError, run_training

if TYPE_CHECKING:
    from runtime.api.displays import Picture, Plan, Profile, Runs  # HTML, which few calls need
    from runtime.api.notebook import Reporter

__all__ = [
    "CheckpointError",
    "DataError",
    "DlcError",
    "EpochEnded",
    "Function",
    "Model",
    "SourceError",
    "TrainingError",
    "TrainingResult",
    "UsageError",
    "function",
    "load",
    "loads",
    "runs",
]

Array: TypeAlias = np.ndarray[Any, Any]


class Function(Protocol):
    """A compiled `fn`."""

    def __call__(self, *arrays: Array) -> Array | tuple[Array, ...]:
        """The result, or a tuple of the results."""
        ...

    def gradient(self, *arrays: Array, cotangents: Sequence[Array] | Array | None = None) -> tuple[Array, ...]:
        """One gradient for each array of floats, of its shape; `cotangents` weigh the results.

        They are one array for each result, or the array itself where there is one result; ones by default.
        """
        ...


@dataclass(frozen=True, slots=True, repr=False)
class TrainingResult:
    """What a training gave. Metrics go by name, `loss` among them; those of a part that was not there are empty."""

    reason: str  # finished, or stopped early
    steps: int
    best_epoch: int | None
    history: tuple[EpochEnded, ...]
    test: Mapping[str, float]
    seconds: float

    def __repr__(self) -> str:
        """`TrainingResult(finished after 300 steps, 30 epochs, best epoch 28: loss 0.0210, val_loss 0.0305)`."""
        best = next((event for event in self.history if event.epoch == self.best_epoch), None)
        said = f"{self.reason} after {counted(self.steps, 'step')}, {counted(len(self.history), 'epoch')}"
        if best is not None:
            scalars = {**best.scalars, **{f"val_{name}": value for name, value in best.validation.items()}}
            said += f", best epoch {best.epoch}: {_scalars(scalars)}"
        return f"TrainingResult({said}{f'; test: {_scalars(self.test)}' if self.test else ''})"

    def _repr_html_(self) -> str:
        from runtime.api.displays import result_facts, result_html

        facts = result_facts(self.reason, self.steps, len(self.history), self.seconds, self.test)
        return result_html(facts, self.history, self.best_epoch)


@for_caller
def load(
    path: str | PathLike[str],
    *,
    experiment: str | None = None,
    threads: int | None = None,
    target: str = "native",
    dtype: str = "f32",
    allow_imports_outside: bool = False,
    **settings: SettingValue,
) -> Model:
    """The model of a `.dl` file, or that of a run with its best weights.

    `settings` stand above those of the file: `hidden=64`, `**{"optimizer.lr": 0.01}`. `experiment` chooses among
    several `train NAME: …`; `threads` defaults to one for each core that the process may use; `target` is `native` or
    `reference` (NumPy, slow, the definition of meaning); `dtype="f64"` turns every f32 of a file into f64.
    What the file imports lies in its folder, unless `allow_imports_outside`.
    Raises SourceError with every mistake of the file.
    """
    options = options_of(target, dtype, threads)
    place, within = Path(path), Path("/") if allow_imports_outside else None
    if not place.is_dir():
        if place.is_file():
            expect_model(place)
        return Model(
            lambda overrides: driver.load(place, experiment, overrides, dimensions_if_there, within), options, settings
        )
    trained = open_trained_run(place, use_last=False, overrides=overrides_of(settings), options=options)
    return Model(lambda overrides: program_of_run(place, overrides), trained.options, settings, trained)


@for_caller
def loads(
    text: str,
    *,
    name: str = "<text>",
    experiment: str | None = None,
    threads: int | None = None,
    target: str = "native",
    dtype: str = "f32",
    **settings: SettingValue,
) -> Model:
    """As `load`, from text; `name` stands for the file in messages."""
    options = options_of(target, dtype, threads)
    return Model(
        lambda overrides: driver.load_text(text, name, experiment, overrides, dimensions_if_there), options, settings
    )


@for_caller
def function(
    source: str,
    name: str,
    *,
    threads: int | None = None,
    target: str = "native",
    dtype: str = "f32",
    **config: SettingValue,
) -> Function:
    """The `fn` called `name` of a source text, compiled; `config` are the values of its configuration group.

    Each shape of arrays is compiled once, when it is first seen. Raises SourceError for mistakes of the text, and
    UsageError for a name or a setting that there is not; a call, for arrays that do not fit.
    """
    values = {key: frozen(key, value) for key, value in config.items()}
    from compiler.programs.functions import compiled_function  # the whole compiler, which a cached model does without

    compiled = compiled_function(Source("<source>", source), name, values, options_of(target, dtype, threads))
    return _Function(name, values, compiled)


@for_caller
def runs(folder: str | PathLike[str] = "runs") -> Runs:
    """The runs below a folder, oldest first: what `dlc runs --json` prints."""
    from runtime.api.displays import Runs
    from runtime.runs.listing import runs_below

    return Runs(runs_below(Path(folder)))


class _Function:
    """A compiled `fn`, with errors that end at its call."""

    def __init__(self, name: str, config: Mapping[str, driver.SettingValue], compiled: Function) -> None:
        self._name, self._config, self._compiled = name, config, compiled

    @for_caller
    def __call__(self, *arrays: Array) -> Array | tuple[Array, ...]:
        return self._compiled(*arrays)

    @for_caller
    def gradient(self, *arrays: Array, cotangents: Sequence[Array] | Array | None = None) -> tuple[Array, ...]:
        return self._compiled.gradient(*arrays, cotangents=cotangents)

    def __repr__(self) -> str:
        settings = ", ".join(f"{key} = {value_text(value)}" for key, value in self._config.items())
        return f"Function({self._name}({settings}))" if settings else f"Function({self._name})"


class Model:
    """A checked program with its weights. Weights come into being, by the program's seed, when first needed."""

    def __init__(
        self,
        elaborate: Callable[[tuple[tuple[str, str], ...]], driver.Program],
        options: Options,
        settings: Mapping[str, SettingValue],
        trained: Trained | None = None,
    ) -> None:
        """`load` and `loads` make models. `trained` has the weights; without it, they start from the seed."""

        def elaborated(overrides: tuple[tuple[str, str], ...]) -> driver.Program:
            return driver.with_wide_inputs(elaborate(overrides), options)

        self._elaborate, self._settings = elaborated, dict(settings)
        if trained is None:
            self._program = self._elaborate(overrides_of(self._settings))
        else:
            self._program = trained.program
        self._options = driver.options_of(self._program, options)
        self._present = None if trained is None else trained.tensors
        self._choices = None if trained is None else trained.choices
        self._preparation = None if trained is None else trained.preparation
        self._training_rows = None if trained is None else trained.training_rows
        self._evaluator: PartEvaluator | None = None
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        """`Model(Rings: point f32[batch, 2] -> logits f32[batch, 2]; 1,218 parameters, trained)`."""
        program = self._program
        inputs = ", ".join(f"{spec.name} {spec.type}" for spec in program.inputs if not spec.is_target)
        types = {output.name: output.value.type for output in program.inference_graph.outputs}
        outputs = ", ".join(f"{name} {types[name]}" for name in program.outputs)
        count = parameter_count(program)
        state = "trained" if self._choices is not None or self._training_rows is not None else "as at the start"
        return f"Model({program.name}: {inputs} -> {outputs}; {count:,} parameters, {state})"

    @property
    def parameters(self) -> Parameters:
        """Every parameter and state by its path; `model.parameters["dense.W"] = values` gives one other values."""
        return Parameters(self._tensors(), weight_names(self._program))

    @for_caller
    def train(
        self,
        data: Data | None = None,
        *,
        validation: Data | None = None,
        test: Data | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        seed: int | None = None,
        observer: Callable[[Event], None] = ignore,
        progress: bool | None = None,
        **settings: SettingValue,
    ) -> TrainingResult:
        """Train from the present weights; afterwards the model has the best ones.

        `data` is a path, or arrays by the names of inputs and targets; by default, what `train` names in the file.
        An array is NumPy's, or one that NumPy can read: of PyTorch, JAX, pandas, polars; the columns of a data frame
        are arrays by their names. With arrays, `validation` and `test` are arrays too. Further settings are keys of
        `train`, such as `**{"optimizer.lr": 0.01}`. `observer` is told of each epoch; with `progress`, a notebook
        shows curves as they grow, and elsewhere standard error shows what `dlc train` does. None is True in a notebook.
        Nothing is written to the disk. Ctrl-C, or the interrupt of a notebook, leaves the weights as they are and
        raises KeyboardInterrupt.
        """
        named = {"epochs": epochs, "batch": batch, "seed": seed}
        given = settings | {name: value for name, value in named.items() if value is not None}
        chosen = self._settings | given
        program = self._elaborate(overrides_of(chosen))
        parts, preparation = parts_of(program, *map(arrays_or_path, (data, validation, test)))
        compile_ahead(program, parts, self._options)
        tensors = self._tensors_for(program)
        keeper = MemoryKeeper(tensors, weight_names(program), averages_of(program))
        job = job_of(program, parts, tensors, self._options, keeper)
        with ExitStack() as opened:
            if (reporter := _reporter(progress)) is not None:
                observer = told([opened.enter_context(closing(reporter)), observer])
            observer(start_of(program, job, Position()))
            self._settings = chosen
            self._program, self._present, self._preparation = program, tensors, preparation
            self._training_rows = len(parts.train.rows)
            self._evaluator = self._predictor = None
            return _result(run_training(job, Position(), observer), keeper)

    @for_caller
    def evaluate(self, data: Data | None = None) -> dict[str, float]:
        """The loss and the metrics over arrays of inputs and targets by name, or over a file.

        Arrays hold what the data held: where training scaled columns or numbered words, so does this.
        Without `data`, over the test part of what `train` names; where there is none, validation or training rows.
        """
        given = arrays_or_path(data)
        if isinstance(given, Mapping):
            part = self._part(self._program.inputs, given)
            refuse_outside(self._program, part)
        else:
            part = evaluation_data(self._trained(), given, None).part
        return self._evaluation().evaluate(self._tensors(), part) or {}

    @for_caller
    def predict(self, inputs: Mapping[str, Array] | Frame | Array) -> dict[str, Array]:
        """Each output by name, for any number of rows. `inputs` go by name; a single one may stand alone.

        Of a data frame, the columns with the names of inputs are taken; where there is one input and no such column,
        the whole of it. They hold what the data held: where training scaled columns or numbered words, so does this.
        Of no rows, outputs have none; those that have no axis `batch`, such as a mean over all rows, are left out.
        """
        specs = [spec for spec in self._program.inputs if not spec.is_target]
        if isinstance(inputs, Frame) and not isinstance(inputs, Mapping):
            named = {spec.name: inputs[spec.name] for spec in specs if spec.name in inputs.columns}
            inputs = named or np.asarray(inputs)
        if not isinstance(inputs, Mapping):
            if len(specs) != 1:
                names = ", ".join(spec.name for spec in specs)
                raise UsageError(f"the model has {len(specs)} inputs", f"give a dictionary with {names}")
            inputs = {specs[0].name: inputs}
        part = self._part(specs, inputs, may_be_empty=True)
        refuse_outside_inputs(self._program, part)
        return self._prediction().predict(self._tensors(), part)

    @for_caller
    def sample(
        self, count: int = 16, *, seed: int = 0, sampler: str | None = None, **settings: SettingValue
    ) -> dict[str, Array]:
        """Each output of a `sample` of the text by name, for the rows from 0 to `count`, which depend on nothing else.

        `sampler` chooses among several. `settings` are those of the sampler, such as `steps=20`.
        """
        chosen = sampler_of(self._program, sampler)
        if count < 1 or seed < 0:
            raise UsageError(f"{count} rows of seed {seed}", "ask for 1 row or more, with a seed of 0 or more")
        given = {f"{chosen.name}.{name}": value for name, value in settings.items()}
        program = self._elaborate(overrides_of(self._settings | given)) if given else self._program
        return RowSampler(program, sampler_of(program, chosen.name), self._options).rows(self._tensors(), count, seed)

    @for_caller
    def plan(self, batch: int | None = None) -> Plan:
        """The cost of a step of `batch` rows, by default as many as `train` says: what `dlc plan --json` prints."""
        from runtime.api.displays import plan_of

        return plan_of(self._program, self._options, batch)

    @for_caller
    def graph(self, mode: str = "infer", *, depth: int = 1) -> Picture:
        """The graph of a prediction (`infer`) or of the loss (`train`): its text, and a picture of its levels.

        `depth` is the number of levels that are drawn open, from 1 on: what `dlc show --format svg --depth` draws.
        """
        from runtime.api.displays import graph_of

        return graph_of(self._program, mode, depth)

    @for_caller
    def profile(self, mode: str = "train", *, batch: int | None = None, seconds: float = 2.0) -> Profile:
        """The time of a step (`train`) or of a prediction (`infer`) on made-up data: what `dlc profile --json` prints.

        It is measured for about `seconds` with the present weights.
        """
        from runtime.api.displays import profile_of

        return profile_of(self._program, self._tensors(), self._options, mode, batch, seconds)

    def _repr_html_(self) -> str:
        from runtime.api.displays import model_html

        return model_html(self._program, self._tensors(), repr(self))

    @for_caller
    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters and states to a safetensors file, for `init_from` and `dlc eval --weights`.

        Raises CheckpointError where it cannot be written; what was at `path` before then stays.
        """
        replace_tensors(Path(path), dict(self.parameters))

    def _part(self, specs: Sequence[driver.InputSpec], arrays: Mapping[str, Array], may_be_empty: bool = False) -> Part:
        """The arrays as the training prepared its own. Raises UsageError where it is not known and matters."""
        plan = self._program.plan
        if self._training_rows is None and self._preparation is None and plan is not None and plan.data is not None:
            refuse_unprepared("the arrays", dict(plan.data.options))
        return part_of_arrays(specs, arrays, self._preparation, may_be_empty)

    def _evaluation(self) -> PartEvaluator:
        if self._evaluator is None:
            self._evaluator = evaluator_of(self._program, self._options, self._training_rows, self._sizes())
        return self._evaluator

    def _prediction(self) -> Predictor:
        if self._predictor is None:
            self._predictor = Predictor(self._program, self._options, self._sizes())
        return self._predictor

    def _sizes(self) -> Sizes:
        return () if self._preparation is None else self._preparation.buckets

    def _trained(self) -> Trained:
        return Trained(self._program, self._tensors(), self._options, self._choices, self._preparation, ())

    def _tensors(self) -> Tensors:
        if self._present is None:
            self._present = start_tensors(self._program, self._options)
        return self._present

    def _tensors_for(self, program: driver.Program) -> Tensors:
        """New optimizer states beside the present weights, which a changed setting may no longer fit."""
        if self._present is None:
            return start_tensors(program, self._options)
        tensors = fresh_tensors(program, self._options)
        for name in weight_names(program):
            if name not in self._present.names() or self._present[name].shape != tensors[name].shape:
                raise UsageError(f"the new settings change the shape of `{name}`", "load the model with them instead")
            tensors.write(name, self._present[name])
        return tensors


def load_ipython_extension(shell: object = None) -> None:
    """Let cells begin with `%%dl`; an import within IPython does it by itself."""
    del shell
    from runtime.api.notebook import register_cells

    register_cells(loads)


def __dir__() -> list[str]:
    """What is public: `dir(dlc)`."""
    return sorted(__all__)


def _scalars(scalars: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {measure(value)}" for name, value in scalars.items())


def _reporter(progress: bool | None) -> Reporter | None:
    """What shows a training, in a notebook or on standard error."""
    if progress is False or (progress is None and not {"IPython", "marimo"} & sys.modules.keys()):
        return None
    from runtime.api.notebook import live_curves
    from runtime.reporting.training_text import TextReporter  # rich is slow to import

    return live_curves() or (TextReporter() if progress else None)


def _result(end: TrainingEnded, keeper: MemoryKeeper) -> TrainingResult:
    if end.reason == "interrupted":
        raise KeyboardInterrupt
    return TrainingResult(end.reason, end.step, end.best_epoch, tuple(keeper.history), end.test, end.seconds)


if "IPython" in sys.modules:
    load_ipython_extension()
