"""How long `dlc` takes from process start to the end of the first step, for every example and every model of the zoo.

    python benchmarks/starts.py [--models sentiment,zoo/vit] [--mode infer] [--rounds 3] [--json]

A cold start has an empty cache, the warm one after it what that left; each is a process of its own, and the median
counts. What the stages of the compiler take, one after the other on one thread, is measured once. `--with` adds the
rounds that an earlier run has printed by `--json`; with `--rounds 0`, there are only those.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from jobs import HERE, Job, Outcome, run_command
from measurement import Measurement, full_speeds
from pooling import Record, pooled
from probe import Probe, Probes
from run import machine

EXAMPLES = HERE.parent / "examples"
PATIENCE = 5.0  # seconds that a start waits for full speed, at most
LONG = "bidirectional"
"""A model that no example has: sequences of 400 words."""
LONG_TEXT = """\
## How much a review praises: two layers of LSTM in both directions, then the largest value of each unit over the words.
model Reviews(words = 20000, width = 128, units = 128, stars = 5) {
    input tokens: i32[batch, 400] in 0..words
    h = tokens |> embedding(words, width) |> dropout(0.3)
    h = h |> bidirectional(lstm(units)) |> bidirectional(lstm(units))
    output logits = max(h, axis = 1) |> dropout(0.5) |> dense(stars)
}

train Reviews {
    target label: i32[batch] in 0..stars
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 1e-3)
    clip = global_norm(1.0)
    batch = 32
}
"""
COLD, WARM, STAGES = "cold", "warm", "stages"
VARIANTS = (COLD, WARM, STAGES)


@dataclass(frozen=True, slots=True)
class Source:
    """A model file, and the first experiment in it."""

    name: str
    file: Path
    experiment: str | None


def sources(folder: Path) -> dict[str, Source]:
    """By name: the examples, models of the zoo, and the one of this file, which is written to `folder`."""
    long = folder / f"{LONG}.dl"
    long.write_text(LONG_TEXT)
    found = {_name(file): file for file in sorted(EXAMPLES.glob("*/*.dl"))}
    found |= {f"zoo/{file.stem}": file for file in sorted((HERE / "zoo").glob("*.dl"))} | {LONG: long}
    return {name: Source(name, file, _first_experiment(file)) for name, file in found.items()}


def _name(file: Path) -> str:
    is_alone = len(list(file.parent.glob("*.dl"))) == 1
    return file.parent.name if is_alone else f"{file.parent.name}/{file.stem}"


def _first_experiment(file: Path) -> str | None:
    found = re.search(r"^train (\w+)", file.read_text(), re.MULTILINE)
    return found and found[1]


class Rounds:
    """Starts a source again and again, each time between two probes of the machine's speed."""

    def __init__(self, mode: str, threads: int, folder: Path, probe: Probe) -> None:
        self._mode, self._threads, self._folder, self._probe = mode, threads, folder, probe

    def measure(
        self, chosen: list[Source], variants: list[str], rounds: int, tell: Callable[[str], None]
    ) -> list[Measurement]:
        found = {(s.name, v): self._measurement(s, v) for s in chosen for v in variants}
        for index in range(rounds):
            for source in chosen:
                for variant in variants:
                    if variant == STAGES and index > 0:
                        continue
                    outcome = self._run(source, variant, index)
                    found[source.name, variant].outcomes.append(outcome)
                    times = [value for name, value in outcome.figures.items() if name.endswith("_s")]
                    total = outcome.figures.get("first_s", sum(times))
                    tell(f"round {index + 1}: {source.name}, {variant}: {outcome.error or f'{total:.2f} s'}")
        return list(found.values())

    def _measurement(self, source: Source, variant: str) -> Measurement:
        return Measurement(self._mode, Job("dlc", self._mode, source.name, 0, self._threads, 0.0), variant)

    def _run(self, source: Source, variant: str, index: int) -> Outcome:
        """Only a cold start comes to a folder that is not there yet, and a warm one to what it has left."""
        cache = self._folder / f"{source.name.replace('/', '-')}-{index}{STAGES if variant == STAGES else ''}"
        what = "stages" if variant == STAGES else "start"
        request = json.dumps([what, str(source.file), source.experiment, self._mode, self._threads])
        environment = os.environ | {"DLC_CACHE_DIR": str(cache), "PYTHONPATH": str(HERE.parent)}
        before, _ = self._probe.await_full_speed()
        outcome = run_command([sys.executable, str(HERE / "start_worker.py"), request], environment)
        return replace(outcome, speeds=(before, self._probe.rate()))


