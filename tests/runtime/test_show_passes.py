"""`dlc show` prints the graph behind any pass, and how long each takes; `dlc pass` runs one on the text of a graph."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import pytest
from graph_text import X, constant

from compiler.driver import Options
from compiler.graph.reader import read_graph
from compiler.inspection.pass_view import pass_names
from compiler.ops import OPS
from compiler.pipeline import passes_of
from runtime.cli.main import main

MODEL = """\
model Net(hidden = 8) {
    input x: f32[batch, 6]
    output logits = x |> dense(hidden) |> sigmoid |> dense(3)
}

train Net {
    target label: i32[batch] in 0..3
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 0.1)
    batch = 8
}
"""
NODES = (*constant(1, 1.0), "%2: f32[batch, 4] = mul(%0, %1)", "%3: f32[batch, 4] = exp(%2)")
GRAPH = "\n".join(('graph "g"', X, *NODES, 'output "y" output %3', "end"))


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("net.dl")
    path.write_text(MODEL)
    return path


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    output = capsys.readouterr()
    assert output.out == ""
    return code, output.err


def given(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_stages_of_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    step, simplified, fixed = (printed(capsys, "show", "net.dl", "--stage", s) for s in ("step", "grad", "fixed"))
    assert "backward" in step
    assert len(step.splitlines()) > len(simplified.splitlines())
    assert " = argmax(" not in fixed
    assert fixed != simplified


def test_a_prediction_has_the_same_stages(capsys: pytest.CaptureFixture[str]) -> None:
    graph, step = (printed(capsys, "show", "net.dl", "--mode", "infer", "--stage", s) for s in ("graph", "step"))
    assert graph == step


def test_all_passes_are_printed_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "show", "net.dl", "--print-after", "all")
    headings = [line.split()[2] for line in text.splitlines() if line.startswith("# after ")]
    assert [heading.split(":")[0] for heading in headings] == [each.name for each in passes_of(Options())]
    assert "eliminate_dead:4" in headings
    assert len(set(headings)) == len(headings)


def test_the_last_pass_gives_the_fixed_stage(capsys: pytest.CaptureFixture[str]) -> None:
    last = passes_of(Options())[-1].name
    behind = printed(capsys, "show", "net.dl", "--stop-after", last)
    assert behind == printed(capsys, "show", "net.dl", "--stage", "fixed")


def test_a_name_without_a_number_is_every_run_or_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    both = printed(capsys, "show", "net.dl", "--print-after", "simplify")
    assert "# after simplify (" in both
    assert "# after simplify:2 (" in both
    second = printed(capsys, "show", "net.dl", "--print-after", "simplify:2")
    assert "# after simplify (" not in second
    assert second in both
    first = printed(capsys, "show", "net.dl", "--stop-after", "simplify")
    assert first == printed(capsys, "show", "net.dl", "--stop-after", "simplify:1")
    assert first.rstrip("\n") in both


def test_times_name_every_pass(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(capsys, "show", "net.dl", "--time-passes").splitlines()
    assert table[0].split() == ["pass", "ms", "share", "nodes"]
    assert len(table) == len(passes_of(Options())) + 2
    assert all(len(line) <= 80 for line in table)
    runs = json.loads(printed(capsys, "show", "net.dl", "--time-passes", "--stop-after", "simplify", "--json"))[
        "passes"
    ]
    assert [run["pass"] for run in runs][-1] == "simplify"
    assert all(run["seconds"] >= 0 for run in runs)
    assert [run["nodes_before"] for run in runs[1:]] == [run["nodes"] for run in runs[:-1]]
    assert [run["pass"] for run in runs if "graph" in run] == ["simplify"]


def test_a_line_of_each_pass(capsys: pytest.CaptureFixture[str]) -> None:
    whole = printed(capsys, "show", "net.dl", "--print-after", "simplify")
    part = printed(capsys, "show", "net.dl:3", "--print-after", "simplify")
    assert 0 < len(part) < len(whole)
    assert all(":3:" in line for line in part.splitlines() if " = " in line and "constant" not in line)


@pytest.mark.parametrize("stage", ["fused", "schedule", "kernels"])
def test_a_line_without_kernels(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capsys, "show", "net.dl:4", "--stage", stage)
    assert code == 2
    assert "comes from there" in error


def test_a_line_without_operations(capsys: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capsys, "show", "net.dl:4", "--print-after", "simplify")
    assert code == 2
    assert "no operation comes from there" in error


def test_the_graph_behind_a_pass_can_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "show", "net.dl", "--stop-after", "simplify", "--format", "dot").startswith("digraph")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--print-after", "simplfy"], "did you mean `simplify`?"),
        (["--stop-after", "simplify:3"], "there is no pass `simplify:3`"),
        (["--stop-after", "all"], "there is no pass `all`"),
        (["--stop-after", ""], "there is no pass ``"),
        (["--print-after", "form_fma", "--stop-after", "simplify"], "form_fma runs after simplify"),
        (["--time-passes", "--stage", "grad"], "passes are shown in place of a stage"),
        (["--time-passes", "--machine", "avx2"], "the same for every machine"),
        (["--time-passes", "--format", "svg"], "a picture is of one graph"),
        (["--print-after", "all", "--format", "dot"], "a picture is of one graph"),
    ],
)
def test_misuse(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capsys, "show", "net.dl", *words)
    assert code == 2
    assert message in error


def test_a_pass_on_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given(GRAPH, monkeypatch)
    text = printed(capsys, "pass", "simplify")
    assert [node.op.name for node in read_graph(text, OPS).nodes][-1] == "exp"
    Path("graph.txt").write_text(GRAPH)
    assert printed(capsys, "pass", "simplify", "graph.txt") == text
    assert main(["pass", "simplify", "graph.txt", "--output", "out.txt"]) == 0
    assert Path("out.txt").read_text() == text
    as_data = printed(capsys, "pass", "simplify", "graph.txt", "--json")
    assert json.loads(as_data)["name"] == "g"
    assert printed(capsys, "pass", "simplify", "--json", "graph.txt") == as_data


def test_what_is_shown_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The next pass on the text of the graph gives what it gives within the compiler."""
    names = [each.name for each in passes_of(Options())]
    for before, after in (("widen_numbers", "resolve_custom_gradients"), ("simplify", "eliminate_common")):
        assert names[names.index(before) + 1] == after
        Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stop-after", before))
        found = printed(capsys, "pass", after, "graph.txt").splitlines()
        wanted = printed(capsys, "show", "net.dl", "--stop-after", after).splitlines()
        assert found == [line.split("  # ")[0] for line in wanted]
    Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stage", "fixed"))
    assert main(["pass", "eliminate_dead", "graph.txt"]) == 0


