"""What `dlc check` tells of samplers: rows that choose where nothing is, and poles that their values come to."""

from __future__ import annotations

import warnings

import pytest
from lint_texts import found, told

_CLASSES = """\
model M {
    input x: f32[batch, 3]
    input label: i32[batch] in 0..10
    table = embedding(10, 3)
    output y = x + table(label)
}
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("output q = M.table(cast(zeros(batch) + 10, i32))", "row 0 of the `sample` `s` chooses number 10 among 10 el"),
        ("output q = M.table(cast(row, i32))", "row 10 of the `sample` `s` chooses number 10 among 10 elements"),
        ("output q = M.table(cast(row % 11, i32))", "row 10 of"),
        ("output q = M.table(cast(row % 10, i32) - 1)", "row 0 of the `sample` `s` chooses number -1"),
        ("output q = M.table(cast(highest + zeros(batch), i32))", "row 0 of the `sample` `s` chooses number 12"),
        ("output q = M.table(cast(11 * random(batch), i32))", "chooses number 10 among"),
        ("output q = M(zeros(batch, 3), cast(row, i32))", "row 10 of"),
        ("output q = one_hot(10)(cast(row, i32))", "row 10 of the `sample` `s` chooses number 10 among 10 classes"),
        ("output q = scan i in 0..4 over 1 carry x = zeros(batch, 3) { x = x + M.table(cast(row, i32)) }", "row 10 of"),
        ("output q = M.table(cast(row % 10, i32))", ""),
        ("output q = M.table(cast(10 * random(batch), i32))", ""),
        ("output q = where(row[:, None] < 10, M.table(cast(row, i32)), 0)", ""),
        ("output q = M.table(argmax(M.table(cast(row % 10, i32)), axis = 1))", ""),
        (
            "s, k = scan i in 0..4 over 1 carry k = cast(row % 10, i32) {\n"
            "        k = argmax(M.table(k), axis = 1)\n        emit k\n    }\n    output q = s + 0 * k[:, None]",
            "",
        ),
    ],
)
def test_rows_choose_within_the_range(line: str, told: str) -> None:
    told_of = found(f"{_CLASSES}\nsample s(highest = 12.0) from M {{\n    {line}\n    output r = highest + row\n}}\n")
    assert [d.code for d in told_of] == (["E0421"] if told else [])
    assert not told or told in told_of[0].message


def test_each_sampler_is_told_of_its_first_choice_out_of_range() -> None:
    first, second = (f"\nsample {n} from M {{\n    output q = M.table(cast(row, i32))\n}}\n" for n in "ab")
    assert [d.code for d in found(_CLASSES + first + second)] == ["E0421", "E0421"]


def _told(*lines: str) -> list[str]:
    body = "".join(f"    {line}\n" for line in lines)
    return told(f"{_CLASSES}\nsample s(steps = 8) from M {{\n{body}    output r = row + steps\n}}\n")


@pytest.mark.parametrize(
    "line",
    [
        "output q = log(random(batch))",
        "output q = sqrt(random(batch) - 0.5)",
        "output q = 1 / floor(random(batch))",
        "output q = log(relu(M.table(cast(row % 10, i32))))",
        "output q = scan i in 0..steps over 1 carry x = zeros(batch) { x = x + row / sin(pi * i / steps) }",
        "output q = scan i in 0..steps over 1 carry x = zeros(batch) { x = x / (i - 3) }",
    ],
)
def test_a_pole_that_values_come_to(line: str) -> None:
    assert _told(line) == ["W0108 9"]


@pytest.mark.parametrize(
    "line",
    [
        "output q = log(1 - random(batch))",
        "output q = 1 / (1 + random(batch))",
        "output q = scan i in 0..steps over 1 carry x = zeros(batch) { x = x + row / cos(pi * i / (2 * steps)) }",
        "output q = scan i in 0..steps over 1 carry x = zeros(batch) { x = x + log(1 - (i / steps) ^ 2) * row }",
    ],
)
def test_a_schedule_is_computed_and_not_estimated(line: str) -> None:
    """The interval of a cosine has 0 in it, whatever the steps are."""
    assert _told(line) == []


def test_draws_of_inner_scans_are_no_known_numbers() -> None:
    lines = (
        "s, k = scan i in 0..3 over 1 carry k = zeros(batch) {",
        "    u, k = scan j in 0..2 over 1 carry k = k {",
        "        k = k + log(random(batch) * (i + j + 1))",
        "        emit k",
        "    }",
        "    emit k + 0 * u[:, 0]",
        "}",
        "output q = s + 0 * k[:, None]",
    )
    assert _told(*lines) == ["W0108 11"]


def test_a_setting_that_is_infinite_in_f32_warns_of_nothing_in_numpy() -> None:
    """1e39 has no f32: the lints compute with infinity, and no warning of NumPy reaches the user."""
    text = "model M {\n    input x: f32[batch, 2]\n    output y = dense(1)(x)\n}\n"
    sampler = "sample s(k = 1e39) from M {\n    output o = k * random(batch, 2)\n}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found(text + sampler)
