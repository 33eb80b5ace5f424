"""The command line itself: help, misuse, failures, and what a start imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from compiler import driver
from compiler.errors import index, rendering
from compiler.errors.diagnostics import CompilerBug, Diagnostic, Source, SourceError, Span, UsageError, hint
from compiler.inspection.view import View
from compiler.support.cache import ObjectCache
from runtime.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent.parent.parent


def dlc(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize(
    "words",
    [
        ["view", "model.dl", "--html", "model.dl"],
        ["view", "model.dl", "--html", "./model.dl"],
        ["view", "model.dl", "--html", "link.html"],
        ["view", "model.dl", "--html", "parts.dl"],
        ["show", "model.dl", "-o", "model.dl"],
        ["show", "model.dl:2", "--stage", "asm", "--output", "model.dl"],
        ["predict", "model.dl", "--weights", "w.safetensors", "--input", "rows.npz", "-o", "rows.npz"],
        ["predict", "model.dl", "--weights", "w.safetensors", "--input", "rows.npz", "-o", "w.safetensors"],
        ["report", "run", "--out", "model.dl"],
    ],
)
def test_what_a_command_reads_is_not_written_over(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.dl", "parts.dl", "rows.npz", "w.safetensors"):
        Path(name).write_text("model M {\n    input x: f32[batch, 2]\n    output y = x |> dense(1)\n}\n")
    Path("link.html").symlink_to("model.dl")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(words) == 2
    assert "another file" in (said := capsys.readouterr().err) or "ends in .html" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {command.name} " in listed and command.summary in listed for command in COMMANDS)


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: dlc {name} [options]")
    assert f"examples:\n  dlc {name} " in text
    assert "--traceback" not in text
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["tarin"]])
def test_a_start_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = ["numpy", "rich", "lark", "llvmlite", "networkx", "safetensors"]
    script = (
        "import sys; from runtime.cli.main import main; main(sys.argv[1:]);"
        f"found = [name for name in {heavy} if name in sys.modules]; sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_command_imports_a_terminal_library_before_it_prints() -> None:
    names = [command.name for command in COMMANDS]
    script = (
        "import sys; from runtime.cli.main import main; [main([name, '--help']) for name in sys.argv[1:]];"
        "sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dlc ")


def test_a_code_may_be_copied_from_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    for written in ("E0201", "e0201", "[E0201]", "[E0201]:"):
        assert main(["explain", written]) == 0
        assert capsys.readouterr().out.startswith("E0201: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "hint: did you mean `train`?"),
        (["qqq"], "there is no command `qqq`"),
        (["--verison"], "hint: did you mean `--version`?"),
        (["show"], "FILE[:LINE] is missing"),
        (["show", "x.dl", "--stage", "grpah"], "hint: did you mean `graph`?"),
        (["bench", "x.dl", "--mode", "slow"], "--mode cannot be `slow`"),
        (["bench", "x.dl", "--thread", "2"], "hint: did you mean `--threads`?"),
        (["plan", "x.dl", "--batch", "many"], "wants a whole number of at least 1, not `many`"),
        (["train", "x.dl", "--threads", "100000"], "wants a whole number from 1 to 1024, not `100000`"),
        (["profile", "x.dl", "--simulate-threads", "1025"], "wants a whole number from 1 to 1024, not `1025`"),
        (["cache", "wipe"], "ACTION cannot be `wipe`"),
        (["show", "x.dl", "--stage", "asm", "--format", "svg"], "stage asm cannot be drawn"),
        (["plan", "x.dl", "--set", "a=1", "--set", "b=2", "--set", "a=3"], "--set gives `a` twice"),
        (["train", "x.dl", "--epochs", "2", "--set", "epochs=3"], "--epochs and --set give `epochs` twice"),
        (["train", "x.dl", "--overfit", "5", "--epochs", "2"], "--epochs does not go with --overfit"),
        (["train", "x.dl", "--overfit", "5", "--out", "run"], "--out does not go with --overfit"),
        (["predict", "run", "--input", "x.csv", "--row", "2"], "--row goes with --attention"),
        (["bench", "x.dl", "--seconds", "nan"], "wants a number above 0"),
        (["check", "absent.dl"], "there is no file absent.dl\nhint: check the path"),
        (["explain"], "CODE is missing"),
        (["explain", "E201"], "there is no error code `E201`\nhint: did you mean `E0201`?"),
        (["explain", "e0699"], "there is no error code `e0699`\nhint: codes that begin so are E0601, E0602, "),
        (["explain", "dense"], "there is no error code `dense`\nhint: the codes are E0101, "),
    ],
)
def test_misuse_is_exit_code_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert message in output.err


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "check",
        "test",
        "lr",
        "sweep",
        "eval",
        "predict",
        "generate",
        "data preview",
        "show",
        "plan",
        "bench",
        "fmt",
    ],
)
@pytest.mark.parametrize(
    ("name", "content", "meant"),
    [
        ("fruit.csv", b"width,kind\n1.5,apple\n", "dlc train net.dl --data fruit.csv"),
        ("model.csv", b"model,price\nA,3\n", "dlc train net.dl --data model.csv"),
        ("rows.npz", b"PK\x03\x04\x14\x00\xaf", "dlc train net.dl --data rows.npz"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "dlc train net.dl --data a.png"),
        ("w.safetensors", b"8\0\0\0\0\0\0\0{", "dlc eval net.dl --weights w.safetensors"),
        ("run/run.json", b'{\n  "version": 1\n}\n', "it is a part of the run run: name the run"),
        ("run/source/story.txt", b"Once upon a time\nthere was\n", "it is a part of the run run: name the run"),
    ],
)
def test_another_file_than_a_model_is_one_message(
    command: str,
    name: str,
    content: bytes,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.dl").write_text("")
    Path("run/source").mkdir(parents=True)
    Path("run/run.json").write_text("{}")
    Path(name).write_bytes(content)
    more = {"sweep": ["--set", "a=1..2"], "predict": ["--input", "x.csv"], "show": ["--stage", "ast"]}
    assert main([*command.split(), name, *more.get(command, [])]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: {name} is no model file"
    assert meant in hint


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\ufeff# a net\n\nfn f(x) = x\n", "const a = 1\n"])
def test_a_model_file_may_have_another_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text(text)
    assert main(["check", str(tmp_path / "net.txt")]) == 0


def test_a_cache_that_cannot_be_cleared_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    (tmp_path / "objects").mkdir(0o700)
    entry = tmp_path / "objects" / ("0" * 64)
    entry.write_bytes(b"x" * 2000)
    with monkeypatch.context() as context:
        context.setattr(os, "unlink", _refuse)
        assert main(["cache", "clear"]) == 1
    told = capsys.readouterr().err
    assert "cleared 0 entries" in told
    assert "1 entries cannot be removed" in told
    assert main(["cache", "clear"]) == 0
    assert "cleared 1 entries" in capsys.readouterr().err
    assert not entry.exists()


def test_a_cache_that_others_may_write_is_told_and_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    ObjectCache(tmp_path / "cache").put("name", b"entry")
    tmp_path.chmod(0o777)
    assert main(["cache", "info"]) == 0
    assert f"not used: {tmp_path}: others may write there (mode 777)" in capsys.readouterr().out
    assert main(["cache", "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["why_unused"].startswith(str(tmp_path))
    assert main(["cache", "clear"]) == 1
    assert "others may write there" in capsys.readouterr().err
    assert any((tmp_path / "cache" / "entries").iterdir())


def _refuse(path: str, **options: int) -> None:
    raise PermissionError(13, "Permission denied", path)


def test_without_a_command_the_help_is_shown() -> None:
    done = dlc()
    assert (done.returncode, done.stderr) == (2, "")
    assert "Commands:" in done.stdout


def test_a_reader_that_goes_away_is_no_failure_with_a_traceback() -> None:
    script = f"set -o pipefail; {sys.executable} -m runtime.cli plan --help | true"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def raising(error: Exception):
    def fail(*arguments: object, **named: object) -> None:
        raise error

    return fail


def test_a_compiler_bug_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(index, "explain", raising(CompilerBug("fuse", "a cycle", "the graph as text")))
    assert main(["explain", "E0101"]) == 1
    error = capsys.readouterr().err
    assert "fuse: a cycle" in error
    assert "Traceback" not in error
    report = next(tmp_path.iterdir())
    assert str(report) in error
    assert "the graph as text" in report.read_text()
    assert "Traceback" in report.read_text()


def test_an_unexpected_exception_is_reported_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(index, "explain", raising(ZeroDivisionError("division by zero")))
    assert main(["explain", "E0101"]) == 1
    assert "unexpected ZeroDivisionError: division by zero" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main(["explain", "E0101", "--traceback"])


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("arguments", [["predict", "RUN", "--input", ""], ["export", "RUN", "--to", "c", "-o", ""]])
def test_an_empty_text_is_no_path(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "takes a path, and the text is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (caused(ImportError("initialization of a library failed"), KeyboardInterrupt()), 130, "interrupted"),
        (BrokenPipeError(), 141, ""),
        (PermissionError(13, "Permission denied", "model.dl"), 1, "error: model.dl: no permission\nhint: check the"),
        (OSError(5, "Input/output error", "w"), 1, "error: w: input/output error\nhint: check the disk"),
        (UsageError("no \x1b[2Jcolumn", "take `\x9b1m`"), 2, "error: no \ufffd[2Jcolumn\nhint: take `\ufffd1m`\n"),
        (MemoryError(), 1, "error: not enough memory"),
    ],
)
def test_what_the_system_refuses(
    error: Exception, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(index, "explain", raising(error))
    assert main(["explain", "E0101"]) == code
    output = capsys.readouterr().err
    assert message in output
    assert "Traceback" not in output


def test_a_further_call_in_a_process_begins_without_what_the_last_one_left() -> None:
    class Circle:
        def __init__(self) -> None:
            self.itself = self

    assert main(["--version"]) == 0
    left = weakref.ref(Circle())
    assert left() is not None, "a circle goes with the next collection only"
    assert main(["--version"]) == 0
    assert left() is None


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> tuple[Diagnostic, ...]:
    source = Source("model.dl", "model M {\n}\n")
    found = (
        Diagnostic("E0301", "shapes differ", Span(source, 1, 1, 1, 6), (hint("use align"),)),
        Diagnostic("W0101", "unused", Span(source, 2, 1, 2, 2), severity="warning"),
    )
    monkeypatch.setattr(driver, "check", lambda *_: found)
    monkeypatch.setattr(rendering, "render", lambda error, colour, width: f"rendered: {error}")
    return found


def test_check_exits_with_1_for_errors(
    findings: tuple[Diagnostic, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.dl").write_text("model M {\n}\n")
    assert main(["check", str(tmp_path / "model.dl")]) == 1
    output = capsys.readouterr()
    assert "E0301 shapes differ" in output.out
    assert "1 file checked: 1 error and 1 warning" in output.err


def test_check_json(findings: tuple[Diagnostic, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text("model M {\n}\n")
    assert main(["check", str(tmp_path), "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first == {
        "code": "E0301",
        "severity": "error",
        "message": "shapes differ",
        "file": "model.dl",
        "line": 1,
        "column": 1,
        "end_line": 1,
        "end_column": 6,
        "notes": [{"kind": "hint", "message": "use align"}],
        "edits": [],
    }
    assert second["severity"] == "warning"


def test_source_errors_are_rendered(
    findings: tuple[Diagnostic, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(index, "explain", raising(SourceError(findings)))
    assert main(["explain", "E0101"]) == 1
    assert "rendered: model.dl:1:1: E0301 shapes differ" in capsys.readouterr().err


def test_fmt_changes_checks_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtime.cli.format.format_source", lambda source: source.text.replace("  ", " "))
    ugly, neat = tmp_path / "a.dl", tmp_path / "b.dl"
    ugly.write_text("const A  =  1\n")
    neat.write_text("const B = 1\n")
    assert main(["fmt", "--check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.split() == [str(ugly)]
    assert main(["fmt", "--diff", str(tmp_path)]) == 1
    assert "+const A = 1" in capsys.readouterr().out
    assert ugly.read_text() == "const A  =  1\n"
    assert main(["fmt", str(tmp_path)]) == 0
    assert "1 file changed, 1 left as they are" in capsys.readouterr().err
    assert ugly.read_text() == "const A = 1\n"
    assert main(["fmt", "--check", str(tmp_path)]) == 0


def test_show_passes_the_line_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[View] = []

    def show(view: View, options: driver.Options, dimensions_of: driver.DimensionsOf) -> str:
        seen.append(view)
        return "shown\n"

    monkeypatch.setattr("compiler.inspection.show.show", show)
    model = tmp_path / "model.dl"
    model.write_text("")
    assert main(["show", f"{model}:12", "--stage", "asm", "--mode", "infer", "--set", "hidden=3"]) == 0
    assert capsys.readouterr().out == "shown\n"
    assert seen == [View(model, 12, "asm", "infer", overrides=(("hidden", "3"),))]


@pytest.mark.parametrize("template", ["mlp", "regression"])
def test_new_makes_a_project_and_spoils_none(template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "project"
    assert main(["new", str(folder), "--template", template]) == 0
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"model.dl", "README.md"} < set(made)
    assert f"next: dlc train {folder / 'model.dl'}" in capsys.readouterr().err
    assert main(["new", str(folder), "--template", template]) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made
