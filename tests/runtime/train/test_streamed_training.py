"""Trainings on data that is read block by block: their bits, their memory, their faults, and several processes."""

import errno
import json
import os
import random
import re
import subprocess
import sys
import time
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import final_state, write_project

from compiler.support.trusted_folder import TrustedFolder
from runtime.cli.main import main
from runtime.data.streaming.packs import PackedArray
from runtime.data.streaming.rows import RowFiles
from runtime.runs.checkpoint import newest_checkpoint

DLC = (sys.executable, "-P", "-m", "runtime.cli", "train")
STREAM = ("--set", "stream=100")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path, epochs=3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_block_of_all_rows_gives_the_bits_of_memory(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "model.dl").read_text()
    noise = "augment { x = x |> gaussian_noise(0.1) }"  # whose draws are keyed by the rows in the whole data
    (project / "model.dl").write_text(text.replace("    loss", f"    {noise}\n    loss"))
    assert main(["train", "model.dl", "--out", "memory"]) == 0
    capsys.readouterr()
    assert main(["train", "model.dl", "--out", "block", "--set", "stream=500"]) == 0
    told = capsys.readouterr().err
    assert "500 rows are read in blocks of at most 500" in told
    assert re.search(r"stream +500 +command line", told)
    assert "waited" not in told
    assert files(project / "block" / "checkpoints") == files(project / "memory" / "checkpoints")
    assert json.loads((project / "block" / "settings.json").read_text())["settings"]["stream"]["value"] == 500


TEXT_MODEL = """
model Next(context = 8) {{
    input tokens: i32[batch, context] in 0..vocabulary
    output logits = tokens |> embedding(vocabulary, 6) |> dense(vocabulary)
}}

train Next {{
    data = {data}
    validation = 0.1
    target next: i32[batch, context] in 0..vocabulary
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.01)
    batch = 4
    epochs = 2
}}
"""


@pytest.mark.parametrize("data", ['text("*.txt", stride = 5)', 'lines("*.txt", tokens = "word", min_frequency = 2)'])
def test_texts_give_the_bits_of_memory_and_go_on_with_them(project: Path, data: str) -> None:
    drawn = np.random.default_rng(0)
    for number in range(2):
        lines = [" ".join(drawn.choice(["one", "two", "three.", "été"], 7)) for _ in range(30)]
        (project / f"{number}.txt").write_text("\n".join([*lines, ""]))
    (project / "text.dl").write_text(TEXT_MODEL.format(data=data))
    assert main(["train", "text.dl", "--out", "memory"]) == 0
    assert main(["train", "text.dl", "--out", "block", "--set", "stream=10000"]) == 0
    assert files(project / "block" / "checkpoints") == files(project / "memory" / "checkpoints")
    assert main(["train", "text.dl", "--out", "whole", "--set", "stream=16"]) == 0
    assert main(["train", "text.dl", "--out", "part", "--set", "stream=16", "--set", "epochs=1"]) == 0
    assert main(["train", "--resume", "part", "--set", "epochs=2"]) == 0
    assert final_state(project / "part").weights == final_state(project / "whole").weights
    assert final_state(project / "whole").weights != final_state(project / "memory").weights
    assert main(["eval", "whole", "--data", "0.txt"]) == 0


