"""Names and texts of others, on every way out: none of them steers the terminal or the page that shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.errors.diagnostics import DataError
from compiler.support.harmless import STEERING, harmless, harmless_lines
from runtime.cli.main import main
from runtime.reporting.terminal import harmless_outlets
from runtime.support.files import json_text

TITLE = "\x1b]0;owned\x07"
EVIL = f"a{TITLE}\x9b2J\u202e<b>$\\frac{{$"

MODEL = f"""# {EVIL}
model Steering {{
    input points: f32[batch, 2]
    output logits = points |> dense(3)
}}

train Steering {{
    data = csv("{EVIL.replace(chr(92), chr(92) * 2)}.csv")
    target kind: i32[batch] in 0..3
    loss = cross_entropy(logits, kind)
    metrics = [accuracy(logits, kind)]
    optimizer = adam(lr = 1e-2)
    epochs = 1
    batch = 16
}}
"""


def rows() -> Iterator[str]:
    yield f"x{EVIL},y{EVIL},kind"
    for number in range(60):
        yield f"{number % 7},{number % 5},{'cde'[number % 3]}{EVIL}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run named by others, of a project whose every name is theirs."""
    folder = tmp_path_factory.mktemp(f"project{EVIL.replace('/', '')}")
    (folder / "model.dl").write_text(MODEL)
    (folder / f"{EVIL}.csv").write_text("\n".join(rows()) + "\n")
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / f"run{EVIL}"), "--json"]) == 0
    return folder / f"run{EVIL}"


def expect_harmless(text: str) -> None:
    found = STEERING.search(text)
    assert found is None, text[max(0, found.start() - 60) : found.end() + 20].encode("unicode_escape")


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    "words",
    [
        ["eval", "RUN"],
        ["predict", "RUN", "--input", "DATA"],
        ["runs", "PROJECT"],
        ["data", "preview", "MODEL"],
        ["plan", "MODEL"],
        ["check", "MODEL"],
        ["show", "MODEL", "--stage", "graph"],
        ["show", "MODEL", "--stage", "ast"],
        ["show", "MODEL:4"],
        ["train", "MODEL", "--dry-run"],
        ["train", "--resume", "RUN"],
        ["plot", "RUN", "--what", "all"],
        ["report", "RUN"],
        ["test", "MODEL"],
    ],
    ids=lambda words: " ".join(words),
)
def test_no_command_passes_on_what_steers(
    run: Path, words: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": run, "PROJECT": run.parent, "MODEL": run.parent / "model.dl", "DATA": run.parent / f"{EVIL}.csv"}
    arguments = [re.sub("[A-Z]{3,}", lambda found: str(places[found[0]]), word) for word in words]
    capsys.readouterr()
    code = main([*arguments, "--json"] if as_json else arguments)
    out, err = capsys.readouterr()
    expect_harmless(out)
    expect_harmless(err)
    assert "Traceback" not in err
    assert "fault of dlc" not in err
    assert code in ((0, 1, 2) if as_json else (0, 1))


def test_predictions_as_json_lines_keep_every_character(run: Path, tmp_path: Path) -> None:
    """They are data: what is escaped reads as it was."""
    out = tmp_path / "out.jsonl"
    assert main(["predict", str(run), "--input", str(run.parent / f"{EVIL}.csv"), "--output", str(out)]) == 0
    expect_harmless(out.read_text())
    first = json.loads(out.read_text().splitlines()[0])
    assert EVIL in str(first.values()) or "logits" in first


def test_files_of_a_run_are_harmless_to_print(run: Path) -> None:
    for file in run.glob("*.json*"):
        expect_harmless(file.read_text())


def test_pages_and_pictures_are_well_formed(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(page)]) == 0
    expect_harmless(page.read_text())
    assert "<b>" not in page.read_text()
    for format in ("svg", "graphml", "dot"):
        drawing = tmp_path / f"drawing.{format}"
        assert main(["show", str(run.parent / "model.dl"), "--format", format, "-o", str(drawing)]) == 0
        expect_harmless(drawing.read_text())
        if format != "dot":
            ElementTree.fromstring(drawing.read_text())
    assert main(["plot", str(run), "--what", "all"]) == 0
    for picture in (run / "plots").iterdir():
        expect_harmless(picture.read_text())
        ElementTree.fromstring(picture.read_text())


@pytest.mark.parametrize(
    "text",
    [
        f'layer bad()(x: [..., n]) -> [..., n] {{\n    require(false, "{TITLE}")\n    return x\n}}\n'
        "model M {\n    input x: f32[batch, 4]\n    output y = x |> bad()\n}\n",
        f'import "{TITLE}.dl"\nmodel M {{ input x: f32[batch, 4]\n output y = x }}\n',
        f'model M {{\n    input x: f32[batch, 4]\n    output y = x\n}}\ntrain M {{ data = "{TITLE}" }}\n',
        f"model M {{ {TITLE} }}\n",
    ],
)
@pytest.mark.parametrize("colour", [False, True])
def test_mistakes_in_a_text_of_others_are_told_harmlessly(
    text: str, colour: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
    file = tmp_path / f"m{TITLE}.dl"
    file.write_text(text)
    main(["check", str(file)])
    out, err = capsys.readouterr()
    assert ("\x1b[1;31m" in out) == colour
    expect_harmless(re.sub("\x1b\\[[0-9;]*m", "", out))
    expect_harmless(re.sub("\x1b\\[[0-9;]*m", "", err))


def test_words_of_the_command_line_are_told_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([TITLE], ["check", TITLE], ["check", "--select", TITLE, __file__], ["explain", TITLE]):
        assert main(words) in (1, 2)
        expect_harmless("".join(capsys.readouterr()))


def test_whatever_is_printed_passes_the_net(capsys: pytest.CaptureFixture[str]) -> None:
    with harmless_outlets():
        print(f"{EVIL}\n\tsecond line")
        print("\r\x1b[2Kgone", file=sys.stderr)
    out, err = capsys.readouterr()
    expect_harmless(out + err)
    assert out.endswith("\n\tsecond line\n")


def test_exact_data_are_not_changed_on_their_way_into_a_pipe() -> None:
    """`dlc fmt -` gives the text that it was given, in a form of its own."""
    text = f"# {TITLE}\nconst c = 1\n"
    done = subprocess.run(
        [sys.executable, "-m", "runtime.cli", "fmt", "-"], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == text


def test_messages_of_exceptions_are_harmless() -> None:
    expect_harmless(str(DataError(f"the column {EVIL}", f"{EVIL}.csv")))


def test_names_and_texts() -> None:
    assert harmless("caf\u00e9 \u200d\x1b[1m\n") == "caf\u00e9 \ufffd\ufffd[1m\ufffd"
    # Joiners of letters are part of many scripts' words.
    assert harmless_lines("first\n\tse\u200ccond\x1b\r\x85\u2028") == "first\n\tse\u200ccond\ufffd\ufffd\ufffd\ufffd"
    assert json.loads(json_text({"name": EVIL})) == {"name": EVIL}
    expect_harmless(json_text({"name": EVIL}))
