"""`augment` in training: draws that belong to a sample and an epoch, in every batch, and never in an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

import dlc
from compiler import driver
from compiler.driver import FUSIONS, Options
from compiler.errors.diagnostics import UsageError
from compiler.interface import Steps
from compiler.programs.kinds import GraphKind, Purpose
from runtime.cli.data import preview
from runtime.cli.main import main
from runtime.data.part import Part, at_epoch, numbered
from runtime.runs.checkpoint import newest_checkpoint

Array: TypeAlias = np.ndarray[Any, Any]

PLAIN = """
model Small {
    input image: u8[batch, 3, 6, 6]
    output logits = image / 255 |> flatten |> dense(4)
}

train Small {
    data = npz("data.npz")
    target label: u8[batch] in 0..4
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 1e-2)
    epochs = 2
    batch = 8
}
"""
CHANGES = "image = image |> random_flip |> random_crop(padding = 2) |> color_jitter |> gaussian_noise"
RANDOM = np.random.default_rng(8)
IMAGES = RANDOM.integers(0, 256, (29, 3, 6, 6)).astype(np.uint8)
LABELS = RANDOM.integers(0, 4, 29).astype(np.uint8)
ARRAYS: dict[str, Any] = {"image": IMAGES, "label": LABELS}


def with_changes(text: str, changes: str = CHANGES) -> str:
    return text.replace("    batch = 8\n", f"    batch = 8\n    augment {{\n        {changes}\n    }}\n")


def seen(rows: Array, epoch: int = 0, batch: int = 8, seed: int = 0, changes: str = CHANGES, **options: Any) -> Array:
    """The images that training sees of these rows."""
    program = driver.load_text(with_changes(PLAIN, changes), "small.dl")
    chosen = Options(**options)
    arrays = at_epoch(numbered(program, Part(ARRAYS, rows)).arrays, epoch)
    executable = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), chosen)
    return executable.run(Steps(driver.allocate(program, chosen), arrays, rows, batch, seed=seed)).arrays["image"]


def test_a_sample_looks_the_same_in_any_batch_of_an_epoch() -> None:
    rows = np.arange(29)
    images = seen(rows)
    assert (images != IMAGES).reshape(29, -1).any(axis=1).all()
    backwards = rows[::-1].copy()
    np.testing.assert_array_equal(seen(backwards, batch=5, threads=2)[::-1], images)
    np.testing.assert_array_equal(seen(np.array([7, 3, 7]), batch=2), images[[7, 3, 7]])
    np.testing.assert_array_equal(seen(rows, without=tuple(FUSIONS)), images)


def test_epochs_seeds_and_samples_draw_differently() -> None:
    noise = "image = cast(255 * random_like(image), image)"
    images = [seen(np.arange(29), changes=noise, **how) for how in ({}, {"epoch": 1}, {"seed": 1}, {"seed": 1 << 40})]
    rows = np.concatenate(images).reshape(4 * 29, -1)
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert 120 < rows.mean() < 134


def test_what_is_drawn_without_the_batch_is_the_same_for_all() -> None:
    images = seen(np.arange(29), changes="image = cast(255 * random(3, 6, 6) + 0 * image, image)")
    assert (images == images[:1]).all()
    assert images.std() > 50


def test_draws_along_a_later_batch_axis_belong_to_samples() -> None:
    across = "image = cast(reshape(transpose(random(6, batch, 18), 1, 0, 2), batch, 3, 6, 6) * 255, image)"
    rows = np.arange(29)
    np.testing.assert_array_equal(seen(rows, changes=across)[::-1], seen(rows[::-1].copy(), batch=3, changes=across))


def test_native_code_equals_the_reference() -> None:
    changes = CHANGES.replace(" |> gaussian_noise", " |> random_rotation |> random_scale |> cutout(size = 2)")
    native, reference = (seen(np.arange(29), changes=changes, target=target) for target in ("native", "reference"))
    # A half may be rounded either way.
    assert (np.abs(native.astype(int) - reference) <= 1).all()
    assert (native == reference).mean() > 0.999


def test_training_with_changes_is_training_on_what_they_give() -> None:
    augmented = dlc.loads(with_changes(PLAIN), epochs=1)
    augmented.train(ARRAYS)
    plain = dlc.loads(PLAIN, epochs=1)
    plain.train({**ARRAYS, "image": seen(np.arange(29))})
    for name, values in plain.parameters.items():
        np.testing.assert_array_equal(augmented.parameters[name], values)


def test_an_evaluation_sees_the_data_as_it_is() -> None:
    augmented, plain = (dlc.loads(text) for text in (with_changes(PLAIN), PLAIN))
    assert augmented.evaluate(ARRAYS) == plain.evaluate(ARRAYS)
    found, expected = (model.predict({"image": IMAGES})["logits"] for model in (augmented, plain))
    np.testing.assert_array_equal(found, expected)


def test_mixed_targets_are_distributions_in_training_only() -> None:
    mixed = "image, label = (image, one_hot(4)(label)) |> mixup(1.0)"
    model = dlc.loads(with_changes(PLAIN, mixed))
    result = model.train(ARRAYS)
    assert 0 < result.history[-1].scalars["accuracy"] < 1
    assert model.evaluate(ARRAYS)["loss"] > 0
    program = driver.load_text(with_changes(PLAIN, mixed), "small.dl")
    arrays = at_epoch(numbered(program, Part(ARRAYS, np.arange(8))).arrays, 0)
    run = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), Options()).run
    found = run(Steps(driver.allocate(program, Options()), arrays, np.arange(8), 8)).arrays
    np.testing.assert_allclose(found["label"].sum(1), 1, atol=1e-6)
    shares = found["label"][np.arange(8), LABELS[:8]]
    expected = [s * a + (1 - s) * b for s, a, b in zip(shares, IMAGES[:8] * 1.0, IMAGES[7::-1] * 1.0, strict=True)]
    differing = LABELS[:8] != LABELS[7::-1]
    assert (np.abs(found["image"] - np.array(expected))[differing] <= 0.501).all()


def test_with_f64_the_draws_are_the_same_numbers() -> None:
    uniform = "image = cast(random_like(image) * 256, image)"
    np.testing.assert_array_equal(
        seen(np.arange(29), changes=uniform, dtype="f64"), seen(np.arange(29), changes=uniform)
    )


# On the command line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", **ARRAYS)
    file = tmp_path / "small.dl"
    file.write_text(with_changes(PLAIN))
    return file


def test_a_resumed_training_draws_what_an_uninterrupted_one_draws(model: Path, tmp_path: Path) -> None:
    assert main(["train", str(model), "--out", str(tmp_path / "whole"), "--epochs", "3", "--json"]) == 0
    assert main(["train", str(model), "--out", str(tmp_path / "parts"), "--epochs", "1", "--json"]) == 0
    assert main(["train", "--resume", str(tmp_path / "parts"), "--epochs", "3", "--json"]) == 0
    whole, parts = (newest_checkpoint(tmp_path / run / "checkpoints").checkpoint for run in ("whole", "parts"))
    for name, values in whole.weights.items():
        np.testing.assert_array_equal(parts.weights[name], values)


def test_preview_draws_what_training_sees(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.png"
    assert main(["data", "preview", str(model), "--epoch", "3", "--sample", "17", "--out", str(picture)]) == 0
    expected = seen(np.array([17]), epoch=2)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(picture)), expected.transpose(1, 2, 0))
    assert capsys.readouterr().out.startswith("image        u8[3, 6, 6]")
    assert main(["data", "preview", str(model), "--epoch", "3", "--sample", "17", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["changed"] == ["image"]
    assert shown["values"] == {"image": expected.tolist(), "label": int(LABELS[17])}


def test_preview_of_a_mixed_sample_takes_the_batch_of_its_epoch(model: Path) -> None:
    model.write_text(with_changes(PLAIN, "image, label = (image, one_hot(4)(label)) |> mixup(1.0)"))
    program = driver.load(model)
    whole = np.stack([preview(program, None, 2, sample, Options()).values["image"] for sample in range(29)])
    plain = dlc.loads(PLAIN.replace("label: u8[batch] in 0..4", "label: f32[batch, 4]"))
    mixed = np.stack([preview(program, None, 1, sample, Options()).values["image"] for sample in range(29)])
    assert (whole != mixed).any()
    labels = np.stack([preview(program, None, 1, sample, Options()).values["label"] for sample in range(29)])
    plain.train({"image": mixed, "label": labels}, epochs=1)
    trained = dlc.load(model)
    trained.train(ARRAYS, epochs=1)
    for name, values in plain.parameters.items():
        np.testing.assert_array_equal(trained.parameters[name], values)


def test_preview_of_what_there_is_not(model: Path, tmp_path: Path) -> None:
    program = driver.load(model, None, (("validation", "0.5"),))
    with pytest.raises(UsageError, match="no sample 29") as beyond:
        preview(program, None, 1, 29, Options())
    assert "from 0 to 28" in beyond.value.fix
    taken = [sample for sample in range(29) if _has(program, sample)]
    assert 10 < len(taken) < 19
    with pytest.raises(UsageError) as held_out:
        preview(program, None, 1, next(s for s in range(29) if s not in taken), Options())
    assert "validation" in held_out.value.fix
    for options in (["--out", "a.png", "--input", "label"], ["--out", "a.jpg"], ["--input", "image"]):
        assert main(["data", "preview", str(model), *(o.replace("a.", f"{tmp_path}/a.") for o in options)]) == 2
    assert not list(tmp_path.glob("a.*"))


def _has(program: driver.Program, sample: int) -> bool:
    try:
        preview(program, None, 1, sample, Options())
    except UsageError:
        return False
    return True
