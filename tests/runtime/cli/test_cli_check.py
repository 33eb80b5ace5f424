"""`dlc check`: which warnings are told, and what `--fix` writes."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path

import numpy as np
import pytest

import dlc
from compiler.errors.diagnostics import SourceError
from compiler.frontend import failures
from runtime.cli.main import main
from runtime.support import files

TEXT = """fn f(x) {
    first = 2 * x
    first = first + 1
    second = first
    dead = 3
    return log(softmax(x)) + log( softmax(x, axis = 0) )  # dlc: ignore[W0103]
}

model M {
    input x: f32[batch, 3]
    h = dense(2)(x)
    # dlc: ignore[W0101]
    output y = f(x)
}
"""
CORRECTED = """fn f(x) {
    first = 2 * x
    first = first + 1
    _second = first
    _dead = 3
    return log_softmax(x) + log_softmax(x, axis = 0)
}

model M {
    input x: f32[batch, 3]
    h = dense(2)(x)
    output y = f(x)
}
"""


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "model.dl").write_text(TEXT)


def codes(capsys: pytest.CaptureFixture[str], *arguments: str) -> set[str]:
    assert main(["check", "model.dl", "--json", *arguments]) == 0
    return {finding["code"] for finding in json.loads(capsys.readouterr().out)}


def test_warnings_are_chosen_by_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert codes(capsys) == {"W0102", "W0108", "W0112", "W0113"}
    assert codes(capsys, "--select", "W0102") == {"W0102"}
    assert codes(capsys, "--select", "W0102, W0108") == {"W0102", "W0108"}
    assert codes(capsys, "--ignore", "W0102,W0112") == {"W0108", "W0113"}
    assert codes(capsys, "--select", "W01", "--ignore", "W011") == {"W0102", "W0108"}
    assert main(["check", "model.dl", "--ignore", "W0108,W9"]) == 2
    assert "no warning has the code `W9`" in capsys.readouterr().err


def test_errors_are_always_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text("fn f(x) = y")
    assert main(["check", "model.dl", "--select", "W0102", "--ignore", "W"]) == 1
    assert "E0201" in capsys.readouterr().out


OPEN = """model Reads(width = 2) {
    input x: f32[batch, time, 3]
    output y = x |> gru(width)
}

