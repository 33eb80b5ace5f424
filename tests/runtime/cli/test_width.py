"""What commands print on terminals of several widths: no line is too long, no word is broken."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
from importlib import import_module
from pathlib import Path

import pytest
from repository import ROOT

from runtime.cli.main import COMMANDS, main
from runtime.reporting.terminal import width_of

WIDTHS = (60, 80, 120, 200)
WIDE = 2000
QUICK = ("--threads", "1")
MANY = tuple(
    word
    for key, values in (("beta1", "[0.8]"), ("beta2", "[0.99]"), ("eps", "[1e-7]"), ("lr", "1e-4..1e-1:log"))
    for word in ("--set", f"optimizer.{key}={values}")
)
# With five metrics, so that epochs have many values; names long enough to be awkward.
MODEL = """fn mean_absolute_first_score(x: [..., n]) = mean(abs(x))

model Rings(hidden = 8, classes = 2) {
    input point: f32[batch, 2]
    hidden_layer_of_the_model = point |> dense(hidden) |> relu
    output logits = hidden_layer_of_the_model |> dense(hidden) |> relu |> dense(classes)
}

train Rings {
    data = csv("points.csv", target = "ring")
    target ring: u8[batch] in 0..classes
    validation = 0.2
    test = 0.1
    loss = cross_entropy(logits, ring)
    metrics = [accuracy(logits, ring), top_k_accuracy(k = 1)(logits, ring), mean_absolute_first_score(logits)]
    optimizer = adam(lr = 0.01)
    epochs = 2
    batch = 32
}

test relu_of_a_negative_number_is_nothing {
    relu(tensor([-1.0, 2.0])) == tensor([0.0, 2.0])
}
"""
WRONG = """model Wrong(classes = 2) {
    input point: f32[batch, 2]
    weights_of_the_first = point |> dense(5)
    weights_of_the_second = point |> dense(6)
    output logits = weights_of_the_first + weights_of_the_second + softmaks(weights_of_the_first, axis = 7)
}
"""
# Each command with arguments; `predict`, `generate` and `import --into` print data, which is as wide as it is.
CASES: tuple[tuple[str, ...], ...] = (
    ("new", "another"),
    ("check", "model.dl", "wrong.dl"),
    ("test", "model.dl"),
    ("tune", "--show"),
    ("tune", "--forget"),
    ("lr", "model.dl", "--steps", "12", *QUICK),
    ("lr", "model.dl", "--schedule", *QUICK),
    ("train", "model.dl", *QUICK, "--out", "again"),
    ("train", "model.dl", *QUICK, "--set", "steps=5", "--set", "epochs=none", "--out", "again"),
    ("train", "model.dl", *QUICK, "--overfit", "4"),
    ("train", "model.dl", *QUICK, "--watch", "--out", "again"),
    ("train", "wrong.dl", *QUICK),
    ("sweep", "model.dl", "--set", "optimizer.lr=1e-4..1e-1:log", "--trials", "2", *QUICK, "--out", "again"),
    ("sweep", "model.dl", *MANY, "--trials", "2", *QUICK, "--out", "again"),
    ("eval", "run", *QUICK),
    ("export", "run", "--to", "c", "--output", "library"),
    ("import", "model.dl", "--output", "imported"),
    ("serve", "nowhere"),
    ("lsp", "nowhere"),
    ("runs", "."),
    ("runs", "--diff", "run", "other"),
    ("runs", ".", "--prune", "--dry-run"),
    ("replay", "run", "--step", "3", "--show", "hidden_layer_of_the_model.dense.W", *QUICK),
    ("data", "preview", "model.dl"),
    ("plot", "run", "--what", "weights", *QUICK),
    ("report", "run", *QUICK),
    ("view", "model.dl", "--html", "page.html"),
    ("view", "wrong.dl", "--html", "page.html"),
    ("show", "model.dl"),
    ("show", "model.dl:5"),
    ("show", "model.dl:3", "--stage", "loops"),
    ("show", "model.dl", "--stage", "schedule"),
    ("show", "model.dl", "--print-after", "simplify"),
    ("show", "model.dl", "--time-passes"),
    ("pass", "--list"),
    ("pass", "simplfy"),
    ("plan", "model.dl"),
    ("profile", "model.dl", "--seconds", "0.02", *QUICK),
    ("profile", "model.dl", "--simulate-threads", "8", "--seconds", "0.02"),
    ("bench", "model.dl", "--seconds", "0.02", *QUICK),
    ("explain", "E0201"),
    ("explain", "W0106"),
    ("explain", "E9999"),
    ("fmt", "--check", "model.dl"),
    ("cache", "info"),
    ("trian", "model.dl"),
    ("train", "model.dl", "--epoch", "3"),
    ("--help",),
)


class Terminal(io.StringIO):
    """A text stream that says it is a terminal; `COLUMNS` says how wide."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("width")
    import_module("matplotlib.font_manager")  # in a new cache folder it tells that this takes a moment
    assert main(["new", str(folder / "rings")]) == 0
    (folder / "points.csv").write_text((folder / "rings" / "points.csv").read_text())
    (folder / "model.dl").write_text(MODEL)
    (folder / "wrong.dl").write_text(WRONG)
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert main(["train", "model.dl", *QUICK, "--json", "--out", "run"]) == 0
        assert main(["train", "model.dl", *QUICK, "--json", "--out", "other", "--set", "hidden=16"]) == 0
    finally:
        os.chdir(before)
    return folder


