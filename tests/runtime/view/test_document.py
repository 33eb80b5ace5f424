"""The document of a page: its figures are those of `dlc plan`, `dlc profile`, `dlc show` and `dlc check`."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from view_pages import SMALL, page_of, printed, written

from compiler.frontend.library import library_scope
from compiler.interface import Options
from runtime.cli.main import main
from runtime.view.document import Page
from runtime.view.viewed import viewed_file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def page(model: Path) -> Page:
    return page_of(model)


def figures_at(page: Any, line: int, file: int = 0) -> Any:
    return next(row for row in page.document["lines"] if (row["file"], row["line"]) == (file, line))


def test_the_figures_of_lines_add_up_to_the_plan(page: Any, model: Path, capsys: pytest.CaptureFixture[str]):
    plan, lines = printed(capsys, "plan", model, "--json"), page.document["lines"]
    assert json.loads(json.dumps(page.document["plan"])) == plan
    assert sum(row["parameters"] for row in lines) == plan["parameters"] == 6 * 12 + 12 + 12 * 12 + 12 + 12 * 3 + 3
    assert sum(row["flops_forward"] for row in lines) == pytest.approx(plan["flops_forward"], rel=1e-12)
    assert sum(sum(row["flops"]) for row in lines) == pytest.approx(plan["flops_step"], rel=1e-12)


def test_a_line_has_its_own_figures(page: Page):
    assert figures_at(page, 6)["parameters"] == 6 * 12 + 12 + 12 * 12 + 12
    assert figures_at(page, 10)["parameters"] == 12 * 3 + 3
    assert figures_at(page, 10)["flops_forward"] == 16 * (2 * 12 * 3 + 3)
    assert figures_at(page, 2, 1)["flops_forward"] == 16 * 12  # the line of the function, in its own file
    forward, backward, _ = figures_at(page, 6)["flops"]
    assert forward < backward  # two products for one


def test_the_arithmetic_of_updates_is_at_the_line_that_asks_for_it(tmp_path: Path):
    keys = "clip = global_norm(1.0)", "ema = 0.9", "schedule = linear(T = 9)", "optimizer = adam(lr = 0.01)"
    text = SMALL.replace(f"    {keys[-1]}\n", "".join(f"    {key}\n" for key in keys))
    page: Any = page_of(written(tmp_path / "asked", text=text))
    updates = {row["line"]: row["flops"][2] for row in page.document["lines"] if row["flops"][2]}
    lines = [line.strip() for line in text.splitlines()]
    assert {lines[n - 1] for n in updates} == {*keys}
    clip, ema = (updates[1 + lines.index(key)] for key in keys[:2])
    weights = page.document["plan"]["parameters"]
    assert 3 * weights <= clip <= 3 * weights + 16  # a square, a sum, a product; and scalars
    assert ema == 3 * weights


def test_bytes_and_times_are_those_of_the_profile(model: Path):
    viewed = viewed_file(model, Options(threads=1), None, (), None)
    reading = viewed.reading()
    measured = viewed.profile(reading, 0.05)
    document: Any = viewed.page(reading, measured).document
    files = [source["name"] for source in document["sources"]]
    rows = {(files.index(row["file"]) if row["file"] else -1, row["line"]): row for row in document["profile"]["lines"]}
    moved = {(row["file"], row["line"]): row["bytes"] for row in document["lines"] if "bytes" in row}
    assert moved == {place: pytest.approx(row["bytes"]) for place, row in rows.items()}
    kernels = {kernel["symbol"]: kernel for kernel in document["kernels"]}
    runner = {"dlc_fetch", "dlc_collect"}  # move rows of the data, and come from no line
    timed = {row["symbol"]: row for row in document["profile"]["kernels"] if row["symbol"] not in runner}
    assert kernels.keys() == timed.keys()
    for symbol, row in timed.items():
        assert all(kernels[symbol][key] == row[key] for key in ("calls", "flops", "bytes"))


@pytest.mark.parametrize("stage", ["asm", "llvm"])
@pytest.mark.parametrize("line", [6, 8, 10, 15, 17])
def test_the_code_of_a_line_is_that_which_show_chooses(
    page: Any, model: Path, line: int, stage: str, capsys: pytest.CaptureFixture[str]
):
    shown = printed(capsys, "show", f"{model}:{line}", "--stage", stage, "--json")
    expected = {k["symbol"]: [code.get("instruction", code.get("text")) for code in k["code"]] for k in shown}
    own = [
        any(file == 0 and first <= line <= last for file, first, last in origin["places"])
        for origin in page.document["origins"]["all"]
    ]
    chosen = [any(own[number] for number in members) for members in page.document["origins"]["sets"]]
    found: dict[str, list[str]] = {}
    for symbol, stages in page.code.items():
        code = stages[stage]
        rows = [t for t, o in zip(code["text"].split("\n"), code["origins"], strict=True) if chosen[o]]
        if rows:
            found[symbol] = [row.replace("\t", " ") for row in rows] if stage == "asm" else rows
    assert found == expected
    assert expected


def test_types_are_those_that_messages_print_with_the_origin_of_each_dimension(page: Any):
    names = {(b["file"], b["line"], b["name"]): b for b in page.document["bindings"]}
    looped = names[0, 6, "x"]
    (both,) = looped["rounds"]
    assert (both["shape"], both["count"]) == ("f32[batch, 12]", 2)
    assert both["dimensions"] == [_axis("batch", 4, "batch"), _axis("12", 6, "dense(hidden)")]
    assert figures_at(page, 15)["type"] == "f32[]"


def _axis(text: str, line: int, place: str) -> dict[str, Any]:
    return {"text": text, "from": {"file": 0, "line": line, "text": place}}


PIPES = """layer network(width)(x: [batch, n]) -> [batch, 3], [batch, 3] {
    return x |> dense(width) |> dense(3), x |> dense(3)
}

