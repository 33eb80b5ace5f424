"""Trainings by several processes through MPI: the same bits in any number, and failures that end all by name."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from killing import write_project

from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
LAUNCHER = Path(sys.executable).with_name("mpiexec")
pytestmark = pytest.mark.skipif(not LAUNCHER.is_file(), reason="mpiexec is not installed beside Python")
SHARDS, LONG = 8, "4000"
SECONDS = 240.0  # of a test whose machine has other work
DLC = (sys.executable, "-P", "-m", "runtime.cli", "train")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with statistics, draws and two buckets of gradients, whose last batches have fewer rows than shards, and
    `alone`, its run."""
    folder = tmp_path_factory.mktemp("processes")
    write_project(folder, epochs=2)
    text = (folder / "model.dl").read_text().replace("batch = 8", f"batch = 9\n    shards = {SHARDS}")
    text = text.replace("|> dense(3)", "|> dense(400) |> relu |> dense(400) |> relu |> dense(3)")
    (folder / "model.dl").write_text(text)
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "alone")]) == 0
    return folder


class Launched:
    """A training in so many processes, started by `mpiexec` or by dlc; what is left of it is killed at the end."""

    def __init__(
        self, folder: Path, processes: int, *words: str, silence: float = 30.0, by_mpiexec: bool = True
    ) -> None:
        command = [str(LAUNCHER), "-n", str(processes), *DLC] if by_mpiexec else [*DLC, "--processes", str(processes)]
        command += [*words, "--threads", "1"]
        self._errors = folder / f"errors-{len(list(folder.glob('errors-*')))}"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "DLC_PEER_SILENCE": str(silence)},
            )

    @property
    def ranks(self) -> list[int]:
        """The processes that train, in the order of their ranks."""
        found: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
                parent = os.getsid(int(entry.name)) == self._process.pid or self._is_below(int(entry.name))
            except OSError:
                continue
            rank = next((word.split(b"=")[1] for word in environment if word.startswith(b"PMI_RANK=")), None)
            if rank is not None and b"runtime.cli" in command and parent:
                found[int(rank)] = int(entry.name)
        return [found[rank] for rank in sorted(found)]

    def _is_below(self, process: int) -> bool:
        while process > 1:
            if process == self._process.pid:
                return True
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        return False

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """What Ctrl-C at a terminal does: a signal to the launcher."""
        self._process.send_signal(number)

    def end(self, seconds: float = SECONDS) -> tuple[int, str]:
        """The exit code and all that was printed to standard error."""
        try:
            code = self._process.wait(seconds)
        finally:
            for process in (*self.ranks, self._process.pid):
                try:
                    os.kill(process, signal.SIGKILL)
                except OSError:
                    continue
        return code, self._errors.read_text()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wait_for(path: Path) -> None:
    end = time.monotonic() + SECONDS
    while not (path.is_dir() and any(path.glob("0*"))):
        assert time.monotonic() < end, f"{path} stays empty"
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [3, 4, 8])  # 2 are in the next test
def test_any_number_of_processes_writes_the_same_files(project: Path, processes: int) -> None:
    out = f"in-{processes}"
    code, errors = Launched(project, processes, "model.dl", "--out", out).end()
    assert code == 0, errors
    assert files(project / out / "checkpoints") == files(project / "alone" / "checkpoints")
    assert f"in {processes} processes" in (project / out / "events.log").read_text()


