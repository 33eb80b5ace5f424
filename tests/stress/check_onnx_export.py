"""Compares ONNX Runtime with the compiler: exported predictions and training steps of the examples and of the zoo.

    python tests/stress/check_onnx_export.py --models digits,zoo/vit --opsets 17,19,21

Predictions of 1 and 3 rows differ by at most 1e-5 of the largest magnitude of an output (or of 1, where that is
smaller), for each opset. Weights and losses of `--steps` training steps differ by at most 1e-9 in f64, in which a wrong
step stands out from rounding; in f32, losses by at most 1e-3, as steps magnify rounding. Rows are those of the data
where it is there. With `--networks N`, random networks are compared too. A difference ends in exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks"), str(_ROOT / "tests" / "support")]

import numpy as np  # noqa: E402
from keep_bits import rows_of  # noqa: E402
from onnx_models import CLOSE, difference, run, session_of  # noqa: E402
from random_networks import random_network  # noqa: E402

from compiler import driver  # noqa: E402
from compiler.driver import PREDICTION, TRAINING, Options, Steps  # noqa: E402
from compiler.errors.diagnostics import DlcError  # noqa: E402
from runtime.analysis.made_up_steps import rows_for_check  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from runtime.data.part import Part, at_epoch, in_precision, numbered  # noqa: E402
from runtime.exports.model_library import settings_of, training_start  # noqa: E402
from runtime.exports.onnx_file import onnx_file  # noqa: E402
from runtime.inference.model import training_of  # noqa: E402
from runtime.runs.trained import Trained  # noqa: E402
from runtime.train.jobs import fresh_tensors  # noqa: E402
from starts import Source, sources  # noqa: E402

Array: TypeAlias = np.ndarray[Any, Any]
MOST_OF_A_STEP = {"f64": 1e-9, "f32": 1e-3}


@dataclass(frozen=True, slots=True)
class Finding:
    """A comparison: `largest` is the largest difference, of `name`, which should be at most `most`."""

    what: str
    name: str
    largest: float
    most: float

    @property
    def is_bad(self) -> bool:
        return not self.largest <= self.most

    def __str__(self) -> str:
        return f"{'WRONG ' if self.is_bad else ''}{self.what} {self.largest:.1e} ({self.name})"


def findings(source: Source, opsets: list[int], steps: int) -> Iterator[Finding]:
    """The comparisons of a model."""
    trained = _fresh(source, "f32")
    for opset in opsets:
        yield _of_predictions(trained, opset)
    plan = trained.program.plan
    if plan is None or plan.accumulation is not None or not steps:
        return
    yield _of_steps(trained, opsets[-1], steps)
    yield _of_steps(_fresh(source, "f64"), opsets[0], steps)


def _fresh(source: Source, dtype: str) -> Trained:
    """The model with the weights from which its training starts, each a little moved: no bias is 0."""
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    if program.plan is not None and program.plan.steps is None and program.plan.epochs is None:
        program = replace(program, plan=replace(program.plan, epochs=1))
    options = driver.options_of(program, Options(batch=min(rows_of(program), 8), dtype=dtype))
    tensors, random = fresh_tensors(program, options), np.random.default_rng(5)
    for spec in program.parameters:
        if spec.role.value == "parameter":
            start = tensors[spec.path]
            tensors.write(spec.path, (start + random.normal(0, 0.02, start.shape)).astype(start.dtype))
    return Trained(program, tensors, options, None, None, (), training_rows=min(rows_of(program), 8))


def _data(trained: Trained, rows: int) -> dict[str, Array]:
    arrays, _ = rows_for_check(trained.program, None, rows, 7)
    part = in_precision(Part({name: np.array(a) for name, a in arrays.items()}, np.arange(rows)), trained.options.dtype)
    return dict(at_epoch(numbered(trained.program, part).arrays, 0))


def _of_predictions(trained: Trained, opset: int) -> Finding:
    session = session_of(onnx_file(trained, False, opset)[0])
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    found: dict[str, float] = {}
    for rows in (1, 3):
        data = _data(trained, rows)
        steps = Steps(trained.tensors, data, np.arange(rows), rows, settings=settings_of(trained))
        results, got = executable.run(steps), run(session, data)
        for name in trained.program.outputs:
            expected = results.arrays[name] if name in results.arrays else results.scalars[name][-1]
            found[name] = max(found.get(name, 0.0), difference(got[name], np.asarray(expected, got[name].dtype)))
    return _worst(f"opset {opset}", found, CLOSE)


def _of_steps(trained: Trained, opset: int, count: int) -> Finding:
    """Weights and losses; in f32, losses alone, since an optimizer makes large steps of gradients that are noise."""
    program, options, dtype = trained.program, trained.options, trained.options.dtype
    rows, seed = options.batch, training_of(program).seed
    data, (_, settings) = _data(trained, rows), training_start(trained)
    content, start = onnx_file(trained, True, opset)
    session, state = session_of(content), {name: np.array(array) for name, array in start.values.items()}
    reference = fresh_tensors(program, options)
    for name, array in state.items():
        reference.write(name, array)
    step, found = driver.compile_program(program, TRAINING, options), dict[str, float]()
    for number in range(count):
        got = run(session, {**data, **state, "step": np.array(number, np.int64)})
        state = {name: got.get(f"{name}:new", array) for name, array in state.items()}
        results = step.run(Steps(reference, data, np.arange(rows), rows, number, seed, settings))
        expected = results.scalars["loss"].astype(got["loss"].dtype)[0]
        found[f"loss {number}"] = difference(got["loss"], expected)
    if dtype == "f64":
        found |= {name: difference(state[name], reference[name]) for name in reference.names()}
    return _worst(f"steps in {dtype}", found, MOST_OF_A_STEP[dtype])


def _worst(what: str, found: Mapping[str, float], most: float) -> Finding:
    name = max(found, key=lambda one: found[one])
    return Finding(what, name, found[name], most)


def _networks(folder: Path, count: int) -> Iterator[Source]:
    for seed in range(count):
        file = folder / f"network{seed}.dl"
        file.write_text(random_network(seed))
        yield Source(f"network {seed}", file, None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="names of models, separated by commas (default: all)")
    parser.add_argument("--without", default="", help="names of models to leave out, separated by commas")
    parser.add_argument("--opsets", default="17,19,21")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--networks", type=int, default=0, help="how many random networks")
    arguments = parser.parse_args()
    chosen = None if arguments.models is None else arguments.models.split(",")
    opsets, failures = [int(opset) for opset in arguments.opsets.split(",")], 0
    with tempfile.TemporaryDirectory() as name:
        known = [s for s in sources(Path(name)).values() if s.name not in arguments.without.split(",")]
        listed = known if chosen is None else [source for source in known if source.name in chosen]
        for source in (*listed, *_networks(Path(name), arguments.networks)):
            try:
                for finding in findings(source, opsets, arguments.steps):
                    failures += finding.is_bad
                    print(f"{source.name}: {finding}", flush=True)
            except DlcError as error:
                print(f"{source.name}: left out: {error}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
