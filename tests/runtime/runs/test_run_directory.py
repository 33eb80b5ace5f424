"""Run directories: what they hold, who may write, and what is said of folders that are none."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError, Source
from runtime.runs.directory import RunDirectory, create_run, environment, is_in_use, open_run
from runtime.runs.position import Position
from runtime.train.keepers import RunKeeper


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with create_run("x", tmp_path / "run", (Source(str(tmp_path / "m.dl"), "model M { }\n"),)) as made:
        yield made


def test_names_carry_the_time_and_never_collide(tmp_path: Path) -> None:
    runs = [create_run("digits", None, (), tmp_path / "runs") for _ in range(3)]
    names = [run.path.name for run in runs]
    assert len(set(names)) == 3
    assert all(name.startswith("digits-20") for name in names)
    assert runs[0].checkpoints.is_dir()
    for run in runs:
        run.close()


def test_out_names_the_folder_and_must_be_empty(tmp_path: Path) -> None:
    run = create_run("digits", tmp_path / "a" / "b", ())
    run.close()
    assert run.path == tmp_path / "a" / "b"
    (run.checkpoints / "000001-step-1").mkdir()
    with pytest.raises(CheckpointError, match="holds a run") as caught:
        create_run("digits", run.path, ())
    assert "--resume" in caught.value.fix
    with pytest.raises(CheckpointError, match="not empty"):
        create_run("digits", tmp_path, ())


def test_a_run_without_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    sources = (Source(str(tmp_path / "m.dl"), "model M { }\n"),)
    create_run("x", tmp_path / "run", sources).close()
    with create_run("y", tmp_path / "run", sources) as run:
        assert run.notes == (f"{run.path} held a run without a checkpoint, which is replaced",)
        assert run.program.read_text() == "model M { }\n"
        with pytest.raises(CheckpointError, match="holds a run"):
            create_run("z", run.path, sources)  # it is in use


@pytest.mark.parametrize("kept", ["result.json", "notes.txt", "checkpoints/000001-step-9-best/manifest.json", "epochs"])
def test_no_work_is_replaced(kept: str, tmp_path: Path) -> None:
    create_run("x", tmp_path / "run", ()).close()
    if kept == "epochs":
        for step in (9, 18):
            open_run(tmp_path / "run").append_metrics({"step": step})
    else:
        (tmp_path / "run" / kept).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / kept).write_text("")
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(CheckpointError, match="holds a run"):
        create_run("x", tmp_path / "run", ())
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_a_folder_called_like_the_parts_of_a_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "own" / "source").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="not empty"):
        create_run("x", tmp_path / "own", ())
    assert (tmp_path / "own" / "source").is_dir()


def test_sources_are_copied_with_their_folders(tmp_path: Path) -> None:
    main = Source(str(tmp_path / "models" / "main.dl"), 'import "../shared/blocks.dl"\n')
    other = Source(str(tmp_path / "shared" / "blocks.dl"), "# blöcke\n")
    library = Source("<prelude>/layers/dense.dl", "", is_library=True)
    create_run("x", tmp_path / "run", (main, library, other)).close()
    run = open_run(tmp_path / "run")
    copy = open_run(run.path).program
    assert copy.read_text() == main.text
    assert (copy.parent / "../shared/blocks.dl").read_text(encoding="utf-8") == other.text
    assert len(list((run.path / "source").rglob("*.dl"))) == 2


def test_a_program_outside_the_run_is_not_followed(tmp_path: Path, run: RunDirectory) -> None:
    run.write_json("run.json", {"version": 1, "main": "../../secret.dl"})
    (tmp_path / "secret.dl").write_text("")
    with pytest.raises(CheckpointError, match="no copy of its program"):
        _ = run.program


def test_json_round_trip_and_damage(run: RunDirectory) -> None:
    value = {"lr": 0.1 + 0.2, "names": ["ä", None, True], "n": 2**60}
    run.write_json("settings.json", value)
    assert run.read_json("settings.json") == value
    (run.path / "settings.json").write_text('{"lr": ')
    with pytest.raises(CheckpointError, match=r"settings\.json: this is not JSON"):
        run.read_json("settings.json")
    with pytest.raises(CheckpointError, match="no such file"):
        run.read_json("data.json")
    assert not [p for p in run.path.iterdir() if p.name.startswith(".")]


def test_metrics_pass_over_a_torn_last_line(run: RunDirectory) -> None:
    assert run.read_metrics() == []
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "loss": 1 / step})
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 40, "lo')
    assert [r["step"] for r in run.read_metrics()] == [10, 20, 30]
    run.truncate_metrics(20)
    run.append_metrics({"step": 25})
    assert [r["step"] for r in run.read_metrics()] == [10, 20, 25]
    lines = run.metrics.read_text().splitlines()
    run.metrics.write_text("\n".join([lines[0], "garbage", lines[2]]))
    with pytest.raises(CheckpointError, match="line 2 is damaged"):
        run.read_metrics()


def test_events_have_a_time(run: RunDirectory) -> None:
    run.log("started")
    run.log("interrupted")
    lines = (run.path / "events.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["started", "interrupted"]
    assert lines[0].startswith("20")


_HOLDER = """
import sys
from pathlib import Path
from runtime.runs.directory import open_run
run = open_run(Path(sys.argv[1]), for_writing=True)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_run_in_use_names_the_process_and_is_taken_over_after_its_death(run: RunDirectory) -> None:
    with pytest.raises(CheckpointError, match=f"in use by process {os.getpid()}"):
        open_run(run.path, for_writing=True)
    run.close()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert is_in_use(run.path)
        with pytest.raises(CheckpointError) as caught:
            open_run(run.path, for_writing=True)
        here = re.escape(os.uname().nodename)
        assert re.search(rf"in use by process {holder.pid} on {here} since 20\d\d-\d\d-\d\d ", str(caught.value))
        assert f"kill {holder.pid}" in caught.value.fix
        assert open_run(run.path).path == run.path, "reading needs no lock"
    finally:
        holder.kill()
        holder.communicate()
    with open_run(run.path, for_writing=True) as opened:
        assert len(opened.notes) == 1
        assert f"process {holder.pid} on" in opened.notes[0]
        assert "its lock is taken over" in opened.notes[0]
        assert "make sure" not in opened.notes[0]
    with open_run(run.path, for_writing=True) as opened:
        assert opened.notes == (), "a run that was closed has no lock to take over"
    assert not is_in_use(run.path)


