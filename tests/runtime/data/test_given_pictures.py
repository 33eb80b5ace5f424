"""`dlc predict --input` of a picture or a sentence: it becomes what the training data was, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from runtime.cli.main import main as dlc

DIGITS = """
model Digits(classes = 2) {
    input INPUT
    output logits = x / SCALE |> flatten |> dense(classes)
}

train Digits {
    data = npz("data.npz")
    target label: u8[batch] in 0..classes
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 1e-2)
    epochs = 2
    batch = 8
    seed = 0
}
"""
WORDS = """
model Words(classes = 2) {
    input tokens: i32[batch, 4] in 0..words
    output logits = tokens |> embedding(words, 3) |> flatten |> dense(classes)
}

train Words {
    data = lines("lines.txt", label = "first", lower = true)
    target label: i32[batch] in 0..classes
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 1e-2)
    epochs = 1
    batch = 2
    seed = 0
}
"""


def drawn(path: Path, size: tuple[int, int], mode: str = "RGB", paper: object = "white", ink: object = "black") -> Path:
    picture = Image.new(mode, size, paper)  # type: ignore[arg-type]
    across, down = size
    ImageDraw.Draw(picture).rectangle((across * 3 // 8, down // 4, across * 5 // 8, down * 3 // 4), fill=ink)  # type: ignore[arg-type]
    picture.save(path)
    return path


def trained(folder: Path, declared: str, images: np.ndarray, scale: int = 255) -> Path:
    folder.mkdir()
    (folder / "model.dl").write_text(DIGITS.replace("INPUT", declared).replace("SCALE", str(scale)))
    np.savez(folder / "data.npz", x=images, label=(np.arange(len(images)) % 2).astype(np.uint8))
    assert dlc(["train", str(folder / "model.dl"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def light_on_dark(count: int, most: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    planes = np.zeros((count, 8, 8))
    planes[:, 2:6, 3:5] = most
    return planes.reshape(count, *shape).astype(dtype)


def predicted(run: Path, given: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    capsys.readouterr()
    assert dlc(["predict", str(run), "--input", given]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), " ".join(said.err.split())


@pytest.mark.parametrize(
    ("declared", "shape", "dtype", "most"),
    [
        ("x: u8[batch, 8, 8]", (8, 8), np.uint8, 255),
        ("x: f32[batch, 64]", (64,), np.float32, 16),
        ("x: f32[batch, 1, 8, 8]", (1, 8, 8), np.float32, 1),
        ("x: i32[batch, 8, 8, 1]", (8, 8, 1), np.int32, 16),
    ],
)
def test_ink_on_paper_becomes_light_on_dark_in_the_range_of_the_training_data(
    declared: str, shape: tuple[int, ...], dtype: type, most: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path / "m", declared, light_on_dark(16, most, shape, dtype), most)
    picture = drawn(tmp_path / "one.png", (80, 80))
    found, said = predicted(run, str(picture), capsys)
    assert "80 × 80 colour, scaled to 8 × 8, turned grey" in said
    assert "inverted: its edge is light, and dark in the training data" in said
    assert (f"0 to 255 became 0 to {most}" in said) == (most != 255)
    small = np.asarray(Image.open(picture).convert("RGB").resize((8, 8), Image.Resampling.BILINEAR).convert("L"))
    values = (255 - small.astype(np.float64)) * (most / 255)
    np.savez(
        tmp_path / "same.npz", x=(np.rint(values) if dtype != np.float32 else values).astype(dtype).reshape(1, *shape)
    )
    same, _ = predicted(run, str(tmp_path / "same.npz"), capsys)
    assert found["logits"] == pytest.approx(same["logits"], abs=0.05)


def test_a_picture_like_the_training_data_is_not_inverted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = light_on_dark(16, 255, (8, 8), np.uint8)
    run = trained(tmp_path / "m", "x: u8[batch, 8, 8]", images)
    Image.fromarray(images[0]).save(tmp_path / "same.png")
    found, said = predicted(run, str(tmp_path / "same.png"), capsys)
    assert "8 × 8 grey, not inverted" in said
    np.savez(tmp_path / "same.npz", x=images[:1])
    assert predicted(run, str(tmp_path / "same.npz"), capsys)[0]["logits"] == found["logits"]


def test_a_wide_transparent_picture_is_cut_and_laid_on_white(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path / "m", "x: u8[batch, 8, 8]", light_on_dark(16, 255, (8, 8), np.uint8))
    clear = drawn(tmp_path / "clear.png", (160, 80), "RGBA", (0, 0, 0, 0), (0, 0, 0, 255))
    _, said = predicted(run, str(clear), capsys)
    assert "80 × 160 colour, laid on white, the middle 80 × 80 cut out, scaled to 8 × 8" in said


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "m", "x: u8[batch, 8, 8]", light_on_dark(16, 255, (8, 8), np.uint8))
    (tmp_path / "bad.png").write_bytes(content)
    assert dlc(["predict", str(run), "--input", str(tmp_path / "bad.png")]) == 1
    assert "is no whole image" in " ".join(capsys.readouterr().err.split())


def test_a_model_of_other_numbers_takes_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "m", "x: f32[batch, 4]", np.random.default_rng(0).random((16, 4)).astype(np.float32), 1)
    assert dlc(["predict", str(run), "--input", str(drawn(tmp_path / "one.png", (8, 8)))]) == 1
    assert "a picture cannot be `x: f32[batch, 4]`" in " ".join(capsys.readouterr().err.split())


def test_a_sentence_is_read_as_text_and_strange_words_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.dl").write_text(WORDS)
    (tmp_path / "lines.txt").write_text("0 the cat sat down\n1 a dog ran off\n" * 4)
    run = tmp_path / "run"
    assert dlc(["train", str(tmp_path / "model.dl"), "--out", str(run)]) == 0
    found, said = predicted(run, "The cat flew off", capsys)
    assert "--input is no file and is read as text: 4 words and marks, in lower case" in said
    assert "not in the vocabulary of the training: `flew`" in said
    (tmp_path / "new.txt").write_text("The cat flew off\n")
    assert predicted(run, str(tmp_path / "new.txt"), capsys)[0]["logits"] == found["logits"]
    for absent in ("absent.txt", str(tmp_path / "absent")):
        assert dlc(["predict", str(run), "--input", absent]) == 1
    assert dlc(["predict", str(run), "--input", " "]) == 2
