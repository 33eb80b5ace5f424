"""Findings of `dlc test`: E10 in tests, W10 in derivatives."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _cubed(slope: str) -> str:
    return (
        f"fn cubed(x) = x ^ 3 gradient(x, y, dy) = {slope}\n\n"
        "model M {\n    input x: f32[batch, 4]\n    output y = x |> dense(2) |> cubed\n}"
    )


TESTS: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E1001",
        "a line of a test that does not hold",
        "`dlc test` evaluates each claim of a `test` about tensors and configuration. This one is false, or false in "
        "some elements; the first of them is shown, with both sides of a comparison there. Compare floats that were "
        "rounded in different ways with `near`.",
        "test thirds {\n    x = tensor([1.0, 2.0]) / 3\n    3 * x == tensor([1.0, 2.5])\n}",
        "test thirds {\n    x = tensor([1.0, 2.0]) / 3\n    near(3 * x, tensor([1.0, 2.0]))\n}",
    ),
    ErrorEntry(
        "W1001",
        "a derivative that is not that of the function",
        "`dlc test` compares the gradient of each layer with differences in f64. Here they differ. Where a function "
        "has a `gradient` clause, the clause is wrong, unless it differs on purpose, as a straight-through gradient "
        "does; `# dlc: ignore[W1001]` in its line then suppresses the warning. Without a clause it is a fault of the "
        "compiler.",
        _cubed("2 * x ^ 2 * dy"),
        _cubed("3 * x ^ 2 * dy"),
    ),
)
