"""`dlc show --stage tiles` prints the loops of matrix products, which `dlc pass` reads back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from runtime.cli.main import main

MODEL = """\
model Net(hidden = 8) {
    input x: f32[batch, 6]
    output y = x |> dense(hidden) |> sigmoid
        |> dense(3)
}
"""
PRODUCT = """\
# a comment
product f32 batch x 64, sums of 784
  left %0 at 0, strides 784 1
  right %1 at 0, strides 1 64
  result %3, rows 1 0
  stage of 4 statements
  for outer:
    for row:
      for column:
        sums = 0 + left as it lies * right as it lies
        finish sums
"""


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.dl").write_text(MODEL)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["show", *words, "--stage", "tiles", "--target", "avx512"]) == 0
    return capsys.readouterr().out


def passed(text: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    return main(["pass", *words])


def test_products_are_shown_whole_or_for_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    whole, part = shown(capsys, "net.dl"), shown(capsys, "net.dl:4")
    assert whole.count("\nproduct f32 ") == 2
    assert part.count("\nproduct f32 batch x 3, sums of 8") == 1
    assert part.count("product f32") == 1
    (kernel,) = json.loads(shown(capsys, "net.dl:4", "--json"))
    assert [line["text"] for line in kernel["code"]] == part.rstrip().splitlines()[2:]
    assert {source["line"] for line in kernel["code"] for source in line["sources"]} == {4}


def test_a_product_that_was_shown_can_be_read_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = shown(capsys, "net.dl:4")
    assert passed(part, monkeypatch, "spill") == 0  # which has nothing left to do
    assert capsys.readouterr().out.splitlines() == part.rstrip().splitlines()[2:]


def test_a_pass_turns_a_product(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert passed(PRODUCT, monkeypatch, "tile") == 0
    tiled = capsys.readouterr().out
    assert "  for outer:\n    for tile:\n      for panel:\n" in tiled
    assert passed(tiled, monkeypatch, "put_panels_outside", "--json") == 0
    turned = json.loads(capsys.readouterr().out)["kernel"]
    assert [row.strip() for row in turned if row.endswith(":")] == ["for outer:", "for panel:", "for tile:"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tile", "", "<stdin>:1: expected `product TYPE ROWS x COLUMNS, sums of EXTENTS`"),
        ("tile", "\x00[" * 1000, "<stdin>:1: expected `product"),
        ("tile", PRODUCT.replace("f32", "f33"), "'f33' is none of"),
        ("tile", PRODUCT.replace("1 64", "1"), "<stdin>:4: expected 2 numbers, not 1"),
        ("tile", PRODUCT.replace("784 1", "784 x"), "<stdin>:3: 'x' means nothing"),
        ("tile", PRODUCT.replace("784", "7" * 5000), "is no product ("),
        ("tile", PRODUCT.replace("finish sums", "finish it"), "<stdin>:11: 'finish it' is no statement"),
        ("tile", PRODUCT.replace("column:", "columns:"), "<stdin>:9: 'columns' is none of"),
        ("tile", PRODUCT.replace("        finish", "         finish"), "<stdin>:11: expected a line that asks"),
        ("tile", PRODUCT + PRODUCT, "<stdin>:13: expected one product"),
        ("tile", PRODUCT + "        finish sums\n", "2 statements finish the sums"),
        ("tile", PRODUCT.replace("right as it lies", "right strips"), "nothing lies in the strips"),
        ("spill", PRODUCT, "cannot go through spill as it stands (AssertionError)\nhint: run the passes before it"),
        ("simplify", PRODUCT, "is not a graph, which simplify takes"),
        ("tile", 'graph "g"\nend', "expected `product"),
    ],
    ids=lambda text: text[:20].replace("\x00", ""),
)
def test_a_text_that_is_no_product(
    name: str, text: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = passed(text, monkeypatch, name)
    output = capsys.readouterr()
    assert code == 1
    assert output.out == ""
    assert message in output.err
    assert "fault of dlc" not in output.err


def test_blocks_within_blocks_without_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loops = "".join("  " * depth + "for outer:\n" for depth in range(1, 3000))
    assert passed(PRODUCT.partition("  for")[0] + loops, monkeypatch, "tile") == 1
    assert "is no product" in capsys.readouterr().err
