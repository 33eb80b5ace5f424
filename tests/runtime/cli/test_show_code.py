"""`show` tells apart what the lines of a model became, inside the kernels that they share."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from native import host

from compiler.driver import Options
from compiler.errors.diagnostics import UsageError
from compiler.inspection.show import show
from compiler.inspection.view import View
from compiler.targets.llvm.jit import compile_module
from runtime.cli.main import main

MODEL = """\
model Net(hidden = 48) {
    input x: f32[batch, 20]
    h = x |> dense(hidden)
        |> tanh
        |> dense(hidden)
        |> tanh
    k = h |> dense(hidden)
        |> tanh
    output logits = k |> dense(5)
}

train Net {
    target label: i32[batch] in 0..5
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 0.1)
    batch = 64
}
"""
FIRST_DENSE, FIRST_TANH, SECOND_DENSE, SECOND_TANH, THIRD_DENSE, THIRD_TANH, LAST_DENSE, LOSS, OPTIMIZER = (
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    14,
    15,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.dl"
    path.write_text(MODEL)
    return path


def shown(model: Path, stage: str, line: int | None = None, **more: Any) -> list[dict[str, Any]]:
    return json.loads(show(View(model, line, stage, format="json", **more), Options()))


def statements(kernels: list[dict[str, Any]]) -> set[str]:
    return {line["statement"] for kernel in kernels for line in kernel["code"] if line["statement"]}


@pytest.mark.parametrize("stage", ["llvm", "asm"])
def test_the_line_of_an_activation_has_none_of_the_product_that_it_is_fused_with(model: Path, stage: str) -> None:
    tanh = statements(shown(model, stage, FIRST_TANH, mode="infer"))
    dense = statements(shown(model, stage, SECOND_DENSE, mode="infer"))
    assert any("tanh(" in s for s in tanh)
    assert not any("fma(" in s for s in tanh)
    assert any("tile = fma(" in s for s in dense)
    assert not any("tanh(" in s for s in dense)


def test_a_fused_kernel_names_the_lines_of_all_its_parts(model: Path) -> None:
    kernels = shown(model, "asm", mode="infer")
    fused = next(k for k in kernels if any("tanh(" in (line["statement"] or "") for line in k["code"]))
    lines = {source["line"] for line in fused["code"] for source in line["sources"]}
    assert lines == {FIRST_DENSE, FIRST_TANH}
    assert any(not line["sources"] for line in fused["code"]), "the loop over items is of no line"


def test_kernels_that_share_their_code_say_all_their_lines(model: Path) -> None:
    kernels = shown(model, "asm", mode="infer")
    tanh = [line for k in kernels for line in k["code"] if "tanh(" in (line["statement"] or "")]
    assert any({SECOND_TANH, THIRD_TANH} <= {s["line"] for s in line["sources"]} for line in tanh)
    only = shown(model, "asm", THIRD_TANH, mode="infer")
    assert {s["line"] for k in only for line in k["code"] for s in line["sources"]} == {THIRD_TANH}


@pytest.mark.parametrize("stage", ["kernels", "loops", "asm"])
def test_sources_have_file_line_path_and_direction(model: Path, stage: str) -> None:
    sources = [s for k in shown(model, stage) for line in k["code"] for s in line["sources"]]
    assert {s["direction"] for s in sources} == {"forward", "backward", "update"}
    layers = {FIRST_DENSE, SECOND_DENSE, THIRD_DENSE, LAST_DENSE}  # the number of the update is taken for each of them
    assert {OPTIMIZER} <= {s["line"] for s in sources if s["direction"] == "update"} <= {OPTIMIZER, *layers}
    assert {s["file"] for s in sources} == {str(model)}
    paths = {s["path"] for s in sources if s["line"] == SECOND_DENSE}
    assert {path.rpartition(".")[2] for path in paths} >= {"dense_2"}


def test_offsets_grow_and_labels_are_those_of_jumps(model: Path) -> None:
    for kernel in shown(model, "asm"):
        offsets = [line["offset"] for line in kernel["code"]]
        assert offsets[0] == 0
        assert all(a < b for a, b in pairwise(offsets))
        used = " ".join(line["instruction"] for line in kernel["code"])
        assert all(label in used for line in kernel["code"] for label in line["labels"])
        assert kernel["code"][0]["labels"] == []


def test_text_shows_lines_in_a_margin_and_counts_what_it_leaves_out(model: Path) -> None:
    whole = show(View(model, stage="asm"), Options())
    part = show(View(model, FIRST_TANH, "asm"), Options())
    assert f"net.dl:{LOSS}" in whole
    assert "... " not in whole
    assert "instructions\n" in part
    margins = {row.partition(" | ")[0].strip() for row in part.splitlines() if " | " in row} - {""}
    assert margins == {f"net.dl:{FIRST_TANH}", f"net.dl:{FIRST_TANH} backward"}


def test_kernels_are_whole_and_mark_the_line(model: Path) -> None:
    part = show(View(model, FIRST_TANH, "kernels", "infer"), Options())
    (marked,) = [row for row in part.splitlines() if row.endswith(f"# net.dl:{FIRST_TANH}") and "tanh(" in row]
    assert "= tanh(v" in marked
    assert "tile = fma(" in part


def test_loops_are_the_nest_that_runs_and_leave_out_what_is_of_other_lines(model: Path) -> None:
    whole, part = (show(View(model, line, "loops", "infer"), Options()) for line in (None, FIRST_TANH))
    tanh = [row for row in part.splitlines() if re.search(r"v\d+: f32x16 = tanh\(v\d+\)", row)]
    assert tanh
    assert all(row.endswith(f"# net.dl:{FIRST_TANH}") for row in tanh)
    assert re.search(r"^  for item i\d+ in begin..end", part, re.MULTILINE), "the loops around a line stay"
    assert re.search(r"# \.\.\. \d+ lines", part)
    assert re.search(r"v\d+ \* v\d+ \+ v\d+", whole), "a product runs as fused multiply-adds"
    assert not re.search(r"v\d+ \* v\d+ \+ v\d+", part)
    assert "%" not in re.sub(r"i\d+ % ", "", whole), "no text of LLVM"


def test_the_precision_of_the_program_is_that_of_the_code(model: Path) -> None:
    model.write_text(MODEL.replace("    batch = 64", "    batch = 64\n    precision = f64"))
    for stage in ("kernels", "loops"):
        assert "f32" not in show(View(model, stage=stage), Options())


def test_syntax_has_no_nodes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(model), "--stage", "ast", "--node", "h"]) == 2
    assert "has no nodes" in capsys.readouterr().err


def test_what_runs_nothing_takes_no_option_about_running(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["plan", str(model)], ["show", str(model)]):
        for option in (["--threads", "2"], ["--cache-dir", "x"]):
            assert main([*command, *option]) == 2
            assert f"unexpected argument `{option[0]}`" in capsys.readouterr().err
        assert main([*command, "--target", "reference"]) == 2
        assert "target reference makes no code" in capsys.readouterr().err
        assert main([*command, "--dtype", "f64", "--no-fuse", "--verify"]) == 0


def test_marked_llvm_text_is_still_llvm(model: Path) -> None:
    text = show(View(model, stage="llvm", mode="infer"), Options())
    for kernel in text.split("\n; k")[1:]:
        assert compile_module("; k" + kernel, host(), verify=True)


def test_a_line_without_code_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="no code comes from there"):
        show(View(model, 16, "asm"), Options())


def test_json_is_an_option_of_the_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{model}:{FIRST_TANH}", "--stage", "asm", "--json", "--mode", "infer"]) == 0
    assert json.loads(capsys.readouterr().out) == shown(model, "asm", FIRST_TANH, mode="infer")


@pytest.mark.parametrize("stage", ["graph", "grad"])
def test_a_line_has_the_inputs_that_it_reads(stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 20 layers' weights, the line of one layer names its own; values of other lines stand as inputs `"%n"`."""
    layers = "".join(f"    h{n} = h{n - 1} |> dense(4) |> relu\n" for n in range(1, 21))
    path = tmp_path / "deep.dl"
    path.write_text(f"model Deep {{\n    input x: f32[batch, 4]\n    h0 = 2 * x\n{layers}    output y = h20\n}}\n")
    assert main(["show", f"{path}:10", "--stage", stage, "--mode", "infer"]) == 0
    shown = capsys.readouterr().out
    inputs = [line for line in shown.splitlines() if line.startswith("  input ")]
    names = [line.split()[1] for line in inputs]
    assert [name for name in names if not name.startswith('"%')] == ['"h7.dense.W"', '"h7.dense.b"']
    assert 0 < len(names) - 2 <= 2
    outputs = [line.split()[1] for line in shown.splitlines() if line.startswith("  output ")]
    assert outputs
    assert all(name.startswith('"%') for name in outputs), "what other lines read"
    assert main(["show", f"{path}:24", "--stage", stage, "--mode", "infer"]) == 2
    assert "no operation comes from there" in capsys.readouterr().err


