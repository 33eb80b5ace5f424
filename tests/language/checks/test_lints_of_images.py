"""What the lints tell of images that have their channels last."""

from __future__ import annotations

import pytest
from lint_texts import found, model, told


@pytest.mark.parametrize(
    ("shape", "is_told"),
    [
        ("32, 32, 3", True),
        ("28, 28, 1", True),
        ("48, 64, 3", True),
        ("3, 32, 32", False),
        ("1, 28, 28", False),
        ("16, 40, 1", False),  # sixteen series, each of 40 numbers
        ("4, 4, 4", False),
    ],
)
def test_images_with_their_channels_last(shape: str, is_told: bool) -> None:
    layers = 'conv2d(8, 3, padding = "same") |> relu |> global_average_pool |> dense(2)'
    for image in ("x / 255", "x"):
        told_of = told(model(f"{image} |> {layers}", inputs=f"x: f32[batch, {shape}]"))
        assert told_of == (["W0129 3"] if is_told else [])
    turned = 'rearrange(x, "b h w c -> b c h w")'
    assert told(model(f"{turned} |> {layers}", inputs="x: f32[batch, 32, 32, 3]")) == []
    deeper = '|> conv2d(32, 1) |> rearrange("b c h w -> b h w c") |> conv2d(4, 3) |> global_average_pool'
    assert told(model(f"x {deeper}", inputs="x: f32[batch, 3, 8, 32]")) == [], "a layer made that shape"


def test_a_window_that_is_too_wide_for_channels_tells_where_they_stand() -> None:
    (mistake,) = found(model("x |> max_pool(2)", inputs="x: f32[batch, 28, 28, 1]"))
    assert mistake.code == "E0418"
    assert any("channels first" in note.message for note in mistake.notes)