def test_processes_that_may_not_share_memory_send_messages(project: Path) -> None:
    """A system without files in memory: the same files, and one note that says it."""
    without = "import os, sys; del os.memfd_create; from runtime.cli.main import main; sys.exit(main())"
    launched = [str(LAUNCHER), "-n", "2", sys.executable, "-P", "-c", without, "train", "model.dl", "--threads", "1"]
    done = subprocess.run(
        [*launched, "--out", "apart-2"], cwd=project, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("exchange by messages (this system has no files in memory)") == 1
    assert files(project / "apart-2" / "checkpoints") == files(project / "alone" / "checkpoints")


def test_a_command_starts_processes_itself_in_the_number_that_is_given_last(project: Path) -> None:
    command = [*DLC, "model.dl", "--out", "started", "--processes", "3", "--processes=2", "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"event": "end"') == 1
    assert files(project / "started" / "checkpoints") == files(project / "alone" / "checkpoints")
    assert "in 2 processes" in (project / "started" / "events.log").read_text()


def test_a_dry_run_of_several_processes_trains_in_none(project: Path) -> None:
    code, said = Launched(project, 2, "model.dl", "--dry-run", "--epochs", LONG).end()
    assert code == 0, said
    assert said.count("nothing was trained or written") == 1
    assert "ends all" not in said


def test_the_first_process_serves_the_page_at_the_given_port(project: Path, tmp_path: Path) -> None:
    words = ("model.dl", "--view", "--port", "0", "--out", str(tmp_path / "run"))
    code, said = Launched(project, 2, *words).end()
    assert code == 0, said
    assert said.count("page: http") == 1


def test_an_interrupted_training_goes_on_in_another_number(project: Path) -> None:
    started = Launched(project, 3, "model.dl", "--out", "broken", "--epochs", "6")
    wait_for(project / "broken" / "checkpoints")
    started.interrupt()
    code, errors = started.end()
    assert code == 130, errors
    assert "--resume broken" in errors
    code, errors = Launched(project, 2, "--resume", "broken").end()
    assert code == 0, errors
    assert main(["train", str(project / "model.dl"), "--out", str(project / "whole"), "--epochs", "6"]) == 0
    newest = [newest_checkpoint(project / run / "checkpoints").path for run in ("broken", "whole")]
    for name in ("weights.safetensors", "optimizer.safetensors", "position.json"):
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes()


def test_a_killed_process_ends_all(project: Path) -> None:
    """At any moment; the last checkpoint is whole, and the run goes on from it."""
    draw = random.Random()
    started = Launched(project, 3, "model.dl", "--out", "killed", "--epochs", LONG)
    wait_for(project / "killed" / "checkpoints")
    time.sleep(draw.uniform(0.0, 1.0))
    rank = draw.randrange(3)
    process = started.ranks[rank]
    os.kill(process, signal.SIGKILL)
    begin = time.monotonic()
    code, errors = started.end(60)
    assert code != 0, errors
    assert f"rank {rank} on " in errors
    assert f"(process {process})" in errors
    assert time.monotonic() - begin < 5
    assert newest_checkpoint(project / "killed" / "checkpoints").notes == ()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_command_that_started_a_killed_process_says_how_to_go_on(project: Path, rank: int) -> None:
    out = f"lost-{rank}"
    started = Launched(project, 2, "model.dl", "--out", out, "--epochs", LONG, by_mpiexec=False)
    wait_for(project / out / "checkpoints")
    process = started.ranks[rank]
    os.kill(process, signal.SIGKILL)
    code, errors = started.end(60)
    assert code == 1
    told = " ".join(errors[errors.index("error: ") :].split())
    assert re.match(rf"error: rank {rank} on \S+ \(process {process}\) was ended by signal 9 \(Killed\)", told), told
    assert f"its last checkpoint is whole: dlc train --resume {out} --processes 2" in told
    assert newest_checkpoint(project / out / "checkpoints").notes == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_that_started_processes_reaches_them(project: Path, number: signal.Signals) -> None:
    out = f"interrupted-{number}"
    started = Launched(project, 2, "model.dl", "--out", out, "--epochs", LONG, by_mpiexec=False)
    wait_for(project / out / "checkpoints")
    started.interrupt(number)
    code, errors = started.end(60)
    assert code == 130, errors
    assert f"--resume {out}" in errors
    assert "was ended" not in errors


def test_processes_end_with_the_command_that_started_them(project: Path) -> None:
    started = Launched(project, 2, "model.dl", "--out", "orphan", "--epochs", LONG, by_mpiexec=False)
    wait_for(project / "orphan" / "checkpoints")
    assert len(started.ranks) == 2
    started.interrupt(signal.SIGKILL)
    end = time.monotonic() + 60
    try:
        while started.ranks:
            assert time.monotonic() < end, "the processes go on alone"
            time.sleep(0.1)
    finally:
        started.end(60)
    assert newest_checkpoint(project / "orphan" / "checkpoints").notes == ()


def test_a_process_that_stops_answering_is_named(project: Path) -> None:
    started = Launched(project, 3, "model.dl", "--out", "stalled", "--epochs", LONG, silence=2)
    wait_for(project / "stalled" / "checkpoints")
    os.kill(started.ranks[1], signal.SIGSTOP)
    code, errors = started.end()
    assert code != 0
    assert "rank 1 on " in errors
    assert "has not answered for 2 s" in errors


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "optimizer.lr=0.5"], "another `optimizer.lr` than rank 0 on .*: 0.5 and 0.01"),
        (["--set", "stream=100"], "another `stream` than rank 0 on .*: 100 and none"),
        (["--target", "reference"], "another target than rank 0 on .*: reference and native"),
        (["--dtype", "f64"], "another precision than rank 0 on .*: f64 and f32"),
        (["--on-nan", "skip"], "another `--on-nan` than rank 0 on .*: skip and stop"),
        (["--dry-run"], "another `--dry-run` than rank 0 on .*: true and false"),
        (["--nonsense"], "unexpected argument `--nonsense`"),
        (["--processes", "2"], "--processes does not go with mpiexec"),
    ],
)
def test_what_one_process_was_told_otherwise_is_named(project: Path, words: Sequence[str], told: str) -> None:
    second = [*("-n", "1"), *DLC, "model.dl", "--out", "told", *words]
    begin = time.monotonic()
    code, errors = Launched(project, 1, "model.dl", "--out", "told", ":", *second).end(60)
    assert code not in (0, 130)
    assert re.search(told, " ".join(errors.split())), errors
    assert "fault of dlc" not in errors
    assert not (project / "told").exists()
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["check", "model.dl"]])
def test_a_process_with_another_command_keeps_none_waiting(project: Path, words: Sequence[str]) -> None:
    second = [*("-n", "1"), *DLC[:-1], *words]
    begin = time.monotonic()
    done = subprocess.run(
        [str(LAUNCHER), "-n", "1", *DLC, "model.dl", "--out", "waiting", ":", *second],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    told = " ".join(done.stderr.split())
    command = " ".join(["dlc", *words[: 1 + (words[0] == "train")]])
    assert re.search(rf"rank 1 on \S+ has another command than rank 0 on \S+: `{command}` and `dlc train`", told), told
    assert told.count("another command") == 1
    assert not (project / "waiting").exists()
    assert time.monotonic() - begin < 60


def test_a_command_that_all_run_is_that_of_each(project: Path) -> None:
    done = subprocess.run(
        [str(LAUNCHER), "-n", "2", *DLC[:-1], "--version"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("numerics") == 2


def test_processes_that_disagree_are_named(project: Path) -> None:
    other = (project / "model.dl").read_text().replace("hidden = 24", "hidden = 25")
    (project / "other.dl").write_text(other)
    second = [*("-n", "1"), *DLC, "other.dl", "--out", "apart"]
    code, errors = Launched(project, 1, "model.dl", "--out", "apart", ":", *second).end()
    assert code == 1
    assert errors.count("has another") == 1
    assert "has another model file than rank 0" in errors
    assert not (project / "apart").exists()


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["nothing.dl"], "nothing.dl", 2),
        (["model.dl", "--set", "width=3"], "E0610", 1),
        (["model.dl", "--shards", "1"], "2 processes were started, and a batch is one shard", 2),
        (["model.dl", "--overfit", "3"], "--overfit does not go with several processes", 2),
    ],
)
def test_a_mistake_of_all_is_told_once(project: Path, words: Sequence[str], told: str, code: int) -> None:
    found, errors = Launched(project, 2, *words).end()
    assert errors.count(told) == 1, errors
    assert found == code


def test_a_process_that_cannot_read_ends_all(project: Path) -> None:
    """The second process finds no data where it looks."""
    second = [*("-n", "1"), *DLC, "model.dl", "--data", "nowhere.csv"]
    begin = time.monotonic()
    code, errors = Launched(project, 1, "model.dl", "--out", "unread", ":", *second).end()
    assert code not in (0, 130)
    assert "rank 1 on " in errors
    assert "nowhere.csv" in errors
    assert time.monotonic() - begin < 60
