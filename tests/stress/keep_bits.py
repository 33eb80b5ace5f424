"""Hashes of the weights that each model has after some steps, and of its code: the proof that a change keeps both.

    python tests/stress/keep_bits.py --write before.json     # at one commit
    python tests/stress/keep_bits.py --compare before.json   # at another

Models are those of the zoo and of the examples. The weights are of parameters, states and optimizer states after
`--steps` updates on made-up rows, with the threads of the machine. The code is the LLVM text of all kernels with the
execution plan, for each of `--machines`, whether or not this processor runs it: equal code takes equal time.
`--only code` or `--only weights` leaves the other out, `--models` takes some by name.

A comparison prints each difference, and ends with exit status 1 if there is one. Weights do not depend on the
processor, so a file may come from another one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks")]

import numpy as np  # noqa: E402

from compiler import driver  # noqa: E402
from compiler.driver import Options, Program  # noqa: E402
from compiler.errors.diagnostics import SourceError, UsageError  # noqa: E402
from compiler.machine import CHOICES  # noqa: E402
from compiler.programs.kinds import PREDICTION, TRAINING, GraphKind  # noqa: E402
from compiler.programs.stages import graph_of, prepared, scheduled  # noqa: E402
from compiler.targets.registry import kernel_target_of  # noqa: E402
from runtime.analysis.made_up_steps import CompiledSteps  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from starts import Source, sources  # noqa: E402

_NUMBERS_OF_A_STEP = 2**17  # in the inputs of a step, so that large pictures take seconds and not minutes
_LOCATION = re.compile(r",? !dbg !\d+")
_MACHINES = ("avx2", "avx512", "neon")


def hashes_of(
    source: Source, only: str | None, steps: int, machines: Sequence[str], target: str = Options().target
) -> dict[str, str]:
    """By `weights`, and by graph and machine."""
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    rows = rows_of(program)
    options = driver.options_of(program, Options(batch=rows, target=target))
    found: dict[str, str] = {}
    if only != "weights":
        for kind in (TRAINING, PREDICTION) if program.plan is not None else (PREDICTION,):
            for machine in machines:
                found[f"{kind}, {machine}"] = code_hash(program, kind, options, machine)
    if only != "code" and program.plan is not None:
        found["weights"] = weights_hash(program, rows, options, steps)
    return found


def code_hash(program: Program, kind: GraphKind, options: Options, machine: str) -> str:
    """Of the text of all kernels, and of the plan that says in which order and on which memory they run.

    The lines of source that machine code belongs to do not count, nor do names of kernels, which are hashes of both.
    """
    ready = prepared(graph_of(program, kind, options), options)
    target = kernel_target_of(options)
    made_for = CHOICES[machine]
    code = target.lower(ready, scheduled(ready, options, made_for), made_for, options.batch)
    names = {symbol: _instructions_hash(text, symbol) for symbol, text in code.texts.items()}
    functions = tuple(names.get(symbol, symbol) for symbol in code.manifest.functions)
    return sha256(repr(tuple(_plain(replace(code.manifest, functions=functions)))).encode()).hexdigest()


def _instructions_hash(text: str, symbol: str) -> str:
    """Of what LLVM makes code of: neither locations nor the metadata behind the functions that describe them."""
    lines = (_LOCATION.sub("", line) for line in text.replace(symbol, "").splitlines() if not line.startswith("!"))
    return sha256("\n".join(lines).encode()).hexdigest()


def weights_hash(program: Program, rows: int, options: Options, steps: int) -> str:
    """Of all persistent tensors after so many updates on one batch."""
    training = CompiledSteps(program, "train", rows, options)
    training(steps)
    digest = sha256()
    for name in sorted(training.tensors.names()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(training.tensors[name]).tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Iterator[Any]:
    """What a record says, without the names of its class and fields."""
    if isinstance(value, Enum):
        yield value.value
    elif isinstance(value, tuple):
        for part in value:
            yield tuple(_plain(part))
    elif hasattr(value, "__slots__") and not isinstance(value, str | int | float):
        for name in value.__slots__:
            yield tuple(_plain(getattr(value, name)))
    else:
        yield value


def rows_of(program: Program) -> int:
    usual = program.plan.usual_rows if program.plan is not None else 1
    numbers = max(prod(extent for extent in spec.type.shape if isinstance(extent, int)) for spec in program.inputs)
    return max(1, min(usual, _NUMBERS_OF_A_STEP // numbers))


def differences(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line for each hash that is another one, or that is missing where its model was hashed."""
    for model, found in after.items():
        if model not in before:
            yield f"{model}: not in the earlier file"
            continue
        for part, value in found.items():
            if part not in before[model]:
                yield f"{model}: {part}: not in the earlier file"
            elif before[model][part] != value:
                yield f"{model}: {part}: differs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--write", type=Path, metavar="FILE")
    target.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--only", choices=("code", "weights"))
    parser.add_argument("--models", default="", help="names such as zoo/mlp,digits; all of them if there are none")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--machines", default=",".join(_MACHINES), help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--target", default=Options().target, help="for the weights: native, or gpu-emulator")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = sources(Path(folder))
        chosen = arguments.models.split(",") if arguments.models else list(known)
        found: dict[str, dict[str, str]] = {}
        for name in chosen:
            try:
                machines = arguments.machines.split(",")
                found[name] = hashes_of(known[name], arguments.only, arguments.steps, machines, arguments.target)
            except (SourceError, UsageError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
            print(f"{name}: {', '.join(f'{part} {value[:12]}' for part, value in found[name].items())}", flush=True)
    if arguments.write:
        arguments.write.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    different = list(differences(json.loads(arguments.compare.read_text()), found))
    print("\n".join(different) if different else "no difference")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