def test_a_lock_left_by_another_machine_asks_for_care(run: RunDirectory) -> None:
    run.close()
    left = {"pid": 7, "host": "elsewhere", "since": "2026-01-01T10:00:00+01:00"}
    (run.path / "lock").write_text(json.dumps(left))
    with open_run(run.path, for_writing=True) as opened:
        assert opened.notes == (
            "the run was in use by process 7 on elsewhere since 2026-01-01 10:00:00+01:00, which ended without closing "
            "it; its lock is taken over; make sure that it no longer runs on elsewhere",
        )


def test_paths_that_are_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run("digits", None, (), tmp_path / "runs")
    run.close()
    with pytest.raises(CheckpointError, match="no such run") as caught:
        open_run(Path(str(run.path)[:-1]))
    assert caught.value.fix == f"did you mean {run.path}?"
    with pytest.raises(CheckpointError, match="holds runs, but is none") as caught:
        open_run(tmp_path / "runs")
    assert str(run.path) in caught.value.fix
    with pytest.raises(CheckpointError, match="not a run directory"):
        open_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such run") as caught:
        open_run(Path(run.path.name))
    assert caught.value.fix == f"did you mean {Path('runs') / run.path.name}?"


def test_a_run_of_a_later_version_is_refused(run: RunDirectory) -> None:
    run.write_json("run.json", {"version": 9})
    with pytest.raises(CheckpointError, match="version 9") as caught:
        open_run(run.path)
    assert "update" in caught.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="no permission"):
        create_run("x", tmp_path / "run", ())


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError):
        create_run("x", tmp_path / "file" / "run", ())
    with pytest.raises(CheckpointError):
        create_run("x", tmp_path / "file", ())


def test_the_environment_is_plain_json() -> None:
    described = environment(["dlc", "train", "m.dl"], 2, {"serial_work": 0})
    assert json.loads(json.dumps(described)) == described
    assert described["threads"] == 2
    assert described["python"]


class OneTensor:
    """Tensors of a model with a single weight."""

    def __init__(self) -> None:
        self.values = np.zeros(3, np.float32)

    def names(self) -> tuple[str, ...]:
        return ("W",)

    def __getitem__(self, name: str) -> Array:
        return self.values

    def write(self, name: str, values: Array) -> None:
        self.values[...] = values


def test_a_full_disk_names_the_way_to_go_on(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keeper = RunKeeper(run, OneTensor(), ("W",), seed=0, keep=2)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="disk is full") as caught:
            keeper.save(Position(step=1))
    assert "--resume" not in caught.value.fix, "there is nothing yet to go on from"
    keeper.save(Position(step=2))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="disk is full") as caught:
        keeper.save(Position(step=3))
    assert caught.value.fix == f"free some space; then go on from step 2: dlc train --resume {run.path}"