COLUMNS = (
    ("cold s", COLD, "first_s"),
    ("load", COLD, "load_s"),
    ("compile", COLD, "compile_s"),
    ("warm s", WARM, "first_s"),
    ("load", WARM, "load_s"),
    ("code", WARM, "compile_s"),
    ("first step", WARM, "step_s"),
    ("graph", STAGES, "graph_s"),
    ("passes", STAGES, "passes_s"),
    ("schedule", STAGES, "schedule_s"),
    ("text", STAGES, "lower_s"),
    ("LLVM", STAGES, "llvm_s"),
    ("kernels", STAGES, "kernels"),
)


def as_markdown(results: Record) -> str:
    """The table of results that were pooled, the slowest cold start first."""
    figures = {(r["job"]["model"], r["variant"]): r["figures"] for r in results["measurements"]}
    names = dict.fromkeys(name for name, _ in figures)
    names = sorted(names, key=lambda name: -figures.get((name, COLD), {}).get("first_s", 0.0))
    rows = [["model", *(title for title, _, _ in COLUMNS)], ["---", *["---:"] * len(COLUMNS)]]
    for name in names:
        rows.append([name, *(_cell(figures.get((name, of), {}), key) for _, of, key in COLUMNS)])
    facts = results["machine"]
    head = f"{facts['date']}, commit {facts['commit']}, {facts['processor']}, {results['plan']['threads']} threads"
    return "\n".join([f"{head}.", "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _cell(figures: dict[str, float], key: str) -> str:
    if key not in figures:
        return "—"
    return f"{figures[key]:.2f}" if key.endswith("_s") else f"{figures[key]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="names as in the table, with commas between them (default: all)")
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument(
        "--only", default=",".join(VARIANTS), help="of cold, warm and stages; warm needs cold (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true", help="everything measured, not the table")
    parser.add_argument("--with", dest="earlier", type=Path, nargs="+", default=[], metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlc-starts-") as folder:
        known = sources(Path(folder))
        names = arguments.models.split(",") if arguments.models else list(known)
        if unknown := [name for name in names if name not in known]:
            raise SystemExit(f"there is no model {unknown[0]}; known: {', '.join(known)}")
        variants = [variant for variant in VARIANTS if variant in arguments.only.split(",")]
        if not variants or variants == [WARM]:
            raise SystemExit(f"--only wants some of {', '.join(VARIANTS)}, and a warm start comes after a cold one")
        rounds = Rounds(arguments.mode, arguments.threads, Path(folder), Probes(PATIENCE).of(arguments.threads))
        chosen = [known[name] for name in names] if arguments.rounds else []
        measured = rounds.measure(chosen, variants, arguments.rounds, partial(print, file=sys.stderr, flush=True))
    results = [json.loads(file.read_text()) for file in arguments.earlier]
    if measured:
        full = full_speeds(measured)
        plan = {"threads": arguments.threads, "seconds": 0.0, "rounds": arguments.rounds}
        records = [measurement.as_json(full) for measurement in measured]
        results.append({"machine": machine(), "plan": plan, "full_gflops": full, "measurements": records})
    together = pooled(results)
    together["plan"] = {"threads": together["plan"]["threads"], "seconds": 0.0}  # as `pooled` takes it again
    print(json.dumps(together, indent=1) if arguments.json else as_markdown(together), end="\n" * arguments.json)


if __name__ == "__main__":
    main()