def printed(arguments: tuple[str, ...], width: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines on both streams, without what steers the terminal."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    for place in ("again", "another"):
        if Path(place).exists():
            Path(place).rename(f"{place}-{len(list(folder.iterdir()))}")
    stream = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        patch.setattr("sys.stderr", stream)
        main(arguments)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    return re.split(r"[\r\n]+", text)


def words_of(lines: list[str]) -> set[str]:
    """Runs of letters, but for those that are left out in part."""
    return {word for line in lines for word in re.findall(r"(?<![A-Za-z…])[A-Za-z]{3,}(?![A-Za-z…])", line)}


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_lines_fit_and_words_are_whole(
    arguments: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_of(printed(arguments, WIDE, project, monkeypatch))
    assert words
    for width in WIDTHS:
        lines = printed(arguments, width, project, monkeypatch)
        assert [line for line in lines if len(line) > width] == []
        added = {"room", "they", "are", "saved", "with", "the", "run", "for"}
        assert words_of(lines) - words <= {*added, "left"}  # a slow epoch tells how much time is left


def test_every_command_that_prints_is_tried() -> None:
    tried = {arguments[0] for arguments in CASES}
    assert {command.name for command in COMMANDS} - tried == {"predict", "generate", "sample"}


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_fits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(printed((name, "--help"), WIDE, tmp_path, monkeypatch))
    for width in WIDTHS:
        lines = printed((name, "--help"), width, tmp_path, monkeypatch)
        assert [line for line in lines if len(line) > width] == []
        assert words_of(lines) <= words


def test_a_pipe_has_no_width(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["check", "wrong.dl"]) == 1
    message, *_ = capsys.readouterr().out.splitlines()
    assert len(message) > 60
    assert main(["runs", "."]) == 0
    headings = capsys.readouterr().out.splitlines()[0].split()
    assert headings[:8] == ["run", "model", "began", "state", "epochs", "best", "of", "the"]


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    master, slave = pty.openpty()
    with os.fdopen(master, "rb"), os.fdopen(slave, "w") as terminal:
        for columns, width in ((93, 93), (7, 40), (0, 80)):
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            assert width_of(terminal) == width
        monkeypatch.setenv("COLUMNS", "120")
        assert width_of(terminal) == 120
    assert width_of(io.StringIO()) is None


def test_no_other_place_measures_a_terminal() -> None:
    """`terminal.py` is the one home of the width."""
    asks = re.compile(r"get_terminal_size|COLUMNS\"|shutil\.get_terminal")
    places = [p for p in (ROOT / "runtime").rglob("*.py") if asks.search(p.read_text(encoding="utf-8"))]
    assert [path.name for path in places] == ["terminal.py"]