model Net {
    input image: u8[batch, 3, 8, 8]
    x = image / 255 |> conv2d(4, 3)
        |> batch_norm |> relu
        |> flatten
    a, b = x |> network(9)
    c, _ = x[:, 0:5] |> network(9)
    output y = a + b + c
}
"""


def test_a_step_without_a_name_has_its_type_with_the_origin_of_each_dimension(tmp_path: Path):
    page: Any = page_of(written(tmp_path / "pipes", text=PIPES))
    steps = {(b["line"], b["text"]): b["rounds"] for b in page.document["bindings"] if not b["name"]}
    batch, three = _axis("batch", 6, "batch"), _axis("3", 2, "dense(3)")
    image = [_axis("4", 7, "conv2d(4, 3)"), *[_axis("6", 7, "conv2d(4, 3)")] * 2]
    assert steps == {
        (2, "x |> dense(width) |> dense(3)"): [{"shape": "f32[batch, 3]", "count": 2, "dimensions": [batch, three]}],
        (2, "x |> dense(3)"): [{"shape": "f32[batch, 3]", "count": 2, "dimensions": [batch, three]}],
        (7, "image / 255 |> conv2d(4, 3)"): [
            {"shape": "f32[batch, 4, 6, 6]", "count": 1, "dimensions": [batch, *image]}
        ],
        (8, "relu"): [{"shape": "f32[batch, 4, 6, 6]", "count": 1, "dimensions": [batch, *image]}],
        (9, "flatten"): [{"shape": "f32[batch, 144]", "count": 1, "dimensions": [batch, _axis("144", 9, "flatten")]}],
    }


def test_the_rounds_of_other_types_have_origins_of_their_own(tmp_path: Path):
    text = PIPES.replace(
        "a, b = x |> network(9)", "for width in [2, 5] { x = x |> dense(width) }\n    a, b = x |> network(9)"
    )
    page: Any = page_of(written(tmp_path / "rounds", text=text))
    (looped,) = (b for b in page.document["bindings"] if (b["line"], b["name"]) == (10, "x"))
    assert [(r["shape"], r["dimensions"][1]["text"]) for r in looped["rounds"]] == [
        ("f32[batch, 2]", "2"),
        ("f32[batch, 5]", "5"),
    ]


def test_the_type_of_a_line_is_none_of_a_gradient_that_goes_through_it(tmp_path: Path):
    text = """layer network()(x: [batch, n]) -> [batch, 3] {
    return x |> dense(8) |> tanh |> dense(3)
}

