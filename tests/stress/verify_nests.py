"""Says which laws of their memory are proved of the nests of networks, for every batch, and which are not.

    python tests/stress/verify_nests.py [--models vgg,zoo/lenet5] [--machines avx2,neon] [--infer] [--keep FILE]

The nests are those of a step of training, or of prediction with `--infer`, of the models of `examples` and of
`benchmarks/zoo`. The laws are those of `compiler/nest/verify_memory.py`. Each nest without a proof is printed with the
laws in question and an access; the exit status is 1 if one may leave its memory.

A nest is asked for once for each different call, in whichever model it is. With `--keep`, answers are kept in a file,
from which a run that was interrupted goes on; those of another version of the verifier do not count.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks")]

from compiler import driver  # noqa: E402
from compiler.driver import Options  # noqa: E402
from compiler.errors.diagnostics import SourceError, UsageError  # noqa: E402
from compiler.machine import CHOICES  # noqa: E402
from compiler.nest.call import Call  # noqa: E402
from compiler.nest.ir import Nest  # noqa: E402
from compiler.nest.printer import name_of, print_nest  # noqa: E402
from compiler.nest.verify_memory import BOUNDS, Law, unproved  # noqa: E402
from compiler.programs.kinds import PREDICTION, TRAINING  # noqa: E402
from compiler.programs.stages import graph_of, prepared, scheduled  # noqa: E402
from compiler.targets.lowered import Lowered  # noqa: E402
from compiler.targets.registry import kernel_target_of  # noqa: E402
from compiler.targets.verify_nests import calls_of  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from starts import Source, sources  # noqa: E402

Doubts = dict[str, str]
"""By the name of a law without a proof: the address of an access, or nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", help="names such as vgg,zoo/lenet5; all of them if there are none")
    parser.add_argument("--machines", default="avx512,avx2,neon", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--infer", action="store_true", help="prediction instead of training")
    parser.add_argument("--laws", help="names such as once,stored; all of them if there are none")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="of answers, one a line")
    arguments = parser.parse_args()
    laws = frozenset(Law[name.upper()] for name in arguments.laws.split(",")) if arguments.laws else frozenset(Law)
    answers = Answers(laws, arguments.keep)
    outside = 0
    with tempfile.TemporaryDirectory() as folder:
        every = sources(Path(folder))
        names = arguments.models.split(",") if arguments.models else [*every]
        if unknown := [name for name in names if name not in every]:
            parser.error(f"no model is called {', '.join(unknown)}; there are {', '.join(every)}")
        for machine in arguments.machines.split(","):
            for name in names:
                outside += check(every[name], machine, arguments.infer, answers)
    sys.exit(outside > 0)


class Answers:
    """The doubts about nests, by a digest of their text, their call and the laws in question."""

    def __init__(self, laws: frozenset[Law], file: Path | None) -> None:
        self._laws, self._file = laws, file
        self._verifier = b"".join(path.read_bytes() for path in sorted((_ROOT / "compiler/nest").glob("*.py")))
        lines = file.read_text().splitlines() if file is not None and file.exists() else []
        self._known: dict[str, Doubts] = dict(map(json.loads, lines))

    def of(self, nest: Nest, call: Call) -> Doubts:
        texts = *map(print_nest, (nest,) if nest.before is None else (nest, nest.before)), repr(call)
        names = " ".join(sorted(law.name for law in self._laws))
        key = sha256("\n".join((*texts, names)).encode() + self._verifier).hexdigest()
        if key not in self._known:
            found = unproved(nest, call, self._laws)
            doubts = {d.law.name: "" if d.access is None else name_of(d.access.address) for d in found}
            self._known[key] = doubts
            if self._file is not None:
                with self._file.open("a") as kept:
                    kept.write(json.dumps([key, doubts]) + "\n")
        return self._known[key]


def lowered(source: Source, machine: str, infer: bool) -> Lowered:
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    options = driver.options_of(program, Options(batch=program.plan.usual_rows if program.plan else 1))
    ready = prepared(graph_of(program, PREDICTION if infer or not program.plan else TRAINING, options), options)
    plan = scheduled(ready, options, CHOICES[machine])
    return kernel_target_of(options).lower(ready, plan, CHOICES[machine], options.batch, keeps_nests=True)


def check(source: Source, machine: str, infer: bool, answers: Answers) -> int:
    """Print the doubts of a model. The result is how many nests may leave their memory."""
    found, outside, longest, begin = Counter[str](), 0, 0.0, time.monotonic()
    try:
        program = lowered(source, machine, infer)
    except (SourceError, UsageError) as error:
        print(f"{source.name}, {machine}: not compiled: {error}", flush=True)
        return 0
    calls = calls_of(program)
    for symbol, call in calls:
        before = time.monotonic()
        doubts = answers.of(program.nests[symbol], call)
        longest = max(longest, time.monotonic() - before)
        outside += any(Law[law] in BOUNDS for law in doubts)
        found.update(doubts.keys())
        for law, address in doubts.items():
            print(f"  {symbol}: {law.lower()} {address}", flush=True)
    left = ", ".join(f"{law.lower()} {count}" for law, count in sorted(found.items())) or "all laws are proved"
    took = f"{time.monotonic() - begin:.0f} s, longest {longest:.1f}"
    print(f"{source.name}, {machine}: {len(calls)} calls in {took}: {left}", flush=True)
    return outside


if __name__ == "__main__":
    main()
