"""Verifies all programs that runs compile of models, and says which laws of their memory are proved for every batch.

    python tests/stress/verify_nests.py [--models vgg,zoo/lenet5] [--machines avx2,neon] [--kinds training,prediction]
        [--set accumulate=2] [--keep FILE] [--report FILE]

The models are those of `examples` and of `benchmarks/zoo`, each experiment of them; the programs those of
`tests/support/all_graphs.py`. Graphs are verified after each pass, then schedules and nests, and all laws of
`compiler/nest/verify_memory.py` are asked of each call of a nest. A call without a proof is printed with the laws in
question and an access. Behind each machine stands how many calls are proved, how many are not, and how many were not
asked, each with the reason; `--report` writes this as JSON. The exit status is 1 if an access may leave its memory, or
something else is refused.

A nest is asked for once for each different call, in whichever model it is. With `--keep`, answers are kept in a file,
from which a run that was interrupted goes on; those of another version of the verifier do not count.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks"), str(_ROOT / "tests" / "support")]

from all_graphs import compilations_of  # noqa: E402

from compiler import driver  # noqa: E402
from compiler.driver import Options  # noqa: E402
from compiler.errors.diagnostics import CompilerBug, SourceError, UsageError  # noqa: E402
from compiler.machine import CHOICES  # noqa: E402
from compiler.nest.call import Call  # noqa: E402
from compiler.nest.ir import Nest  # noqa: E402
from compiler.nest.printer import name_of, print_nest  # noqa: E402
from compiler.nest.verify import verify_nest  # noqa: E402
from compiler.nest.verify_memory import BOUNDS, Law, unproved  # noqa: E402
from compiler.targets.lowered import Lowered  # noqa: E402
from compiler.targets.registry import kernel_target_of  # noqa: E402
from compiler.targets.target import Compilation  # noqa: E402
from compiler.targets.verify_nests import calls_of, left_out  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from starts import Source, sources  # noqa: E402

Doubts = dict[str, str]
"""By the name of a law without a proof: the address of an access, or nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", help="names such as vgg,zoo/lenet5; all of them if there are none")
    parser.add_argument("--machines", default="avx512,avx2,neon", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--kinds", help="first words of programs, such as training,prediction; all if there are none")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every model")
    parser.add_argument("--laws", help="names such as once,stored; all of them if there are none")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="of answers, one a line")
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON of what was verified and what was not")
    arguments = parser.parse_args()
    laws = frozenset(Law[name.upper()] for name in arguments.laws.split(",")) if arguments.laws else frozenset(Law)
    kinds = arguments.kinds and (*arguments.kinds.split(","),)
    settings = tuple((name, value) for name, _, value in (pair.partition("=") for pair in arguments.set))
    totals: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        every = sources(Path(folder))
        names = arguments.models.split(",") if arguments.models else [*every]
        if unknown := [name for name in names if name not in every]:
            parser.error(f"no model is called {', '.join(unknown)}; there are {', '.join(every)}")
        answers = Answers(laws, arguments.keep)
        for machine in arguments.machines.split(","):
            check = Check(machine, answers, kinds, settings)
            for name in names:
                for source in experiments(every[name]):
                    check.model(source)
            totals[machine] = check.counts
            print(f"{machine} in all: {said(check.counts)}", flush=True)
            if arguments.report is not None:
                arguments.report.write_text(json.dumps(totals, indent=1) + "\n")
    sys.exit(any(counts[REFUSED] or counts[OUTSIDE] for counts in totals.values()))


MODELS, PROGRAMS, NOT_THERE, REFUSED = "models", "programs", "models that are not compiled", "programs that are refused"
CALLS, OUTSIDE, NOT_ASKED = "calls with all laws proved", "calls that may leave their memory", "calls not asked: "
WITHOUT = "calls without a proof of "


def said(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def experiments(source: Source) -> list[Source]:
    """A source for each training of a file, or for the bare model."""
    found = re.findall(r"^train (\w+)(?:.*? as (\w+))?", source.file.read_text(), re.MULTILINE)
    return [replace(source, experiment=other or name) for name, other in found] or [source]


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


class Check:
    """What was verified for a machine, counted."""

    def __init__(
        self, machine: str, answers: Answers, kinds: tuple[str, ...], settings: tuple[tuple[str, str], ...]
    ) -> None:
        self.name, self.machine, self.answers = machine, CHOICES[machine], answers
        self.kinds, self.settings = kinds, settings
        self.counts: Counter[str] = Counter()

    def model(self, source: Source) -> None:
        """Verify all programs of an experiment, and print what is without a proof."""
        name = f"{source.name} {source.experiment or ''}, {self.name}"
        before, begin, longest = self.counts.copy(), time.process_time(), 0.0
        try:
            program = driver.load(source.file, source.experiment, self.settings, dimensions_if_there)
            batch = program.plan.usual_rows if program.plan else 1
            options = driver.options_of(program, Options(batch=batch, verify=True))
            for kind, made in compilations_of(program, options):
                if not self.kinds or kind.split(" ")[0].rstrip(",") in self.kinds:
                    longest = max(longest, self.program(f"{name}: {kind}", made))
        except (SourceError, UsageError) as error:
            self.counts[NOT_THERE] += 1
            print(f"{name}: not compiled: {str(error).splitlines()[0]}", flush=True)
            return
        self.counts[MODELS] += 1
        took = f"{time.process_time() - begin:.0f} s of a processor, longest question {longest:.1f}"
        print(f"{name} in {took}: {said(self.counts - before)}", flush=True)

    def program(self, name: str, made: Compilation) -> float:
        """Verify a program. The result is the longest time that a call took."""
        longest = 0.0
        self.counts[PROGRAMS] += 1
        try:
            found = self.lowered(made)
            for nest in found.nests.values():
                verify_nest(nest)
            calls = calls_of(found)
        except CompilerBug as error:
            self.counts[REFUSED] += 1
            print(f"  {name}: refused: {str(error).splitlines()[0]}", flush=True)
            return longest
        self.counts.update({NOT_ASKED + reason: count for reason, count in left_out(found).items()})
        for symbol, call in calls:
            begin = time.process_time()
            doubts = self.answers.of(found.nests[symbol], call)
            longest = max(longest, time.process_time() - begin)
            self.counts[CALLS] += not doubts
            self.counts[OUTSIDE] += any(Law[law] in BOUNDS for law in doubts)
            self.counts.update(WITHOUT + law.lower() for law in doubts)
            for law, address in doubts.items():
                print(f"  {name}: {symbol}: {law.lower()} {address}", flush=True)
        return longest

    def lowered(self, made: Compilation) -> Lowered:
        ready = made.prepared()
        plan = made.scheduled(ready, self.machine)
        return kernel_target_of(made.options).lower(ready, plan, self.machine, made.options.batch, keeps_nests=True)


if __name__ == "__main__":
    main()