model Net {
    input x: f32[batch, 6]
    output y = network()(x)
    output slope = gradient(y, x)
}
"""
    page: Any = page_of(written(tmp_path / "slope", text=text))
    assert figures_at(page, 2)["type"] == "f32[batch, 3]"


def test_what_a_line_calls_is_documented(page: Any):
    documents = page.document["documents"]
    called = {(file, line): names for file, line, *names in documents["called"]}
    assert called[0, 6] == ["dense", "relu"]
    assert called[0, 8] == ["scaled"]
    assert called[0, 17] == ["adam"]
    assert documents["entries"]["scaled"]["text"] == 'Twice `x`, "as it is".'
    assert documents["entries"]["adam"]["keyword"] == "optimizer"
    assert documents["entries"]["dense"]["place"] == "<prelude>/layers/dense.dl"


def test_an_input_named_like_a_function_of_the_library_is_no_call(tmp_path: Path):
    text = SMALL.replace("input x:", "input pixels:")
    text = text.replace(
        "    for i in 0..2 {", "    x = pixels / 16 |> dense(6, weights = he_normal)\n    for i in 0..2 {"
    )
    page: Any = page_of(written(tmp_path / "named", text=text))
    documents = page.document["documents"]
    called = {(file, line): names for file, line, *names in documents["called"]}
    assert called[0, 5] == ["dense", "he_normal"]
    assert "pixels" not in documents["entries"]


def test_living_buffers_do_not_share_bytes(page: Any):
    memory = page.document["memory"]
    assert memory["static_bytes"] == page.document["plan"]["memory"]["static_bytes"]
    assert memory["batch_bytes"] == page.document["plan"]["memory"]["batch_bytes"]
    buffers = memory["buffers"]
    for n, (_, arena, offset, size, first, last, _) in enumerate(buffers):
        assert offset + size <= memory["batch_bytes" if arena else "static_bytes"]
        for _, other_arena, other, length, begin, end, _ in buffers[:n]:
            at_once = arena == other_arena and begin <= last and first <= end
            assert not at_once or other + length <= offset or offset + size <= other
    needed = [sum(b[3] for b in buffers if b[4] <= k <= b[5]) for k in range(len(memory["stretches"]))]
    assert needed[memory["peak"]] == max(needed)


def test_the_graph_has_a_box_for_each_application(page: Any):
    graph = page.document["graph"]
    found = [(part["name"], part["times"]) for part in graph["parts"]]
    assert found == [("dense, relu", 2), ("scaled", 1), ("dense", 1), ("cross_entropy", 1), ("accuracy", 1)]
    keys = {part["key"] for part in graph["parts"]}
    assert all(arrow["to"] in keys and arrow["from"] in keys | {""} for arrow in graph["arrows"])
    assert {arrow["input"] for arrow in graph["arrows"]} == {None, "x", "label"}


def test_the_work_of_the_boxes_is_that_of_the_lines(page: Any):
    def expect_parts_within(level: Any) -> None:
        for n, whole in enumerate(level.get("flops", ())):
            assert sum(part.get("flops", (0, 0, 0))[n] for part in level["parts"]) <= whole
        for part in level["parts"]:
            expect_parts_within(part)

    graph = page.document["graph"]
    flops = [sum(row["flops"][n] for row in page.document["lines"]) for n in range(3)]
    assert graph["flops"] == pytest.approx(flops)
    expect_parts_within(graph)
    parts = {part["name"]: part for part in graph["parts"]}
    assert parts["dense"]["slopes"] > 0
    assert "slopes" not in parts["accuracy"] or parts["accuracy"]["slopes"] == 0
    innermost = [p for p in parts["dense"]["parts"] if not p["parts"]] or [parts["dense"]]
    assert any(op == "contraction" for p in innermost for op, _ in p["backward"])


def test_a_text_with_mistakes_has_findings_and_no_figures(tmp_path: Path):
    path = written(tmp_path, text="model M {\n    input x: f32[batch, 4]\n    output y = x |> dens(3)\n}\n")
    document: Any = page_of(path).document
    assert [(f["severity"], f["line"]) for f in document["findings"]] == [("error", 3)]
    assert "lines" not in document
    assert document["sources"][0]["text"].startswith("model M")


def test_the_gradient_of_a_line_is_that_which_show_prints(page: Any, model: Path, capsys: pytest.CaptureFixture[str]):
    for line in (6, 15):
        assert main(["show", f"{model}:{line}", "--stage", "gradient"]) == 0
        parts = [part for part in page.document["gradient"]["parts"] if [0, line] in part["lines"]]
        assert capsys.readouterr().out.strip() == "\n\n".join(part["text"] for part in parts).strip()
        assert parts


def test_a_page_that_follows_edits_says_what_a_fresh_one_says(tmp_path: Path) -> None:
    """Whatever is kept from text to text: its syntax, and what follows from declarations of the library."""
    path, random = written(tmp_path), Random(8)
    kept, text = viewed_file(path, Options(threads=1), None, (), None), SMALL
    texts = [text]
    for _ in range(5):
        old, new = random.choice(_EDITS)
        text = text.replace(old, new, 1)
        texts.append(text)
    random.shuffle(texts)
    found = [kept.page(kept.reading(text), with_code=False).document for text in (*texts, SMALL)]
    assert {bool(document.get("graph")) for document in found} == {False, True}  # some texts have mistakes
    for text, document in zip((*texts, SMALL), found, strict=True):
        library_scope.cache_clear()
        fresh = viewed_file(path, Options(threads=1), None, (), None)
        assert document == fresh.page(fresh.reading(text), with_code=False).document, text


_EDITS = (
    ("model", "# a line above\nmodel"),
    ("hidden = 12", "hidden = 20"),
    ("relu", "gelu"),
    ("relu", "rel"),
    ("0..2", "0..3"),
    ("    y = scaled(x)", "    y = scaled(x)  # twice"),
    ("adam(lr = 0.01)", "momentum(lr = 0.1)"),
    ("dense(3)", "dense(3"),
    ("dense(3", "dense(3)"),
    ("batch = 16", "batch = 8"),
    ("scaled", "scale"),
)
