"""Says which laws of their memory are proved of the nests of networks, for every batch, and which are not.

    python tests/stress/verify_nests.py [--models vgg,zoo/lenet5] [--machines avx2,neon] [--infer]

The nests are those of a step of training, or of prediction with `--infer`, of the models of `examples` and of
`benchmarks/zoo`. The laws are those of `compiler/nest/verify_memory.py`. Each nest without a proof is printed with the
laws in question and an access; the exit status is 1 if one may leave its memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT)]

from compiler import driver  # noqa: E402
from compiler.driver import Options  # noqa: E402
from compiler.machine import CHOICES  # noqa: E402
from compiler.nest.printer import name_of  # noqa: E402
from compiler.nest.verify_memory import BOUNDS, Law, unproved  # noqa: E402
from compiler.programs.kinds import PREDICTION, TRAINING  # noqa: E402
from compiler.programs.stages import graph_of, prepared, scheduled  # noqa: E402
from compiler.targets.lowered import Lowered  # noqa: E402
from compiler.targets.registry import kernel_target_of  # noqa: E402
from compiler.targets.verify_nests import calls_of  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", help="names such as vgg,zoo/lenet5; all of them if there are none")
    parser.add_argument("--machines", default="avx512,avx2,neon")
    parser.add_argument("--infer", action="store_true", help="prediction instead of training")
    parser.add_argument("--laws", help="names such as once,stored; all of them if there are none")
    arguments = parser.parse_args()
    laws_asked = [Law[name.upper()] for name in arguments.laws.split(",")] if arguments.laws else [*Law]
    names = arguments.models.split(",") if arguments.models else [*all_models()]
    outside = 0
    for machine in arguments.machines.split(","):
        for name in names:
            outside += check(name, machine, arguments.infer, laws_asked)
    sys.exit(outside > 0)


def all_models() -> dict[str, Path]:
    zoo = {f"zoo/{path.stem}": path for path in sorted((_ROOT / "benchmarks/zoo").glob("*.dl"))}
    return {**zoo, **{path.parent.name: path for path in sorted((_ROOT / "examples").glob("*/model.dl"))}}


def lowered(path: Path, machine: str, infer: bool) -> Lowered:
    program = driver.load(path)
    options = driver.options_of(program, Options(batch=program.plan.usual_rows if program.plan else 1))
    ready = prepared(graph_of(program, PREDICTION if infer else TRAINING, options), options)
    plan = scheduled(ready, options, CHOICES[machine])
    return kernel_target_of(options).lower(ready, plan, CHOICES[machine], options.batch, keeps_nests=True)


def check(name: str, machine: str, infer: bool, laws_asked: Collection[Law] = Law) -> int:
    """Print the doubts of a model. The result is how many nests may leave their memory."""
    found, outside, longest, begin = Counter[str](), 0, 0.0, time.monotonic()
    program = lowered(all_models()[name], machine, infer)
    calls = calls_of(program)
    for symbol, call in calls:
        before = time.monotonic()
        doubts = unproved(program.nests[symbol], call, laws_asked)
        longest = max(longest, time.monotonic() - before)
        outside += any(doubt.law in BOUNDS for doubt in doubts)
        laws = {doubt.law.name: doubt.access for doubt in doubts}
        found.update(laws.keys())
        for law, access in laws.items():
            print(f"  {symbol}: {law.lower()} {'' if access is None else name_of(access.address)}", flush=True)
    left = ", ".join(f"{law.lower()} {count}" for law, count in sorted(found.items())) or "all laws are proved"
    print(f"{name}, {machine}: {len(calls)} calls in {time.monotonic() - begin:.0f} s, longest {longest:.1f}: {left}")
    return outside


if __name__ == "__main__":
    main()
