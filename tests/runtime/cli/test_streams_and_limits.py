"""Closed streams, full disks behind them, little memory, and paths where nothing can be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from killing import write_project
from view_pages import data_in

import dlc
from runtime.cli.main import main

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder, epochs=1)
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run"), "--json"]) == 0
    return folder / "run"


def shell(line: str, run: Path) -> subprocess.CompletedProcess[str]:
    """A line of the shell, in which `dlc` is the command line and `RUN` the run."""
    command = f"{sys.executable} -m runtime.cli"
    return subprocess.run(
        line.replace("dlc", command).replace("RUN", str(run)).replace("MODEL", str(run.parent / "model.dl")),
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("dlc check MODEL >&-", 0, "no mistakes"),
        ("dlc train MODEL --dry-run >&-", 0, "dry run"),
        ("dlc check MODEL 2>&-", 0, ""),
        ("dlc check MODEL <&- >&- 2>&-", 0, ""),
        ("dlc fmt - <&-", 0, ""),
        ("dlc eval RUN >&-", 1, "error: standard output: this is closed"),
        ("dlc eval RUN --json >&-", 1, "error: standard output: this is closed"),
        ("dlc eval RUN >/dev/full", 1, "error: standard output: the disk is full"),
        ("dlc explain E0201 >/dev/full", 1, "error: standard output: the disk is full"),
    ],
)
def test_streams_that_cannot_be_written(line: str, code: int, told: str, run: Path) -> None:
    """What has nothing to print succeeds; what has fails, with a message and nothing behind it."""
    done = shell(line, run)
    assert done.returncode == code
    assert told in done.stderr
    for fault in ("Traceback", "fault of dlc", "Exception ignored", "AttributeError"):
        assert fault not in done.stderr


def test_the_first_file_that_is_opened_does_not_become_standard_output(run: Path, tmp_path: Path) -> None:
    done = shell(f"dlc train MODEL --out {tmp_path / 'closed'} <&- >&- 2>&-", run)
    assert done.returncode == 0
    for file in (tmp_path / "closed").rglob("*.json"):
        json.loads(file.read_text())


@pytest.mark.parametrize("kilobytes", [40_000, 200_000, 300_000])
def test_little_memory_is_named_as_the_cause(kilobytes: int, run: Path) -> None:
    done = shell(f"ulimit -v {kilobytes}; OPENBLAS_NUM_THREADS=1 dlc train MODEL --dry-run", run)
    if done.returncode == 0:
        pytest.skip("it is enough on this machine")
    assert "memory" in done.stderr.lower()
    assert "check the disk" not in done.stderr
    assert "fault of dlc" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "RUN", "--input", "DATA", "-o", "PLACE.jsonl"],
        ["predict", "RUN", "--input", "DATA", "-o", "PLACE.npz"],
        ["report", "RUN", "--out", "PLACE.html"],
        ["show", "MODEL", "-o", "PLACE.txt"],
        ["replay", "RUN", "--step", "1", "--out", "PLACE.npz"],
        ["profile", "MODEL", "--trace", "PLACE.json"],
    ],
    ids=lambda words: words[0],
)
def test_a_path_where_no_file_can_be_is_misuse(
    words: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "RUN": str(run),
        "MODEL": str(run.parent / "model.dl"),
        "DATA": str(run.parent / "rows.csv"),
        "PLACE": str(tmp_path / "nowhere" / "out"),
    }

    def placed(word: str) -> str:
        for name, place in places.items():
            word = word.replace(name, place)
        return word

    assert main([placed(word) for word in words]) == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err


def test_an_evaluation_as_json_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["rows"] == 100


@pytest.mark.parametrize("name", ["lock", "events.log", "metrics.jsonl"])
def test_links_in_a_run_of_others_are_not_written_through(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(letter)
    main(["train", "--resume", str(copy), "--set", "epochs=2"])
    assert letter.read_text() == "dear"
    assert "fault of dlc" not in capsys.readouterr().err


@pytest.mark.parametrize(("command", "name"), [("report", "report.html"), ("plot", "plots/curves.svg")])
def test_pages_and_plots_replace_links_in_a_run_of_others(command: str, name: str, run: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "plots").mkdir()
    (copy / name).symlink_to(letter)
    assert main([command, str(copy)]) == 0
    assert letter.read_text() == "dear"
    assert "loss" in (copy / name).read_text()


def test_a_page_holds_no_file_from_outside_of_the_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "source" / "letter.dl").symlink_to(tmp_path / "letter")
    (copy / "source" / "folder.dl").mkdir()
    assert main(["report", str(copy)]) == 0
    html = (copy / "report.html").read_text()
    page = json.dumps(data_in(html, "document"))
    assert "dear" not in html + page
    assert "model.dl" in page


def test_what_takes_bytes_is_written_to_and_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    words = ["show", str(run.parent / "model.dl"), "--stage", "ast", "--output", str(link)]
    assert main(words) == 1
    assert "nobody reads from this pipe" in capsys.readouterr().err
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(words) == 0
        assert b"model" in os.read(reader, 1 << 16)
    finally:
        os.close(reader)
    assert link.is_symlink()
    assert pipe.is_fifo()


@pytest.mark.parametrize("levels", [60, 900])
def test_a_value_within_many_others_is_shown_or_refused(
    levels: int, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "environment.json").write_text('{"folder": ' + "[" * levels + '"deepest"' + "]" * levels + "}")
    assert main(["report", str(copy)]) == 0
    page = json.dumps(data_in((copy / "report.html").read_text(), "document"))
    assert ("deepest" in page) is (levels == 60)


@pytest.mark.parametrize("name", ["run.json", "settings.json", "data.json", "metrics.jsonl", "environment.json"])
def test_devices_in_a_run_of_others_are_not_read(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / name).unlink()
    (copy / name).symlink_to("/dev/zero")
    for words in (["runs", str(tmp_path)], ["eval", str(copy)], ["report", str(copy)]):
        assert main(words) in (0, 1)
    assert "fault of dlc" not in capsys.readouterr().err


def test_a_run_names_no_program_outside_of_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    fields = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**fields, "main": str(run.parent / "model.dl")}))
    assert main(["eval", str(copy)]) == 1
    assert "the run has no copy of its program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "header", "row"),
    [
        ("", "a,b,kind", "1,2,0"),
        (', target = "kind"', "a,b,kind", "1,2,0"),
        (", target = -1", "", "1,2,0"),
        (", target = -1", "", "1,2"),
    ],
)
def test_the_column_of_a_target_is_no_input(
    options: str, header: str, row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a model file with weights, which knows its training data by their options only."""
    text = f"""
model M {{
    input x: f32[batch, 2]
    output logits = x |> dense(2)
}}
train M {{
    data = csv("rows.csv"{options})
    target kind: i32[batch] in 0..2
    loss = cross_entropy(logits, kind)
    optimizer = adam()
    epochs = 1
    batch = 2
}}
"""
    (tmp_path / "model.dl").write_text(text)
    model = dlc.load(tmp_path / "model.dl")
    model.save(tmp_path / "weights.safetensors")
    (tmp_path / "new.csv").write_text("\n".join([*filter(None, [header]), row, row]) + "\n")
    words = ["--weights", str(tmp_path / "weights.safetensors"), "--input", str(tmp_path / "new.csv")]
    assert main(["predict", str(tmp_path / "model.dl"), *words]) == 0, capsys.readouterr().err
    assert len(capsys.readouterr().out.splitlines()) == 2