def test_the_list_of_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(printed(capsys, "pass", "--list").split()) == pass_names()
    assert json.loads(printed(capsys, "pass", "--list", "--json")) == list(pass_names())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "<stdin>:1: expected `graph` and found the end of the text"),
        ("nothing", "expected `graph` and found `nothing`"),
        ('graph "g" end end', "expected the end of the text and found `end`"),
        (GRAPH[:-30], "no op is called ex"),
        (GRAPH.replace("exp(%2)", "exp(%0, %2)"), "exp takes 1 tensor, but got 2"),
        (GRAPH.replace("%3: f32[batch, 4] = exp", "%3: f32[batch, 5] = exp"), "its results have other types"),
        (GRAPH.replace("exp(", "exo("), "<stdin>:6: no op is called exo\nhint: did you mean `exp`?"),
        (GRAPH.replace("%3", "%2"), "%2 is defined a second time"),
        (GRAPH[:-3] + 'output "a" output %0 updates "x" output "b" output %3 updates "x" end', "two outputs update x"),
        ("\x00\x1b]0;title\x07\xff" * 10, "unexpected text"),
        ("graph " + "[" * 100_000, "expected a string"),
        ('graph "g" ' * 10_000, "expected a value and found `graph`"),
        ('graph "g" %1: f32[] = scan() body={' + 'graph "g" %1: f32[] = scan() body={' * 1000, "more than 32 brackets"),
    ],
    ids=lambda text: text[:20].replace("\x00", ""),
)
def test_a_text_that_is_no_graph(
    text: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given(text, monkeypatch)
    code, error = refused(capsys, "pass", "simplify")
    assert code == 1
    assert message in error
    assert "fault of dlc" not in error
    assert "\x1b" not in error


def test_a_tensor_without_elements(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    product = "%1: f32[batch, 0] = contraction(%0, %9) lhs=[0, 2] rhs=[2, 1] out=[0, 1]"
    weights = 'input "w" parameter %9: f32[4, 0]'
    given("\n".join(('graph "g"', X, weights, product, 'output "y" output %1', "end")), monkeypatch)
    assert "f32[batch, 0] = contraction(" in printed(capsys, "pass", "fix_numerics")


def test_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input is UTF-8 in every locale, also where the interpreter would let other bytes pass."""
    damaged = io.BytesIO(b'graph "\xff\xfe"\nend')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(damaged, encoding="utf-8", errors="surrogateescape"))
    assert refused(capsys, "pass", "simplify")[1].startswith("error: <stdin>: is not UTF-8 text")


def test_files_that_are_no_graph(capsys: pytest.CaptureFixture[str]) -> None:
    Path("picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    assert refused(capsys, "pass", "simplify", "picture.png")[1].startswith("error: picture.png: is not UTF-8 text")
    with Path("huge.txt").open("wb") as file:
        file.truncate(1 << 30)
    assert "has more than 16.0 MB" in refused(capsys, "pass", "simplify", "huge.txt")[1]
    assert refused(capsys, "pass", "simplify", "absent.txt")[0] == 1
    assert refused(capsys, "pass", "simplify", ".")[0] == 1
    assert refused(capsys, "pass", "simplify", "/dev/zero")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simplfy"], "hint: did you mean `simplify`?"),
        (["../../etc/passwd"], "there is no pass `../../etc/passwd`"),
        (["simplify:2"], "there is no pass `simplify:2`"),
        ([], "PASS is missing"),
        (["simplify", "a", "b"], "unexpected argument `b`"),
        (["simplify", "--batch", "0"], "wants a whole number"),
    ],
)
def test_misuse_of_the_command(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capsys, "pass", *words)
    assert code == 2
    assert message in error


def test_damaged_graphs_are_refused_or_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """Words of a step exchanged at random: never a fault of the compiler."""
    words = printed(capsys, "show", "net.dl", "--stage", "step").split(" ")
    random = Random(4)
    for _ in range(60):
        damaged = list(words)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(words))] = random.choice((random.choice(words), "-1", "batch]", "10000000000"))
        Path("graph.txt").write_text(" ".join(damaged))
        assert main(["pass", random.choice(pass_names()), "graph.txt"]) in (0, 1)
        assert "fault of dlc" not in capsys.readouterr().err
