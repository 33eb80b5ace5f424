"""Compute tensors of a past step of a run again, bit for bit, from the nearest checkpoint or from the start.

PATH is a tensor of the run (hidden.dense.W), a state of its optimizer (hidden.dense.W:m), the gradient of a parameter
(hidden.dense.W:gradient), a result (loss), a layer (hidden.dense), or a line (model.dl:12). Parameters and states are
as after N updates; the others are of the step that follows. Nothing in the run changes. Where the run was computed by
another version of the numerics, a warning says so, and `--json` has `"same_bits": false`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import UsageError
from compiler.types import array_type, word_of
from runtime.cli.common import print_json
from runtime.cli.parser import MOST_THREADS, Namespace, Parser
from runtime.inference.prediction import npz_bytes
from runtime.reporting.terminal import print_wrapped, say, say_notes
from runtime.support.files import finite, write_output
from runtime.train.replay import Replay, replay

EXAMPLES = (
    "dlc replay RUN --step 400",
    "dlc replay RUN --step 400 --show hidden.dense.W:gradient --show hidden.dense",
    "dlc replay RUN --step 400 --show model.dl:12 --out step400.npz",
)


def configure(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_whole("--step", "replay the step after N updates", least=0, required=True)
    parser.add_repeated("--show", "PATH", "the tensor to compute; may be repeated (default: loss)")
    parser.add_option("--out", "FILE", "write the arrays to this .npz file")
    parser.add_whole("--threads", "the number of threads (default: all)", most=MOST_THREADS)
    parser.add_json()
    parser.set_defaults(no_fuse=False, without=[], dtype="f32", verify=False, persistent_loops=False, cache_dir=None)
    parser.set_defaults(target="native", runs_code=True, no_tuning=False)


def run(arguments: Namespace) -> int:
    if arguments.out is not None and Path(arguments.out).suffix != ".npz":
        raise UsageError(f"the format of {arguments.out} is not known", "give a name that ends in .npz")
    from runtime.cli.common import compile_options  # heavy; `--help` must not pay for it

    found = replay(Path(arguments.run), arguments.step, arguments.show or ["loss"], compile_options(arguments))
    say_notes(found.warnings, "warning")
    say_notes(found.notes)
    if arguments.json:
        print_json(_as_json(found))
    else:
        source = f"the checkpoint of step {found.start}" if found.start else "the start"
        say(f"step {found.step} (epoch {found.epoch}), from {source}")
        width = max(map(len, found.tensors), default=0)
        for name, array in found.tensors.items():
            print_wrapped(f"{name:{width}}  {_summary(array)}")
    if arguments.out is not None:
        write_output(Path(arguments.out), npz_bytes(found.tensors))
        say(f"written to {arguments.out}")
    return 0


def _summary(array: Array) -> str:
    if array.ndim == 0:
        return f"{word_of(array.dtype)} {float(array):.9g}"
    size, least, mean, most, others = _statistics(array)
    text = f"{array_type(array)}  {size} elements"
    if size > others:
        text += f", from {least:.6g} to {most:.6g}, mean {mean:.6g}"
    return text + (f", {others} not finite" if others else "")


def _statistics(array: Array) -> tuple[int, float, float, float, int]:
    """The number of elements; of the finite ones the least, the mean and the largest; the number of the others."""
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return array.size, math.nan, math.nan, math.nan, array.size
    return array.size, float(finite.min()), float(finite.mean()), float(finite.max()), array.size - finite.size


def _as_json(found: Replay) -> dict[str, object]:
    return {
        "step": found.step,
        "epoch": found.epoch,
        "from_step": found.start,
        "same_bits": found.same_bits,
        "numerics": list(found.numerics),
        "tensors": {name: _array_as_json(array) for name, array in found.tensors.items()},
    }


def _array_as_json(array: Array) -> dict[str, object]:
    size, least, mean, most, others = _statistics(array)
    keys = ("min", "mean", "max")
    numbers = dict(zip(keys, map(finite, (least, mean, most)), strict=True))
    return {"type": word_of(array.dtype), "shape": list(array.shape), "elements": size, **numbers, "not_finite": others}