def test_kernels_of_no_line_are_part_of_the_whole_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.dl"
    path.write_text("model One {\n    input x: f32[batch, 4]\n    a = x |> dense(3)\n    output y = a |> dense(2)\n}\n")
    assert main(["show", str(path), "--stage", "schedule", "--mode", "infer", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["instances"]
    assert main(["show", f"{path}:3", "--stage", "schedule", "--mode", "infer", "--json"]) == 0
    of_line = json.loads(capsys.readouterr().out)["instances"]
    assert 0 < len(of_line) < len(whole)
    assert all(f"{path}:3" in instance["lines"] for instance in of_line)


def test_functions_of_a_gradient_know_their_layers_and_lines(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(model), "--stage", "gradient", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert main(["show", str(model), "--stage", "gradient"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == whole["text"].rstrip("\n")
    assert all(function["text"].splitlines()[0] in whole["text"] for function in whole["functions"])
    assert main(["show", f"{model}:{FIRST_TANH}", "--stage", "gradient", "--json"]) == 0
    part = json.loads(capsys.readouterr().out)["functions"]
    place = {"file": str(model), "line": FIRST_TANH}
    assert part == [function for function in whole["functions"] if place in function["lines"]] != []
    layers = {layer for function in whole["functions"] for layer in function["layers"]}
    assert {"h.dense", "logits.dense"} <= layers
