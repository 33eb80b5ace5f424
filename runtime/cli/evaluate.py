"""Measure loss and metrics of a trained model, over its test part unless told otherwise."""

from __future__ import annotations

from pathlib import Path

from runtime.analysis.evaluation_data import PARTS, evaluation_data
from runtime.cli.common import expect_settings_of_use, print_json, trained_of
from runtime.cli.parser import Namespace, Parser
from runtime.inference.evaluation import evaluator_of, keys_of_evaluations
from runtime.reporting.terminal import say, say_notes
from runtime.reporting.units import measure
from runtime.train.events import prefixed

EXAMPLES = (
    "dlc eval runs/Digits-20260101-120000",
    "dlc eval RUN --data other.csv --json",
    "dlc eval model.dl --weights weights.safetensors --data data/mnist",
)


def configure(parser: Parser) -> None:
    parser.add_trained()
    parser.add_option("--data", "PATH", "measure on this data instead", type=Path)
    parser.add_option("--part", "PART", "train, validation or test (default: the last there is)", choices=PARTS)
    parser.add_json()


def run(arguments: Namespace) -> int:
    trained = trained_of(arguments, arguments.data)
    expect_settings_of_use(arguments.settings, trained.program, read=keys_of_evaluations(trained.program))
    chosen = evaluation_data(trained, arguments.data, arguments.part)
    say_notes(chosen.notes)
    evaluator = evaluator_of(trained.program, trained.options, chosen.training_rows, trained.sizes)
    scalars = evaluator.evaluate(trained.tensors, chosen.part) or {}
    if arguments.json:
        rows = len(chosen.part.rows)
        found = {"model": trained.program.model, "data": chosen.name, "rows": rows, **prefixed("", scalars)}
        print_json(found, indent=None)
    else:
        say(f"{trained.program.model} on {chosen.name}, {len(chosen.part.rows)} rows")
        for name, value in scalars.items():
            print(f"{name}  {measure(value)}")
    return 0