@pytest.mark.parametrize("stream", [(), STREAM], ids=["memory", "blocks"])
def test_a_run_does_not_go_on_with_a_changed_test_source(
    project: Path, stream: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (project / "rows.csv").read_text()
    (project / "test.csv").write_text(rows)
    given = ("--set", 'test=csv("test.csv", target = "kind")', "--epochs", "1", *stream)
    assert main(["train", "model.dl", "--out", "run", *given]) == 0
    (project / "test.csv").write_text(rows + rows.splitlines()[1] + "\n")
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 1
    assert "the data has changed since the run began" in capsys.readouterr().err
    told = json.loads((project / "run" / "data.json").read_text())
    del told["fingerprints_of_parts"]  # as a run of an earlier version
    (project / "run" / "data.json").write_text(json.dumps(told))
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 0


def test_threads_and_interruptions_change_no_bit(project: Path) -> None:
    assert main(["train", "model.dl", "--out", "whole", *STREAM, "--threads", "1"]) == 0
    wanted = final_state(project / "whole")
    assert main(["train", "model.dl", "--out", "threads", *STREAM, "--threads", "2"]) == 0
    assert final_state(project / "threads") == wanted
    assert main(["train", "model.dl", "--out", "memory"]) == 0
    assert final_state(project / "memory").weights != wanted.weights  # another order


def test_a_training_that_stops_within_a_block_goes_on_with_the_same_bits(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "model.dl", "--out", "whole", *STREAM]) == 0
    calls: list[int] = []

    class Failing(FileIO):
        def readinto(self, buffer: Any, /) -> int:
            calls.append(1)
            if len(calls) == 400:
                raise OSError(5, "Input/output error")
            return super().readinto(buffer) or 0

    def opened(folder: TrustedFolder, array: PackedArray) -> FileIO:
        return Failing(folder.path / array.entry)

    monkeypatch.setattr("runtime.data.streaming.packs.opened_array", opened)
    capsys.readouterr()
    assert main(["train", "model.dl", "--out", "broken", *STREAM]) == 1
    told = capsys.readouterr().err
    assert "cache/rows/" in told
    assert "Traceback" not in told
    assert 0 < newest_checkpoint(project / "broken" / "checkpoints").checkpoint.position.step % 50 < 50
    assert main(["train", "--resume", "broken"]) == 0
    assert final_state(project / "broken") == final_state(project / "whole")


