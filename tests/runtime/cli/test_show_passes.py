"""`dlc show` prints the graph behind any pass, and how long each takes; `dlc pass` runs one on the text of a graph."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from random import Random

import pytest
from graph_text import X, constant

from compiler.driver import Options
from compiler.graph.reader import read_graph
from compiler.inspection.passes import all_passes, pass_names
from compiler.ops import OPS
from compiler.schedule.fusion.reader import read_fused
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS
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
    assert [heading.split(":")[0] for heading in headings] == [each.name for each in all_passes(Options())]
    assert "eliminate_dead:4" in headings
    assert len(set(headings)) == len(headings)


def test_the_last_passes_give_the_fixed_and_the_fused_stage(capsys: pytest.CaptureFixture[str]) -> None:
    names = [each.name for each in all_passes(Options())]
    for last, stage in ((names[names.index("fuse") - 1], "fixed"), (names[-1], "fused")):
        behind = printed(capsys, "show", "net.dl", "--stop-after", last)
        assert behind == printed(capsys, "show", "net.dl", "--stage", stage)


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
    assert len(table) == len(all_passes(Options())) + 2
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
        (["--print-after", "all", "--print-after", "simplfy"], "did you mean `simplify`?"),
        (["--no-fusion", "siblings", "--print-after", "join_siblings"], "the pass `join_siblings` does not run here"),
        (["--stop-after", "to_f64"], "the pass `to_f64` does not run here"),
        (["--stop-after", ""], "there is no pass ``"),
        (["--print-after", "form_fma", "--stop-after", "simplify"], "form_fma runs after simplify"),
        (["--time-passes", "--stage", "grad"], "passes are shown in place of a stage"),
        (["--stop-after", "fuse", "--format", "svg"], "a fused graph cannot be drawn"),
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
    names = [each.name for each in all_passes(Options())]
    first = ("widen_numbers", "simplify", "rematerialise", "fuse")
    for before in (*first, *names[names.index("fuse") + 1 : -1]):
        after = names[names.index(before) + 1]
        Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stop-after", before))
        found = printed(capsys, "pass", after, "graph.txt", "--batch", "8").splitlines()
        wanted = printed(capsys, "show", "net.dl", "--stop-after", after).splitlines()
        assert found == [line.split("  # ")[0] for line in wanted]
    Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stage", "fixed"))
    assert main(["pass", "eliminate_dead", "graph.txt"]) == 0


@pytest.mark.parametrize("before", ["widen_numbers", "simplify", "fix_numerics", "fuse", "overwrite"])
def test_the_part_of_a_line_can_be_read(before: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [each.name for each in all_passes(Options())]
    after = names[names.index(before) + 1]
    for line in (3, 9):
        Path("part.txt").write_text(printed(capsys, "show", f"net.dl:{line}", "--stop-after", before))
        assert printed(capsys, "pass", after, "part.txt")


def test_a_line_has_the_groups_of_its_nodes_and_what_these_need(capsys: pytest.CaptureFixture[str]) -> None:
    whole, part = (printed(capsys, "show", f"net.dl{line}", "--stage", "fused") for line in ("", ":9"))
    everything, some = (read_fused(text, (*OPS, *INTERNAL_OPS)) for text in (whole, part))
    assert 0 < len(some.groups) < len(everything.groups)
    assert 0 < len(some.unplaced) < len(everything.unplaced)
    read = {operand for _, node in some.unplaced for operand in node.operands}
    read |= {value for group in some.groups for m in group.members for value in (*m.needs, *m.node.operands)}
    assert {result for _, node in some.unplaced for result in node.results} <= read


def test_a_machine_goes_with_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "show", "net.dl", "--stop-after", "fuse", "--target", "avx2").startswith("fused ")


def test_a_hyphen_is_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given(GRAPH, monkeypatch)
    assert printed(capsys, "pass", "simplify", "-").startswith('graph "g"')


FUSED = """\
fused "g" batch 32
  input "x" data %0: f32[batch, 4]
  group 0 elements 4*batch
    1: %3: f32[batch, 4] = exp(%0)
        full %0[e//4, e mod 4]
  output "y" output %3
end
"""


def test_a_pass_on_a_fused_graph(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fused.txt").write_text(f"# a comment\n{FUSED}")
    assert printed(capsys, "pass", "order", "fused.txt") == FUSED.replace("batch 32", "batch 32 ordered")
    assert json.loads(printed(capsys, "pass", "order", "fused.txt", "--json"))["batch"] == 32
    Path("graph.txt").write_text(GRAPH)
    assert printed(capsys, "pass", "fuse", "graph.txt", "--batch", "8").startswith('fused "g" batch 8\n')


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("order", GRAPH, "is not a fused graph, which order takes"),
        ("simplify", FUSED, "is not a graph, which simplify takes"),
        ("order", "", "the text does not begin with"),
        ("order", FUSED.replace("1: %3", f"{'9' * 5000}: %3"), "is no whole number of at most 18 digits"),
        ("order", FUSED.replace("batch 32", f"batch {'1' * 4301}"), "is no whole number of at most 18 digits"),
        ("order", FUSED.replace("e//4", f"e//{'4' * 4301}"), "is no whole number of at most 18 digits"),
        ("order", FUSED.replace("[batch, 4]", f"[batch, {'4' * 4301}]"), "more than 18 digits"),
        ("order", FUSED.replace("exp(%0)", "exp(%0, %0)"), "exp takes 1 tensor, but got 2"),
        ("order", FUSED.replace("e mod 4", "e mod 4 + 1"), "%3 reads outside of %0"),
        ("order", FUSED.replace("e mod 4]", "e mod 4] where {e < x}"), "'x' is no whole number"),
        ("order", FUSED.replace("full %0[e//4, e mod 4]", "full"), "%3 reads 0 values, and its op 1"),
        ("join_siblings", FUSED.replace("end", "  %3 lies in %0\nend"), "has storage for its values already"),
        ("join_siblings", FUSED.replace("batch 32", "batch 32 ordered"), "has storage for its values already"),
    ],
)
def test_a_text_that_is_no_fused_graph(name: str, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("fused.txt").write_text(text)
    code, error = refused(capsys, "pass", name, "fused.txt")
    assert code == 1
    assert message in error
    assert "fault of dlc" not in error


def test_a_graph_that_is_not_in_the_fixed_form(capsys: pytest.CaptureFixture[str]) -> None:
    total = "%1: f32[3] = sum(%0) axes=[0, 2]"
    lines = ('input "x" data %0: f32[2, 3, 4]', total, 'output "y" output %1', 'output "z" output %1')
    Path("graph.txt").write_text("\n".join(('graph "g"', *lines, "end")))
    code, error = refused(capsys, "pass", "fuse", "graph.txt")
    assert code == 1
    assert (
        f"graph.txt: is not in the form of the stage `fixed`, which fuse takes: fix_numerics changes `{total}`" in error
    )
    assert "run `dlc pass fix_numerics` before" in error
    assert main(["pass", "fix_numerics", "graph.txt", "--output", "fixed.txt"]) == 0
    assert printed(capsys, "pass", "fuse", "fixed.txt").startswith("fused ")
    twice = Path("fixed.txt").read_text()
    output = next(line for line in twice.splitlines() if 'output "y"' in line)
    Path("fixed.txt").write_text(re.sub('output "z".*', output.strip().replace('"y"', '"z"'), twice))
    assert "fix_numerics changes the output `z`" in refused(capsys, "pass", "fuse", "fixed.txt")[1]


def test_a_graph_in_the_fixed_form_goes_back_to_no_pass_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Two equal `empty` are two pieces of memory: `eliminate_common` would let one tensor be written over the other."""
    Path("net.dl").write_text(
        "model Net {\n    input x: f32[batch, 6]\n    input z: f32[batch, 6]\n"
        "    a = concat(x, z, axis = 1)\n    b = concat(z, x, axis = 1)\n    output y = exp(a) * b + a\n}\n"
    )
    Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stage", "fixed"))
    code, error = refused(capsys, "pass", "eliminate_common", "graph.txt")
    assert code == 1
    assert "as it has the op empty, and eliminate_common takes a graph before that" in error
    for name in ("eliminate_dead", "fix_numerics", "rematerialise", "fuse"):
        assert printed(capsys, "pass", name, "graph.txt")


def test_the_step_before_its_form_is_fixed_cannot_be_fused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stage", "step"))
    assert "is not in the form of the stage `fixed`" in refused(capsys, "pass", "fuse", "graph.txt")[1]


def test_a_fixed_graph_with_a_loop_can_be_fused(capsys: pytest.CaptureFixture[str]) -> None:
    loop = "input x: f32[batch, 5, 6]\n    output logits = x |> lstm(hidden) |> flatten |> dense(3)"
    Path("net.dl").write_text(MODEL.replace(MODEL[MODEL.index("input") : MODEL.index("\n}")], loop))
    Path("graph.txt").write_text(printed(capsys, "show", "net.dl", "--stage", "fixed"))
    assert " = scan(" in printed(capsys, "pass", "fuse", "graph.txt")


def test_the_list_of_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(printed(capsys, "pass", "--list").split()) == pass_names(Options())
    assert json.loads(printed(capsys, "pass", "--list", "--json")) == list(pass_names(Options()))


def test_the_passes_of_another_target(capsys: pytest.CaptureFixture[str]) -> None:
    names = printed(capsys, "pass", "--list", "--target", "gpu").split()
    assert ("ask_for_nothing" in names, "pack_panels" in names) == (True, False)
    tiles = printed(capsys, "show", "net.dl", "--stage", "tiles", "--target", "gpu")
    Path("rows.txt").write_text(re.split(r"\n(?=#)", tiles[tiles.index("rows batch") :])[0])
    kept = printed(capsys, "pass", "keep_rows", "rows.txt", "--target", "gpu")
    assert "rows batch" in kept
    assert "there is no pass `unroll_and_jam`" in refused(capsys, "pass", "unroll_and_jam", "--target", "gpu")[1]
    assert "has no kernels" in refused(capsys, "pass", "fuse", "--target", "reference")[1]
    assert "did you mean `gpu`" in refused(capsys, "pass", "fuse", "--target", "gpuu")[1]


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
        (["--list", "simplify"], "--list goes without `simplify`"),
        (["simplify", "--batch", "0"], "wants a whole number"),
    ],
)
def test_misuse_of_the_command(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = refused(capsys, "pass", *words)
    assert code == 2
    assert message in error


@pytest.mark.parametrize("stage", ["step", "fused"])
def test_damaged_graphs_are_refused_or_understood(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Words of a step exchanged at random: never a fault of the compiler."""
    words = printed(capsys, "show", "net.dl", "--stage", stage).split(" ")
    known = [each.name for each in all_passes(Options()) if each.is_fused is (stage == "fused")]
    random = Random(4)
    for _ in range(60):
        damaged = list(words)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(words))] = random.choice((random.choice(words), "-1", "batch]", "10000000000"))
        Path("graph.txt").write_text(" ".join(damaged))
        assert main(["pass", random.choice(known), "graph.txt"]) in (0, 1)
        assert "fault of dlc" not in capsys.readouterr().err
