"""Installs `dlc` in a Python for aarch64 that runs under emulation, trains there and here, and compares the weights.

    python tests/stress/emulated_python.py [MODEL] [--folder FOLDER]

It needs Debian or one of its relatives with `qemu-user`. The interpreter and its libraries are packages of Debian for
arm64, unpacked below a folder; the system's own packages stay as they are. The wheel of `dlc` is made of this tree, and
the packages that it depends on are the wheels for aarch64. Then the whole command trains in it: reading, elaboration,
LLVM with its worker processes, threads, checkpoints.

The digits take some 20 seconds to install and 25 to train on two cores; a `--folder` keeps what is installed. It ends
with exit status 1 where a tensor of the newest or of the best checkpoint has other bits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_TREE = Path(__file__).resolve().parents[2]
_EMULATOR = "qemu-aarch64"
_TOOLS = (_EMULATOR, "apt-get", "dpkg-deb")
_PYTHON, _VERSION = "python3.11", "3.11"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APT = """
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
"""
_SOURCE = "deb [signed-by={keys}] http://deb.debian.org/debian bookworm main\n"
_COMMAND = """#!/bin/sh
export PYTHONPATH={site} PYTHONHOME={root}/usr
exec {emulator} -L {root} -0 {here} {root}/usr/bin/{python} "$@"
"""
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
_TRAIN = "import sys; from runtime.cli.main import main; sys.exit(main())"


def ran(command: Sequence[object], environment: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
    """Run a command in a folder; where it fails, its messages are the script's."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(environment or {})}, cwd=folder)
    if done.returncode:
        sys.exit(f"{' '.join(words[:6])} …: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def unpack_python(folder: Path) -> Path:
    """The root folder of an interpreter for aarch64 with its libraries."""
    state = folder / "state"
    for place in (state / "lists" / "partial", folder / "cache" / "archives" / "partial"):
        place.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (folder / "apt.conf").write_text(_APT.format(folder=folder))
    (folder / "sources.list").write_text(_SOURCE.format(keys=_KEYS))
    apt = {"APT_CONFIG": str(folder / "apt.conf")}
    ran(["apt-get", "update"], apt)
    ran(["apt-get", "install", "--download-only", "--yes", _PYTHON, "libstdc++6"], apt)
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        ran(["dpkg-deb", "--extract", package, folder / "root"])
    return folder / "root"


def install(folder: Path) -> Path:
    """The packages: `dlc` as a wheel of this tree, and the wheels for aarch64 that it depends on."""
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    wheels = folder / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    ran([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, _TREE])
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    kind = ["--python-version", _VERSION, "--implementation", "cp", "--only-binary", ":all:"]
    ran([sys.executable, "-m", "pip", "install", "--quiet", "--target", site, *platforms, *kind, *wheels.glob("*.whl")])
    return site


def emulated_python(folder: Path) -> Path:
    """A command that is Python for aarch64 with `dlc` in it, its own child processes included."""
    root = folder / "root"
    if not (root / "usr" / "bin" / _PYTHON).exists():
        unpack_python(folder)
    command = folder / "python3"
    words = {"site": install(folder), "root": root, "emulator": shutil.which(_EMULATOR), "here": command}
    command.write_text(_COMMAND.format(python=_PYTHON, **words))
    command.chmod(0o755)
    return command


def train(python: Path, model: Path, run: Path, environment: Mapping[str, str]) -> float:
    """Train a model from nothing, with a cache of its own; how long it took in seconds."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        ran([python, "-c", _TRAIN, "train", model, "--out", run], {**environment, "XDG_CACHE_HOME": cache}, Path(cache))
    return time.monotonic() - begin


def tensor_files(run: Path) -> dict[str, bytes]:
    """The newest and the best checkpoint: other ones depend on how long a training takes."""
    folders = sorted((run / "checkpoints").iterdir())
    kept = {"newest": folders[-1], "best": next(path for path in folders if path.name.endswith("-best"))}
    return {
        f"{which} ({path.name.partition('-')[2]}) {file.name}": file.read_bytes()
        for which, path in kept.items()
        for file in sorted(path.glob("*.safetensors"))
    }


def compare(model: Path, folder: Path) -> int:
    """Train there and here, print a line for each file of tensors, and count those that differ."""
    emulated = emulated_python(folder)
    with tempfile.TemporaryDirectory() as runs:
        found: list[dict[str, bytes]] = []
        for name, python, environment in (
            ("aarch64, emulated", emulated, {}),
            ("here", Path(sys.executable), {"PYTHONPATH": str(_TREE)}),
        ):
            run = Path(runs, name.partition(",")[0])
            print(f"{name}: trained in {train(python, model, run, environment):.1f} s", flush=True)
            found.append(tensor_files(run))
    there, here = found
    different = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    for name, content in here.items():
        print(f"{name}: {'other bits' if name in different else f'the same {len(content)} bytes'}")
    return len(different)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=_TREE / "examples" / "digits" / "model.dl")
    parser.add_argument("--folder", type=Path, help="where the interpreter is kept; a temporary folder if absent")
    arguments = parser.parse_args()
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        sys.exit(f"there is no {missing[0]}; Debian has it in apt, dpkg and qemu-user")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(compare(arguments.model.resolve(), folder) > 0)


if __name__ == "__main__":
    main()
