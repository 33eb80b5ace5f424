"""Measures `dlc` beside its peers in one run: Markdown tables on the terminal, everything measured in a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path

from catalogue import CATALOGUE
from compiler.driver import Options
from compiler.targets.registry import kernel_target_of
from jobs import HERE, Place
from measurement import Measurement, Speeds, full_speeds
from peers import PEERS
from pooling import pooled
from processors import kind, model_name
from report import TITLES, as_markdown, ratio_to_best
from rounds import MODES, Plan, measure


def main() -> None:
    arguments = _parser().parse_args()
    plan = Plan(
        models=_choice(arguments.models, tuple(CATALOGUE), "model"),
        modes=_choice(arguments.modes, MODES, "mode"),
        peers=_choice(arguments.peers, PEERS, "peer"),
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        threads=arguments.threads,
        patience=arguments.patience,
    )
    with tempfile.TemporaryDirectory(prefix="dlc-benchmarks-") as folder:
        place = Place(Path(folder), (arguments.cache or Path(folder) / "cache").resolve(), arguments.dlc)
        measurements = measure(plan, place, lambda line: print(line, file=sys.stderr, flush=True))
    full = full_speeds(measurements)
    results = {
        "machine": machine(),
        "plan": asdict(plan),
        "full_gflops": full,
        "ratios": _ratios(measurements, full),
        "measurements": [measurement.as_json(full) for measurement in measurements],
    }
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(as_markdown(pooled([results])), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", help=f"of {', '.join(CATALOGUE)} (default: all)")
    parser.add_argument("--modes", help=f"of {', '.join(MODES)} (default: all)")
    parser.add_argument("--peers", help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each job is run (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a job is timed (default: 2)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all processors")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds that a job waits, at most, for full speed (default: 20)"
    )
    parser.add_argument(
        "--cache", type=Path, help="a folder that keeps compiled code for later runs (default: one for this run)"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmark-results.json"), help="the JSON file")
    parser.add_argument("--dlc", default=f"{sys.executable} -m runtime.cli", help="the command that starts dlc")
    return parser


def _choice(given: str | None, known: Sequence[str], kind: str) -> tuple[str, ...]:
    """The names in `given`, separated by commas, in the order of the list."""
    names = given.split(",") if given else list(known)
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no {kind} {name}; known: {', '.join(known)}")
    return tuple(name for name in known if name in names)


def _ratios(measurements: list[Measurement], full: Speeds) -> dict[str, float | None]:
    """`mode model variant` -> the figure of dlc over that of the best peer."""
    groups: dict[tuple[str, str, str], list[dict[str, object]]] = {}
    for measurement in measurements:
        if measurement.mode in TITLES:
            key = (measurement.mode, measurement.job.model, measurement.variant)
            groups.setdefault(key, []).append(measurement.as_json(full))
    return {" ".join(key).strip(): ratio_to_best(group, TITLES[key[0]][1]) for key, group in groups.items()}


def machine() -> dict[str, object]:
    """Where and with what the figures were measured."""
    information = Path("/proc/cpuinfo").read_text()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "commit": commit or "unknown",
        "kind": kind(information, kernel_target_of(Options()).machine(Options()).name),
        "processor": f"{model_name(information)}, {os.cpu_count()} processors",
        "system": platform.platform(),
        "versions": {name: _version(name) for name in ("torch", "jax", "onnxruntime", "openvino", "llvmlite", "numpy")},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()
