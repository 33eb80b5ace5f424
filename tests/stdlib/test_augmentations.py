"""Augmentations: those that draw do to each image what they say, within their limits, and differently for each."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from augmentation_cases import AUGMENTATIONS, BYTES, RANDOM, shifted
from differentiation import assert_gradients
from function_case import FunctionCase
from standard_library import applied

from compiler.evaluate import evaluate

Array: TypeAlias = np.ndarray[Any, Any]
MANY = np.random.default_rng(3).integers(0, 256, (64, 3, 8, 6)).astype(np.uint8)


def augmented(call: str, **operands: Array) -> list[Array]:
    graph = applied(call, operands, is_double=False)
    given = {"seed": np.array(5), "step": np.array(2)} | operands
    return list(evaluate(graph, {entry.name: given[entry.name] for entry in graph.inputs}, 1).values())


@pytest.mark.parametrize("case", AUGMENTATIONS, ids=lambda case: case.id)
def test_the_value_equals_numpy(case: FunctionCase) -> None:
    (result,) = evaluate(applied(case.call, case.operands), case.operands, 1).values()
    expected = np.asarray(case.expected(*case.operands.values()))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", [case for case in AUGMENTATIONS if case.slopes], ids=lambda case: case.id)
def test_the_gradient_equals_a_difference(case: FunctionCase) -> None:
    assert_gradients(applied(case.call, case.operands), "result", case.slopes, case.operands)


@pytest.mark.parametrize("image", [MANY, MANY[:, 0], MANY / 255], ids=["u8", "without channels", "floats"])
@pytest.mark.parametrize(
    "call", [*(name for name in RANDOM if name not in ("mixup", "random_as")), "gaussian_noise(0.1)"]
)
def test_images_keep_their_type_and_change(call: str, image: Array) -> None:
    image = image.astype(np.float32) if image.dtype.kind == "f" else image
    (result,) = augmented(f"image |> {call}", image=image)
    assert result.dtype == image.dtype
    assert result.shape == image.shape
    if call != "gaussian_noise(0.1)":
        assert (result != image).reshape(len(image), -1).any(axis=1).mean() > 0.4


@pytest.mark.parametrize("image", [MANY, MANY[:, 0], MANY / 255], ids=["u8", "without channels", "floats"])
def test_a_crop_of_another_size_is_a_part_of_the_image(image: Array) -> None:
    image = image.astype(np.float32) if image.dtype.kind == "f" else image
    (result,) = augmented("image |> random_crop(size = [5, 4])", image=image)
    assert result.dtype == image.dtype
    assert result.shape == (*image.shape[:-2], 5, 4)
    windows = np.lib.stride_tricks.sliding_window_view(image, (5, 4), axis=(-2, -1))
    places: set[tuple[int, int]] = set()
    for part, found in zip(windows, result, strict=True):
        same = (part == found[..., None, None, :, :]).reshape(-1, 4, 3, 20).all(axis=(0, 3))
        (place,) = np.argwhere(same).tolist()
        places.add((int(place[0]), int(place[1])))
    assert places == {(down, right) for down in range(4) for right in range(3)}
    (whole,) = augmented("image |> random_crop(size = [8, 6])", image=image)
    np.testing.assert_array_equal(whole, image)
    (padded,) = augmented("image |> random_crop(size = [12, 10], padding = 2, fill = 1)", image=image)
    np.testing.assert_array_equal(padded[..., 2:-2, 2:-2], image)
    assert (padded[..., :2, :] == 1).all()


def test_a_flip_mirrors_some_images() -> None:
    (result,) = augmented("image |> random_flip", image=MANY)
    mirrored = [bool((a == b[..., ::-1]).all()) for a, b in zip(result, MANY, strict=True)]
    assert all(m or (a == b).all() for m, a, b in zip(mirrored, result, MANY, strict=True))
    assert 20 < sum(mirrored) < 44
    (always,) = augmented("image |> random_flip(p = 1.0, horizontal = false, vertical = true)", image=MANY)
    np.testing.assert_array_equal(always, MANY[:, :, ::-1])
    (both,) = augmented("image |> random_flip(vertical = true)", image=MANY)
    kinds = {
        (a == b[:, ::y, ::x]).all() and (y, x)
        for a, b in zip(both, MANY, strict=True)
        for y in (1, -1)
        for x in (1, -1)
    }
    assert kinds - {False} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def moves(result: Array, image: Array, most_down: int, most_right: int) -> set[tuple[int, int]]:
    """How far each image was moved; exactly one move must explain it."""
    found: set[tuple[int, int]] = set()
    steps = [(d, r) for d in range(-most_down, most_down + 1) for r in range(-most_right, most_right + 1)]
    for after, before in zip(result, image, strict=True):
        fitting = [(d, r) for d, r in steps if (shifted(before[None], np.array([d]), np.array([r]))[0] == after).all()]
        assert len(fitting) == 1
        found.update(fitting)
    return found


def test_a_crop_moves_by_whole_pixels_within_the_padding() -> None:
    (result,) = augmented("image |> random_crop(padding = 2)", image=MANY)
    found = moves(result, MANY, 2, 2)
    assert {d for d, _ in found} == {r for _, r in found} == {-2, -1, 0, 1, 2}
    assert len(found) > 15


def test_a_translation_moves_by_a_part_of_the_size() -> None:
    (result,) = augmented("image |> random_translation(amount = 0.25)", image=MANY)
    found = moves(result, MANY, 2, 2)
    assert {d for d, _ in found} == {-2, -1, 0, 1, 2}
    assert {r for _, r in found} <= {-2, -1, 0, 1, 2}


def test_a_rotation_turns_by_an_angle_within_its_limit() -> None:
    # On a plane, interpolation is exact: the centre shows by how much each image is turned.
    plane = np.broadcast_to(np.arange(9.0, dtype=np.float32)[:, None] - 4, (32, 9, 9)).copy()
    (result,) = augmented("image |> random_rotation(degrees = 30.0)", image=plane)
    along, across = result[:, 5, 4], result[:, 4, 5]
    np.testing.assert_allclose(along**2 + across**2, 1, rtol=1e-5)
    angles = np.degrees(np.arctan2(across, along))
    assert (np.abs(angles) <= 30.001).all()
    assert angles.min() < -15
    assert angles.max() > 15
    np.testing.assert_allclose(result[:, 2:7, 4], np.arange(-2, 3) * along[:, None], atol=1e-5)


def test_a_scale_magnifies_about_the_centre() -> None:
    plane = np.broadcast_to(np.arange(9.0, dtype=np.float32)[:, None] - 4, (32, 9, 9)).copy()
    (result,) = augmented("image |> random_scale(low = 0.5, high = 2.0)", image=plane)
    factor = 1 / result[:, 5, 4]
    assert ((factor >= 0.499) & (factor <= 2.001)).all()
    assert factor.min() < 0.8
    assert factor.max() > 1.6
    np.testing.assert_allclose(result[:, 4, 4], 0, atol=1e-6)


def test_jitter_of_each_kind() -> None:
    image = MANY[:32].astype(np.float32) + 1
    (bright,) = augmented("color_jitter(0.4, 0.0, 0.0)(image)", image=image)
    factors = bright[:, 0, 0, 0] / image[:, 0, 0, 0]
    np.testing.assert_allclose(bright, image * factors[:, None, None, None], rtol=1e-5)
    assert (np.abs(factors - 1) <= 0.4001).all()
    assert factors.std() > 0.1
    (contrast,) = augmented("color_jitter(0.0, 0.4, 0.0)(image)", image=image)
    grey = (image * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True)
    _linear_about(contrast, image, grey.mean((1, 2, 3), keepdims=True))
    (saturation,) = augmented("color_jitter(0.0, 0.0, 0.4)(image)", image=image)
    _linear_about(saturation, image, grey)
    (bytes_,) = augmented("color_jitter(2.0, 2.0, 2.0)(image)", image=MANY)
    assert {0, 255} <= set(bytes_.flat)


def _linear_about(result: Array, image: Array, centre: Array) -> None:
    """Each image is stretched about `centre` by one factor within 0.4 of 1."""
    before, after = image - centre, result - centre
    factors = (before * after).sum((1, 2, 3)) / (before**2).sum((1, 2, 3))
    np.testing.assert_allclose(after, before * factors[:, None, None, None], atol=0.02)
    assert (np.abs(factors - 1) <= 0.4001).all()
    assert factors.std() > 0.1


def test_cutout_paints_one_square() -> None:
    image = np.full((64, 3, 8, 6), 200, np.uint8)
    (result,) = augmented("image |> cutout(size = 3, fill = 9)", image=image)
    assert set(result.flat) == {9, 200}
    for one in result[:, 0]:
        rows, columns = np.nonzero(one == 9)
        assert (one[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 9).all()
        assert 1 < rows.max() - rows.min() + 1 <= 3 or rows.min() == 0 or rows.max() == 7
    np.testing.assert_array_equal(result[:, 0], result[:, 2])
    assert len({one.tobytes() for one in result}) > 20


def test_noise_is_normal() -> None:
    image = np.full((200, 3, 8, 6), 0.5, np.float32)
    (result,) = augmented("gaussian_noise(0.25)(image)", image=image)
    noise = (result - 0.5) / 0.25
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert 0.62 < (np.abs(noise) < 1).mean() < 0.74


def test_mixup_mixes_images_and_targets_alike() -> None:
    image = MANY.astype(np.float32)
    target = np.eye(64, dtype=np.float32)
    mixed, label = augmented("mixup(1.0)(image, target)", image=image, target=target)
    shares = label[np.arange(64), np.arange(64)]
    np.testing.assert_allclose(label.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(label[np.arange(64), np.arange(63, -1, -1)], 1 - shares, atol=1e-6)
    weights = shares[:, None, None, None]
    np.testing.assert_allclose(mixed, weights * image + (1 - weights) * image[::-1], atol=1e-3)
    assert shares.std() > 0.2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_of_mixup_are_beta(alpha: float) -> None:
    steps = (np.arange(200) + 0.5) / 200
    u, v = (part.reshape(-1).astype(np.float32) for part in np.meshgrid(steps, steps))
    (shares,) = augmented(f"symmetric_beta({alpha})(u, v)", u=u, v=v)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert abs(shares.mean() - 0.5) < 1e-3
    assert abs(shares.var() - 0.25 / (2 * alpha + 1)) < 1e-3


def test_numbers_like_a_tensor_of_integers() -> None:
    (result,) = augmented("random_as(image)", image=BYTES)
    assert result.dtype == np.float32
    assert result.shape == BYTES.shape
    assert ((result >= 0) & (result < 1)).all()