model Counts(length) {
    input x: f32[batch, length]
    output y = dense(2)(x)
}
"""


def test_settings_say_what_no_data_says(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(OPEN)
    ask = ["check", "model.dl", "-e", "Reads"]
    assert main(ask) == 1
    assert "give it by `--set time=…`" in capsys.readouterr().out
    for _ in range(2):  # found, then remembered for this setting alone
        assert main([*ask, "--set", "time=5"]) == 0
        assert main([*ask, "--set", "time=-1"]) == 1
    assert main(["check", "model.dl", "-e", "Counts", "--set", "length=4"]) == 0
    capsys.readouterr()
    assert main([*ask, "--set", "time=5", "--set", "widht=4"]) == 1
    told = capsys.readouterr().out
    assert "there is no setting `widht`" in told
    assert "did you mean `width`?" in told
    assert main(["check", "model.dl", "-e", "Read", "--set", "time=5"]) == 2
    assert "did you mean Reads?" in capsys.readouterr().err


@pytest.mark.parametrize(("mark", "newline"), [(b"", "\n"), (b"\xef\xbb\xbf", "\n"), (b"", "\r\n")])
def test_fix_keeps_the_meaning(mark: bytes, newline: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_bytes(mark + TEXT.replace("\n", newline).encode())
    assert main(["check", "model.dl", "--ignore", "W0112"]) == 0
    assert "7 warnings; --fix corrects 6 of them" in capsys.readouterr().err
    assert main(["check", "model.dl", "--fix", "--ignore", "W0112"]) == 0
    told = capsys.readouterr()
    assert Path("model.dl").read_bytes() == mark + CORRECTED.replace("\n", newline).encode()
    assert "h` is not used" in told.out, "its name is part of the paths of parameters"
    assert "1 warning; 6 corrected" in told.err
    assert main(["check", "model.dl", "--fix", "--ignore", "W0112"]) == 0
    assert "1 file checked: 1 warning\n" in capsys.readouterr().err


def test_fix_corrects_what_is_selected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.dl", "--fix", "--select", "W0113"]) == 0
    capsys.readouterr()
    assert Path("model.dl").read_text() == TEXT.replace("  # dlc: ignore[W0103]", "").replace(
        "    # dlc: ignore[W0101]\n", ""
    )


def test_fix_in_a_file_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        path.write_bytes(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_bytes", refuse)
    for command in (["check", "model.dl", "--fix"], ["fmt", "model.dl"]):
        assert main(command) == 1
        assert "model.dl: the disk is full" in capsys.readouterr().err
        assert Path("model.dl").read_text() == TEXT
    assert not list(Path().glob(".*")), "nothing is left behind"


def test_a_corrected_file_keeps_its_mode_and_a_link_to_it_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").chmod(0o640)
    Path("link.dl").symlink_to("model.dl")
    assert main(["fmt", "link.dl"]) == 0
    assert "1 file changed" in capsys.readouterr().err
    assert Path("link.dl").is_symlink()
    assert stat.S_IMODE(Path("model.dl").stat().st_mode) == 0o640
    assert Path("model.dl").read_text() != TEXT


@pytest.mark.parametrize("command", [["check"], ["train"], ["bench"], ["plan"]])
def test_a_setting_of_run_time_out_of_its_range_is_told_before_anything_runs(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trained = (
        'train M {\n    data = npz("none.npz")\n    target t: f32[batch, 2]\n    loss = mse(y, t)\n'
        "    optimizer = momentum(lr = 0.1)\n    epochs = 1\n    batch = 2\n}\n"
    )
    Path("model.dl").write_text(
        "model M(rate = 0.5) {\n    input x: f32[batch, 3]\n    output y = x |> dropout(rate) |> dense(2)\n}\n\n"
        + trained
    )
    name, *options = command
    for setting, value in (("rate", "1.5"), ("optimizer.momentum", "-0.2")):
        assert main([name, "model.dl", *options, "--set", f"{setting}={value}"]) == 1
        told = "".join(capsys.readouterr())
        assert f"is at least 0 and below 1, not {value}" in told
        assert f"note: the setting `{setting}` is {value}" in told
        assert f"--set {setting}={value}" in told
    with pytest.raises(SourceError, match=r"not 1\.5"):
        dlc.load("model.dl", rate=1.5).predict({"x": np.zeros((1, 3), np.float32)})


def test_thousands_of_unknown_names_cost_no_search_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each search goes through all names, of which a long file has many."""
    searches: list[str] = []

    def counted(name: str, known: object, said: object) -> None:
        searches.append(name)

    monkeypatch.setattr(failures, "advice", counted)
    lines = [f"    y{number} = x + missing{number}" for number in range(1000)]
    file = tmp_path / "many.dl"
    file.write_text("\n".join(["model M {", "    input x: f32[batch, 4]", *lines, "    output z = x", "}"]))
    assert main(["check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert len(searches) <= 2 * failures.MOST_ADVISED  # names are checked once more with what the data says
    assert out.count("error[E0201]") == 100
    assert "and 900 more" in out
    assert "1000 errors" in err
    main(["check", str(file), "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 1000


# Data

_TRAINED = """model M {
    input x: f32[batch]
    output y = dense(3)(x[:, None])
}

train M {
    data = csv("rows.csv")
    target label: i32[batch]
    loss = cross_entropy(y, label)
    optimizer = adam()
    epochs = 2
    batch = 2
}
"""


def checked(capsys: pytest.CaptureFixture[str], text: str, rows: str, *arguments: str) -> list[tuple[str, int]]:
    Path("model.dl").write_text(text)
    Path("rows.csv").write_text(rows)
    main(["check", "model.dl", "--json", *arguments])
    return [(found["code"], found["line"]) for found in json.loads(capsys.readouterr().out)]


def test_data_that_is_there_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, _TRAINED, "x,label\n1,0\n2,2\n") == []
    assert checked(capsys, _TRAINED, "x,label\n1,0\n2,3\n") == [("E0701", 7)]
    assert checked(capsys, _TRAINED, "x,label\n1,0\n2,3\n", "--no-data") == []
    assert checked(capsys, _TRAINED, "x,kind\n1,0\n2,2\n") == [("E0701", 7)]
    assert checked(capsys, _TRAINED.replace("rows.csv", "other.csv"), "") == [("W0119", 7)]


def test_an_error_in_the_text_comes_before_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = _TRAINED.replace("dense(3)", "unknown(3)")
    assert checked(capsys, wrong, "x,kind\n1,0\n") == [("E0201", 3)]


def test_data_of_which_a_dimension_is_asked_may_be_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    wide = _TRAINED.replace("f32[batch]", "f32[batch, width]").replace("x[:, None]", "x")
    assert checked(capsys, wide, "x,label\n1,0\n2,2\n") == []
    found = checked(capsys, wide, "x,label\n1,0\n2\n")
    assert ("E0701", 7) in found
    assert {code for code, _ in found} <= {"E0701", "W0105"}
    assert checked(capsys, wide, "x,label\n1,0\n2,2\n", "--no-data") == [("W0105", 2)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("batch = 2", "batch = 3", []),
        ("batch = 2", "batch = 100000", ["W0120"]),
        ("epochs = 2", "epochs = 2\n    schedule = warmup(4)", []),
        ("epochs = 2", "epochs = 2\n    schedule = warmup(100000)", ["W0120"]),
        ("adam()", "adam(lr = 1e6)", ["W0120"]),
        ("adam()", "gradient_descent(lr = 10.0)", []),
    ],
)
def test_numbers_that_fit_no_run_are_remarked(
    before: str, after: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "x,label\n1,0\n2,2\n3,1\n"
    text = _TRAINED.replace(before, after)
    found = checked(capsys, text, rows)
    place = text[: text.index(after.rsplit("\n", 1)[-1])].count("\n") + 1
    assert found == [(code, place) for code in expected]
    assert main(["train", "model.dl", "--dry-run"]) == 0
    assert ("note: " in capsys.readouterr().err) is bool(expected)


def test_a_number_of_the_command_line_is_remarked_there(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "x,label\n1,0\n2,2\n3,1\n"
    assert checked(capsys, _TRAINED, rows, "--set", "batch=1000") == [("W0120", 1)]
    suppressed = _TRAINED.replace("batch = 2", "batch = 1000  # dlc: ignore[W0120]")
    assert checked(capsys, suppressed, rows) == []


@pytest.mark.parametrize(
    ("key", "line"),
    [('validation = csv("other.csv")', 8), ("validation = 0.01", 8), ("test = 0.9", 8), ('test = csv("other.csv")', 8)],
)
def test_a_fault_of_other_data_is_told_at_its_key(key: str, line: int, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.csv").write_text("x,label\n1,7\n", encoding="utf-8")
    text = _TRAINED.replace('data = csv("rows.csv")\n', f'data = csv("rows.csv")\n    {key}\n')
    assert checked(capsys, text, "x,label\n1,0\n2,2\n") == [("E0701", line)]


def test_logarithms_of_data_are_judged_by_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    text = _TRAINED.replace("x[:, None]", "log(x)[:, None]")
    assert checked(capsys, text, "x,label\n1,0\n2,2\n") == []
    assert checked(capsys, text, "x,label\n1,0\n0,2\n") == [("W0108", 3)]
    assert checked(capsys, text.replace("log(x)", "log(x + 1)"), "x,label\n1,0\n0,2\n") == []


def test_each_remark_on_a_number_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    for before, after, fix in (("batch = 2", "batch = 1000", "batch = all"), ("adam()", "adam(lr = 1e6)", "dlc lr")):
        checked(capsys, _TRAINED.replace(before, after), "x,label\n1,0\n2,2\n")
        main(["check", "model.dl"])
        assert fix in capsys.readouterr().out


@pytest.mark.parametrize(("function", "inside", "outside"), [("sqrt", "0", "-0.1"), ("log1p", "-0.9", "-1")])
def test_other_functions_of_data_have_their_own_range(
    function: str, inside: str, outside: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _TRAINED.replace("x[:, None]", f"{function}(x)[:, None]")
    assert checked(capsys, text, f"x,label\n1,0\n{inside},2\n") == []
    assert checked(capsys, text, f"x,label\n1,0\n{outside},2\n") == [("W0108", 3)]


def test_a_logarithm_of_scaled_data_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = _TRAINED.replace("x[:, None]", "log(x)[:, None]").replace('"rows.csv"', '"rows.csv", normalise = true')
    Path("model.dl").write_text(text, encoding="utf-8")
    Path("rows.csv").write_text("x,label\n1,0\n3,2\n", encoding="utf-8")
    assert main(["check", "model.dl"]) == 0
    said = capsys.readouterr().out
    assert "which is -1 in row 2 of rows.csv after `normalise`" in said
    assert "or leave `normalise` out" in said
