"""`dlc train --log tensorboard`: the event files hold what `metrics.jsonl` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_driver
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

from runtime.cli.main import main
from runtime.runs.directory import open_run


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small_driver.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    x, label = small_driver.rows_of(40)
    rows = [",".join([*(f"{v:.5f}" for v in row), str(word)]) for row, word in zip(x, label, strict=True)]
    Path("rows.csv").write_text("a,b,c,kind\n" + "\n".join(rows) + "\n")
    Path("model.dl").write_text('data = "rows.csv"\nvalidation = 0.2\ntest = 0.2\nepochs = 3\n')


def events_in(folder: Path) -> list[Any]:
    """The records of the event files, by time. A record is a length, its checksum, the event, its checksum."""
    events: list[Any] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return events


def scalars_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events_in(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_the_log_has_each_scalar_at_the_end_of_each_epoch() -> None:
    assert main(["train", "model.dl", "--out", "run", "--json", "--log", "tensorboard"]) == 0
    found = scalars_in(Path("run/tensorboard"))
    epochs = open_run(Path("run")).read_metrics()
    for tag, name in (("loss/train", "loss"), ("accuracy/validation", "val_accuracy")):
        assert [step for step, _ in found[tag]] == [6, 12, 18]
        assert [value for _, value in found[tag]] == pytest.approx([epoch[name] for epoch in epochs])
    assert len(found["loss/test"]) == 1
    texts = [
        v.tensor.string_val
        for e in events_in(Path("run/tensorboard"))
        for v in e.summary.value
        if v.tag == "settings/text_summary"
    ]
    assert b"| optimizer.lr | 0.1 | default |" in texts[0][0]


def test_a_resumed_training_goes_on_in_the_same_folder() -> None:
    assert main(["train", "model.dl", "--out", "run", "--json", "--log", "tensorboard"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "4", "--log", "tensorboard"]) == 0
    assert [step for step, _ in scalars_in(Path("run/tensorboard"))["loss/train"]] == [6, 12, 18, 24]


def test_without_the_option_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    assert not Path("run/tensorboard").exists()
    assert main(["train", "model.dl", "--log", "tensorbord"]) == 2
    assert "hint: did you mean `tensorboard`?" in capsys.readouterr().err
