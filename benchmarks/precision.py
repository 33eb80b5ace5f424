"""What a `precision` of products reaches beside f32: LeNet, ResNet-20 and GPT trained both ways, from the same seeds.

    python benchmarks/precision.py --mnist FOLDER --cifar FILE --cifar-test FILE --seeds 3
    python benchmarks/precision.py --precision tf32 --target gpu

Each model of the examples is trained with both settings and the same seeds, start values, order of rows and draws. A
row of the table has what the trained weights reach, as means over the seeds, and the largest difference of a seed
beside how far the seeds lie apart in f32: another seed makes a difference below that as well. Evaluations compute in
f32.
A model whose data is not given is left out. `--share 0.1` trains a tenth of the steps, `--set NAME=VALUE` changes
further settings, and `--only MODEL` trains a single model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its data as options of `dlc train`, its `length`, and the value of the last event to compare."""

    name: str
    value: str
    length: tuple[str, int]
    options: tuple[str, ...] = ()


def subjects(given: argparse.Namespace) -> list[Subject]:
    """The models whose data is at hand."""
    found: list[Subject] = []
    if given.mnist:
        found.append(Subject("lenet", "test_accuracy", ("epochs", 10), ("--data", given.mnist)))
    if given.cifar and given.cifar_test:
        options = ("--data", given.cifar, "--set", f"test={given.cifar_test}")
        found.append(Subject("resnet20", "test_accuracy", ("epochs", 40), options))
    return [*found, Subject("gpt", "val_loss", ("steps", 2000))]


def reached(subject: Subject, precision: str, seed: int, given: argparse.Namespace) -> float:
    """What one training reaches: the value in the last of its events that has it."""
    key, length = subject.length
    with tempfile.TemporaryDirectory() as folder:
        settings = {"precision": precision, "seed": seed, key: max(1, round(length * given.share))}
        chosen = [*(f"{name}={value}" for name, value in settings.items()), *given.set]
        words = [word for setting in chosen for word in ("--set", setting)] + ["--target", given.target]
        command = [sys.executable, "-m", "runtime.cli", "train", str(EXAMPLES / subject.name / "model.dl")]
        command += [*subject.options, *words, "--out", f"{folder}/run", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(float(event[subject.value]) for event in reversed(events) if subject.value in event)


def row(subject: Subject, given: argparse.Namespace) -> str:
    """A row of the table, in Markdown."""
    plain, rounded = (
        [reached(subject, precision, seed, given) for seed in range(given.seeds)]
        for precision in ("f32", given.precision)
    )
    largest = max((b - a for a, b in zip(plain, rounded, strict=True)), key=abs)
    means = " | ".join(f"{mean(values):.4f}" for values in (plain, rounded))
    return f"| {subject.name} | {subject.value} | {means} | {largest:+.4f} | {max(plain) - min(plain):.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="a folder of IDX files, as `idx` reads it")
    parser.add_argument("--cifar", help="a batch of CIFAR-10, or a folder of them")
    parser.add_argument("--cifar-test", help="the batch to test with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the epochs or steps of each example")
    parser.add_argument("--precision", choices=("bf16", "tf32"), default="bf16")
    parser.add_argument("--target", default="native", help="as of `dlc train`")
    parser.add_argument("--set", action="append", default=[], help="a setting of both trainings, as of `dlc train`")
    parser.add_argument("--only", help="the name of a model")
    given = parser.parse_args()
    print(f"| model | value | f32 | {given.precision} | largest difference of a seed | range of seeds in f32 |")
    print("|---|---|---:|---:|---:|---:|")
    for subject in subjects(given):
        if given.only in (None, subject.name):
            print(row(subject, given), flush=True)


if __name__ == "__main__":
    main()
