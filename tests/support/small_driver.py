"""A stand-in for the compiler in tests of the runtime: softmax regression with momentum, in NumPy.

It keeps the contract of `Executable` to the letter (runs of steps, short last batches, updates in place, one scalar
a step), so the training loop, checkpoints and commands can be tested without compiling anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Array, Options, Results
from compiler.errors.diagnostics import Source, Span, UsageError
from compiler.frontend.data_parts import DataSource
from compiler.frontend.program import InputSpec, ParameterSpec, Program, Setting, TrainingPlan
from compiler.frontend.update_rules import EarlyStop, Plateau
from compiler.graph.ir import Graph, GraphOutput, Role, Value
from compiler.interface import Steps
from compiler.machine import AVX2, Machine
from compiler.programs.kinds import PREDICTION, TRAINING, GraphKind
from compiler.types import BatchExtent, DType, TensorType, at_batch

FEATURES, CLASSES = 3, 2
MACHINE = AVX2  # nothing is compiled for it
EMPTY = Graph("empty", (), (), ())
LOGITS = GraphOutput("logits", Role.OUTPUT, Value(0, TensorType(DType.F32, (BatchExtent(), CLASSES))))


@dataclass
class SmallTensors:
    """Named arrays, as `driver.Tensors`."""

    arrays: dict[str, Array] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def write(self, name: str, values: Array) -> None:
        self.arrays[name][...] = values


def load(
    path: str | Path,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: object = None,
    within: Path | None = None,
) -> Program:
    del dimensions_of, within
    return load_text(Path(path).read_text(encoding="utf-8"), str(path), experiment, overrides)


def load_text(
    text: str,
    name: str,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: object = None,
) -> Program:
    """Each line of `text` is `key = value`, for the keys below."""
    del experiment, dimensions_of
    source = Source(name, text)
    span = Span(source, 1, 1, 1, 2)
    values: dict[str, Any] = {
        "batch": 4, "epochs": 3, "steps": None, "seed": 0, "patience": None, "data": None, "min_change": 0.0,
        "restore": 1, "plateau": None,
        "validation": None, "test": None, "optimizer.lr": 0.1,
    }  # fmt: skip
    origins = dict.fromkeys(values, "default")
    given = [tuple(part.strip() for part in line.split("=")) for line in text.splitlines() if "=" in line]
    for origin, pairs in (("train", given), ("command line", overrides)):
        for key, value in pairs:
            if key not in values:
                raise UsageError(f"there is no setting `{key}`")
            if key in ("epochs", "steps"):
                values["epochs"] = values["steps"] = None
            values[key] = value.strip('"') if key == "data" else float(value) if "." in value else int(value)
            origins[key] = origin
    data = None
    if values["data"] is not None:
        format_name = Path(str(values["data"])).suffix.lstrip(".")
        options = (("target", -1),) if format_name == "csv" else ()
        data = DataSource(format_name, str(values["data"]), options, span)
    early_stop = None
    if values["patience"] is not None:
        early_stop = EarlyStop(values["patience"], values["min_change"], bool(values["restore"]))
    plateau = None if values["plateau"] is None else Plateau(0.5, values["plateau"], 0.0, 0.2)
    plan = TrainingPlan(
        rules=(), schedule=None, clip=None, metrics=("accuracy",), batch=values["batch"], epochs=values["epochs"],
        steps=values["steps"], seed=values["seed"], data=data, validation=values["validation"], test=values["test"],
        early_stop=early_stop, plateau=plateau, keep=None, init_from=None, restores=bool(values["restore"]),
    )  # fmt: skip
    batch = BatchExtent()
    inputs = (
        InputSpec("x", TensorType(DType.F32, (batch, FEATURES)), False, None, None, span),
        InputSpec("label", TensorType(DType.U8, (batch,)), True, 0, CLASSES, span),
    )
    parameters = tuple(
        ParameterSpec(path, Role.PARAMETER, TensorType(DType.F32, shape), EMPTY, span)
        for path, shape in (("dense.W", (FEATURES, CLASSES)), ("dense.b", (CLASSES,)))
    )
    settings = tuple(Setting(key, values[key], origins[key], key == "optimizer.lr") for key in values)
    return Program(
        "Small",
        "Small",
        (source,),
        settings,
        inputs,
        ("logits",),
        parameters,
        EMPTY,
        Graph("inference", (), (), (LOGITS,)),
        plan,
        (),
    )


def allocate(program: Program, options: Options) -> SmallTensors:
    del options
    tensors = SmallTensors()
    for spec in program.parameters:
        tensors.arrays[spec.path] = np.zeros(at_batch(spec.type.shape, 1), np.float32)
        tensors.arrays[f"{spec.path}.velocity"] = np.zeros(at_batch(spec.type.shape, 1), np.float32)
    return tensors


def initialise(program: Program, tensors: SmallTensors, seed: int, options: Options) -> None:
    del options
    random = np.random.default_rng(seed)
    for spec in program.parameters:
        tensors[spec.path][...] = random.standard_normal(at_batch(spec.type.shape, 1)) * 0.1


@dataclass
class SmallExecutable:
    """Counts its calls, so that tests see how steps are divided."""

    kind: GraphKind
    calls: int = 0

    def run(self, steps: Steps) -> Results:
        with np.errstate(all="ignore"):
            return self._run(steps)

    def _run(self, steps: Steps) -> Results:
        self.calls += 1
        tensors = steps.tensors
        scalars: dict[str, list[float]] = {"loss": [], "accuracy": []}
        outputs: list[Array] = []
        nonfinite: list[tuple[str, int]] = []
        for step in steps.each():
            chosen = step.rows
            x = step.data["x"][chosen]
            logits = x @ tensors["dense.W"] + tensors["dense.b"]
            outputs.append(logits)
            if self.kind == PREDICTION:
                continue
            label = step.data["label"][chosen].astype(np.int64)
            share = np.exp(logits - logits.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            loss = float(-np.log(share[np.arange(len(chosen)), label]).mean())
            scalars["loss"].append(loss)
            scalars["accuracy"].append(float((logits.argmax(axis=1) == label).mean()))
            if not np.isfinite(loss):
                nonfinite.append(("loss", step.first_step))
            if self.kind == TRAINING:
                share[np.arange(len(chosen)), label] -= 1
                gradients = {"dense.W": x.T @ share / len(chosen), "dense.b": share.mean(axis=0)}
                for path, gradient in gradients.items():
                    velocity = tensors[f"{path}.velocity"]
                    velocity[...] = np.float32(0.9) * velocity + gradient
                    tensors[path][...] -= np.float32(steps.settings["optimizer.lr"]) * velocity
        arrays = {"logits": np.concatenate(outputs)} if self.kind == PREDICTION else {}
        named = {} if self.kind == PREDICTION else {name: np.array(values) for name, values in scalars.items()}
        return Results(named, arrays, tuple(nonfinite))


@dataclass(frozen=True)
class SmallPlan:
    """The totals of a plan."""

    flops_forward: int = 2 * FEATURES * CLASSES
    flops_step: int = 6 * FEATURES * CLASSES


EXECUTABLES: dict[GraphKind, type[SmallExecutable]] = {}  # those of tests, in place of `SmallExecutable`


class SmallTarget:
    """A target that has one machine."""

    def machine(self, options: Options, runs: bool = True) -> Machine:
        return MACHINE


FUNCTIONS = {
    "data_dimensions": lambda program: {},
    "load": load,
    "load_text": load_text,
    "allocate": allocate,
    "initialise": initialise,
    "memory_needed": lambda program, kinds, options: {driver.VALUES: 0, driver.OPTIMIZER_STATES: 0},
    "compile_ahead": lambda program, kinds, options: 0,
    "compile_program": lambda program, kind, options: EXECUTABLES.get(kind, SmallExecutable)(kind),
}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put this driver in the place of the compiler's for one test."""
    for name, function in FUNCTIONS.items():
        monkeypatch.setattr(driver, name, function)
    monkeypatch.setattr("compiler.inspection.plan.plan", lambda program, options: SmallPlan())
    monkeypatch.setattr("compiler.targets.registry.kernel_target_of", lambda options: SmallTarget())
    # nothing is known of where a value comes from
    monkeypatch.setattr("compiler.diagnosis.nonfinite.explain_step", lambda *_: None)


def rows_of(count: int, seed: int = 1) -> tuple[Array, Array]:
    """Separable rows: features and labels."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, FEATURES)).astype(np.float32)
    return x, (x @ np.array([1.0, -2.0, 0.5]) > 0).astype(np.uint8)