def test_evaluations_read_blocks_and_give_the_numbers_of_memory(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", "model.dl", "--out", "run", *STREAM]) == 0
    found: list[str] = []
    for more in ((), ("--part", "train"), ("--data", "rows.csv")):
        for stream in ("100", "17"):
            capsys.readouterr()
            assert main(["eval", "run", "--json", "--set", f"stream={stream}", *more]) == 0
            found.append(capsys.readouterr().out)
        assert found[-1] == found[-2]
    assert main(["report", "run"]) == 0
    predicted: list[str] = []
    for stream in ("100", "7"):
        capsys.readouterr()
        assert main(["predict", "run", "--input", "rows.csv", "--set", f"stream={stream}"]) == 0
        predicted.append(capsys.readouterr().out)
    monkeypatch.setattr("runtime.cli.predict._streams", lambda trained: False)
    assert main(["predict", "run", "--input", "rows.csv", "--output", "blocks.jsonl"]) == 0
    assert predicted == [(project / "blocks.jsonl").read_text()] * 2
    assert predicted[0].count("\n") == 500
    assert main(["data", "preview", "run", "--sample", "3"]) in (0, 2)


def test_rows_of_rare_classes_have_the_bits_of_memory(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "model.dl").read_text()
    (project / "model.dl").write_text(text.replace("    loss", '    oversample = "kind"\n    loss', 1))
    found: list[str] = []
    for run, stream in (("memory", "0"), ("block", "6000")):
        more = ("--set", f"stream={stream}") if run == "block" else ()
        assert main(["train", "model.dl", "--out", run, *more]) == 0
        capsys.readouterr()
        assert main(["eval", run, "--part", "train", "--json"]) == 0  # each row once
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    assert json.loads(found[0])["rows"] == 400
    assert files(project / "block" / "checkpoints") == files(project / "memory" / "checkpoints")


def test_the_share_that_waits_is_told(project: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A reader that sleeps before each block is waited for that long, and one that is fast is not."""
    assert main(["train", "model.dl", "--out", "fast", *STREAM, "--json"]) == 0
    fast = json.loads(capfd.readouterr().out.splitlines()[-1])
    whole = RowFiles.read

    def slow(self: RowFiles, runs: Any, into: Any, *others: Any, **more: Any) -> Any:
        time.sleep(0.2)
        return whole(self, runs, into, *others, **more)

    monkeypatch.setattr(RowFiles, "read", slow)
    assert main(["train", "model.dl", "--out", "slow", *STREAM, "--set", "epochs=1", "--json"]) == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert told["waited"] > max(0.5, fast["waited"])
    assert told["waited"] * told["seconds"] > 4 * 0.2 - 0.05  # four blocks, none of which is computed on for long


SLOW = """
import sys, time
from runtime.cli.main import main
from runtime.data.streaming.rows import RowFiles

whole = RowFiles.read

def slow(*given, **named):
    time.sleep(0.2)
    return whole(*given, **named)

RowFiles.read = slow
sys.exit(main(sys.argv[1:]))
"""


def test_the_share_is_that_of_the_process_that_waits_longest(project: Path) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.is_file():
        pytest.skip("mpiexec is not installed beside Python")
    words = ["train", "model.dl", *STREAM, "--shards", "2", "--threads", "1", "--epochs", "2", "--out", "run", "--json"]
    first, second = [*DLC[:-1], *words], [sys.executable, "-P", "-c", SLOW, *words]
    command = [str(launcher), "-n", "1", *first, ":", "-n", "1", *second]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["waited"] * told["seconds"] > 7 * 0.2 - 0.1  # eight blocks, of which none is computed on for long


def test_a_broken_row_is_told_before_the_training(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (project / "rows.csv").read_text().splitlines()
    lines[401] = lines[401].replace(lines[401].split(",")[1], "inf", 1)
    (project / "rows.csv").write_text("\n".join([*lines, ""]))
    assert main(["train", "model.dl", "--out", "run", *STREAM]) == 1
    assert "rows.csv, row 402" in capsys.readouterr().err
    assert not (project / "run").exists()


def test_several_processes_read_their_own_rows(project: Path) -> None:
    expect_bits_of_one_process(project, ["model.dl", *STREAM, "--shards", "4", "--threads", "1"])


def expect_bits_of_one_process(project: Path, words: list[str]) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.is_file():
        pytest.skip("mpiexec is not installed beside Python")
    assert main(["train", *words, "--out", "one"]) == 0
    command = [str(launcher), "-n", "3", *DLC, *words, "--out", "three"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert files(project / "three" / "checkpoints") == files(project / "one" / "checkpoints")


BUCKETS = """
model Says(units = 4) {
    input tokens: i32[batch, time] in 0..vocab padded by mask
    output logits = tokens |> embedding(vocab, units) |> mean(axis = time, where = mask) |> dense(2)
}

train Says {
    data = lines("texts.txt", label = "first", tokens = "char", bucket = 6)
    validation = 0.3
    target label: u8[batch] in 0..2
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 0.05)
    epochs = 2
    batch = 8
    stream = 30
}
"""


def test_processes_agree_at_which_length_a_batch_is_computed(project: Path) -> None:
    drawn = np.random.default_rng(3)
    words = ["".join(drawn.choice(list("abcd"), length)) for length in np.sort(drawn.integers(1, 30, 100))]
    (project / "texts.txt").write_text("".join(f"{'ab'[word[0] > 'b']} {word}\n" for word in words))
    (project / "model.dl").write_text(BUCKETS)
    expect_bits_of_one_process(project, ["model.dl", "--shards", "4", "--threads", "1"])


SERIES = """
model Tells(hidden = 8) {
    input x: f32[batch, 6, 2]
    output p = flatten(x) |> dense(hidden) |> tanh |> dense(1)
}

train Tells {
    data = csv("series*.csv", window = 6, stride = 2, columns = ["a", "b"], target = "b", normalise = true)
    validation = 0.2
    target y: f32[batch, 1]
    loss = mse(p, y)
    optimizer = adam(lr = 0.01)
    epochs = 2
    batch = 8
}
"""


def test_windows_of_a_table_have_the_bits_of_memory_and_go_on_with_them(project: Path) -> None:
    drawn = np.random.default_rng(0)
    for number in range(2):
        rows = "".join(f"{a:.3f},{b:.3f}\n" for a, b in drawn.normal(size=(150, 2)).cumsum(axis=0))
        (project / f"series{number}.csv").write_text(f"a,b\n{rows}")
    (project / "model.dl").write_text(SERIES)
    assert main(["train", "model.dl", "--out", "memory"]) == 0
    assert main(["train", "model.dl", "--out", "block", "--set", "stream=1000"]) == 0
    assert files(project / "block" / "checkpoints") == files(project / "memory" / "checkpoints")
    for dtype in ("f32", "f64"):
        given = ("--dtype", dtype, "--set", "stream=20")
        assert main(["train", "model.dl", "--out", f"whole {dtype}", *given]) == 0
        assert main(["train", "model.dl", "--out", f"part {dtype}", *given, "--epochs", "1"]) == 0
        assert main(["train", "--resume", f"part {dtype}", "--epochs", "2"]) == 0
        assert final_state(project / f"part {dtype}").weights == final_state(project / f"whole {dtype}").weights
    assert main(["eval", "whole f32", "--data", "series1.csv"]) == 0
    assert main(["predict", "whole f32", "--input", "series1.csv", "--output", "told.jsonl"]) == 0
    expect_bits_of_one_process(project, ["model.dl", "--set", "stream=20", "--shards", "4", "--threads", "1"])


def test_an_interrupted_pass_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, part: str, arrays: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("runtime.data.streaming.packs.PackWriter.append", interrupted)
        assert main(["train", "model.dl", "--out", "run", *STREAM]) == 130
    left = [path for path in (project / "cache" / "rows").iterdir() if path.suffix != ".lock"]
    assert not left
    assert main(["train", "model.dl", "--out", "run", *STREAM]) == 0


def test_a_full_disk_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: object, part: str, arrays: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("runtime.data.streaming.packs.PackWriter.append", full)
    assert main(["train", "model.dl", "--out", "run", *STREAM]) == 1
    told = capsys.readouterr().err
    assert "the rows cannot be kept there: the disk is full" in told
    assert "DLC_CACHE_DIR" in told


MODEL = """
model Wide(width = 8) {
    input x: f32[batch, 2000]
    output p = x |> dense(width) |> relu |> dense(1)
}

train Wide {
    data = npz("rows.npz")
    validation = 0.05
    target y: f32[batch, 1]
    loss = mse(p, y)
    optimizer = gradient_descent(lr = 1e-6)
    batch = 64
    epochs = 1
    stream = 2000
}
"""
BLOCK = 2000 * (2001 * 4)
_PEAK = """
import resource, runpy, sys
sys.argv = ["dlc", "train", "model.dl", "--threads", "1", "--out", sys.argv[1]]
try:
    runpy.run_module("runtime.cli", run_name="__main__")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def compile_as_in_a_process() -> None:
    """Leave the programs of `peak_of` in the cache: its processes then differ in their data alone."""
    assert main(["train", "model.dl", "--threads", "1", "--out", "first"]) == 0


def peak_of(folder: Path, run: str) -> int:
    """The largest resident set of a training in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, run],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="the largest resident set is told in kilobytes on Linux")
def test_memory_holds_two_blocks_of_data_ten_times_as_large(project: Path) -> None:
    (project / "model.dl").write_text(MODEL)
    drawn = np.random.default_rng(0)

    def write(rows: int) -> None:
        x = np.broadcast_to(drawn.normal(size=2000).astype(np.float32), (rows, 2000))
        np.savez(project / "rows.npz", x=x, y=np.arange(rows, dtype=np.float32)[:, None] / rows)

    write(100)
    compile_as_in_a_process()
    least = peak_of(project, "small")
    write(20_000)
    assert 10 * BLOCK <= 20_000 * 2001 * 4
    assert peak_of(project, "large") - least <= 1.2 * 2 * BLOCK


TEXTS = """
model Next(context = 64) {{
    input tokens: i32[batch, context] in 0..vocabulary
    output logits = tokens |> embedding(vocabulary, 4) |> dense(vocabulary)
}}

train Next {{
    data = {data}
    validation = 0.02
    target next: i32[batch, context] in 0..vocabulary
    loss = cross_entropy(logits, next)
    optimizer = gradient_descent(lr = 0.01)
    batch = 64
    steps = 20
    stream = 8000
}}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the largest resident set is told in kilobytes on Linux")
@pytest.mark.parametrize(
    ("data", "lines"), [('text("texts/*.txt", tokens = "char")', 24_000), ('lines("texts/*.txt", longest = 64)', 8_000)]
)
def test_memory_holds_two_blocks_of_texts_ten_times_as_large(project: Path, data: str, lines: int) -> None:
    """The passes that learn the vocabulary, cut and pack hold no more than the training."""
    drawn = random.Random(0)
    words = [f"w{number}" for number in range(300)]

    def write(files: int) -> None:
        (project / "texts").mkdir(exist_ok=True)
        for number in range(files):
            text = "".join(" ".join(drawn.choices(words, k=14)) + "\n" for _ in range(lines))
            (project / "texts" / f"{number}.txt").write_text(text)

    (project / "model.dl").write_text(TEXTS.format(data=data))
    write(1)
    compile_as_in_a_process()
    least = peak_of(project, "small")
    write(10)
    block = 8000 * 2 * 64 * 4
    assert peak_of(project, "large") - least <= 1.2 * 2 * block
    assert "of at most 8,000" in json.loads((project / "large" / "data.json").read_text())["notes"][-1]
