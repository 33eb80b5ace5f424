"""How long `dlc export --to c` takes, from process start to end with an empty cache, for every example.

    python benchmarks/exports.py [--models gpt,vgg] [--rounds 3] [--json]

Seconds on the clock, the median of the rounds, without and with the training step; and those of all processes on
processors with it. The bytecode of Python is there, as it is where dlc is installed. The weights are those from which a
training starts: data is not needed. Experiments that train another model of the same file are left out, as are files
that other tools are asked about.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from compiler import driver  # noqa: E402
from compiler.driver import Options  # noqa: E402
from run import machine  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from runtime.runs.tensor_files import replace_tensors  # noqa: E402
from starts import EXAMPLES, Source, sources  # noqa: E402

FORMS = {"predict": [], "train": ["--training", "--set", "steps=1000"]}  # schedules ask for the length


def write_start_weights(source: Source, file: Path) -> None:
    """The weights and states that a training of the model starts from."""
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    options = driver.options_of(program, Options(batch=1))
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 1, options)
    kept = [spec.path for spec in program.parameters if spec.role.value in ("parameter", "state")]
    replace_tensors(file, {path: tensors[path] for path in kept})


def export(source: Source, weights: Path, form: str, folder: Path, bytecode: Path) -> tuple[float, float] | None:
    """Seconds on the clock, and on processors; None where the command refuses, as a step of several batches."""
    words = ["export", str(source.file), "--weights", str(weights), "--to", "c", *FORMS[form]]
    words += ["--experiment", source.experiment] if source.experiment else []
    environment = _environment(bytecode) | {"DLC_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-m", "runtime.cli", *words, "-o", str(folder / "out")]
    before, begun = _spent(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    lasted = time.perf_counter() - begun
    if done.returncode:
        print(f"{source.name}, {form}: {done.stderr.strip()}", file=sys.stderr, flush=True)
        return None
    return lasted, _spent() - before


def write_bytecode(folder: Path) -> None:
    """Compile the modules of Python, as an installation does."""
    command = [sys.executable, "-m", "compileall", "-q", str(HERE.parent / "compiler"), str(HERE.parent / "runtime")]
    subprocess.run(command, env=_environment(folder), check=True)


def _environment(bytecode: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}


def _spent() -> float:
    """Seconds on processors of the processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="names of examples with commas between them (default: all)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="all rounds, not the table")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="dlc-exports-") as name:
        folder = Path(name)
        known = {n: s for n, s in sources(folder).items() if EXAMPLES in s.file.parents}
        names = arguments.models.split(",") if arguments.models else list(known)
        if unknown := [n for n in names if n not in known]:
            raise SystemExit(f"there is no example {unknown[0]}; known: {', '.join(known)}")
        bytecode = folder / "bytecode"
        write_bytecode(bytecode)
        for model in names:
            weights = folder / "weights.safetensors"
            write_start_weights(known[model], weights)
            for form in FORMS if known[model].experiment else ["predict"]:
                times: list[tuple[float, float]] = []
                for _ in range(arguments.rounds):
                    with tempfile.TemporaryDirectory(dir=folder) as place:
                        spent = export(known[model], weights, form, Path(place), bytecode)
                    times += [spent] if spent is not None else []
                found.setdefault(model, {})[form] = times
                print(f"{model}, {form}: {times}", file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps({"machine": machine(), "exports": found}, indent=1))
        return
    print("| model | predict s | train s | train, s of processors |\n| --- | ---: | ---: | ---: |")
    for model, forms in sorted(found.items(), key=lambda item: -_median(item[1].get("train", []), 0)):
        cells = _median(forms["predict"], 0), *(_median(forms.get("train", []), part) for part in (0, 1))
        print(f"| {model} | {' | '.join(f'{cell:.2f}' if cell else '—' for cell in cells)} |")


def _median(times: list[tuple[float, float]], part: int) -> float:
    return statistics.median(pair[part] for pair in times) if times else 0.0


if __name__ == "__main__":
    main()
