"""Images as data: CIFAR batches, folders of png and jpeg, what is wrong with them, and the cache of decoded ones."""

from __future__ import annotations

import builtins
import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import idx_bytes, source_of, spec
from PIL import Image

import dlc
from compiler.errors.diagnostics import DataError, UsageError
from runtime.cli.main import main
from runtime.data.dataset import Dataset
from runtime.data.decoded import DecodedCache
from runtime.data.formats import images
from runtime.data.formats.format import SourceOptions, SourceRequest
from runtime.data.loading import load_rows, load_training_data
from runtime.data.reading import format_named, format_of
from runtime.data.specs import Cuts

RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecodedCache:
    """A cache of the test's own, in place of the user's."""
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    return DecodedCache(tmp_path / "cache" / "images")


def read(path: Path, **options: object) -> Dataset:
    return format_of(path).read(SourceRequest(path, SourceOptions(options), frozenset(("image", "label"))))  # type: ignore[arg-type]


def picture(path: Path, height: int = 6, width: int = 4, mode: str = "RGB") -> np.ndarray[Any, Any]:
    """Write a png of noise; the array in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    values = RANDOM.integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(values).save(path)
    return values


def records(labels: list[int], leading: int = 1) -> tuple[bytes, np.ndarray[Any, Any]]:
    content = RANDOM.integers(0, 256, (len(labels), leading + 3072)).astype(np.uint8)
    content[:, leading - 1] = labels
    return content.tobytes(), content[:, leading:].reshape(-1, 3, 32, 32)


# CIFAR


def test_cifar_batches_plain_and_gzip_in_order(tmp_path: Path) -> None:
    first, images_1 = records([3, 9])
    second, images_2 = records([0])
    test, images_t = records([7, 7])
    (tmp_path / "data_batch_1.bin").write_bytes(first)
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(second))
    (tmp_path / "test_batch.bin").write_bytes(test)
    (tmp_path / "batches.meta.txt").write_text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n")
    dataset = read(tmp_path)
    assert dataset.format == "cifar"
    np.testing.assert_array_equal(dataset.fields["image"].values, np.concatenate([images_1, images_2]))
    assert dataset.fields["label"].values.tolist() == [3, 9, 0]
    assert dataset.fields["label"].values.dtype == np.uint8
    assert dataset.fields["label"].classes == tuple("abcdefghij")
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.test["image"].values, images_t)
    assert set(dataset.fingerprints) == {"data_batch_1.bin", "data_batch_2.bin.gz", "test_batch.bin"}


def test_cifar_with_coarse_labels(tmp_path: Path) -> None:
    content, values = records([42], leading=2)
    (tmp_path / "train.bin").write_bytes(content)
    (tmp_path / "fine_label_names.txt").write_text("apple\n")
    dataset = read(tmp_path)
    assert dataset.fields["label"].values.tolist() == [42]
    assert dataset.fields["coarse"].values.tolist() == [content[0]]
    assert dataset.fields["coarse"].classes is None
    np.testing.assert_array_equal(dataset.fields["image"].values, values)


def test_names_of_classes_are_kept_for_predictions(tmp_path: Path) -> None:
    content, _ = records([1, 0, 1])
    (tmp_path / "train.bin").write_bytes(content)
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    specs = [spec("image", "u8", (3, 32, 32)), spec("label", "u8", target=True, low=0, high=2)]
    loaded = load_training_data(specs, source_of("cifar", tmp_path), Cuts())
    assert loaded.preparation.vocabulary_of("label") == ("cat", "dog")
    assert loaded.train.arrays["label"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("content", [b"", b"x" * 3072, b"x" * 6147])
def test_cifar_files_of_another_length(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.bin").write_bytes(content)
    with pytest.raises(DataError, match="records of 3073 or 3074 bytes") as caught:
        read(tmp_path)
    assert "train.bin" in str(caught.value)


def test_a_label_out_of_range_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(records([1, 200])[0])
    specs = [spec("image", "u8", (3, 32, 32)), spec("label", "u8", target=True, low=0, high=10)]
    with pytest.raises(DataError, match="200 is out of range"):
        load_training_data(specs, source_of("cifar", tmp_path), Cuts())


# Folders of images


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    values = {name: picture(tmp_path / "pets" / name) for name in ("cat/2.png", "cat/10.png", "ant/deep/1.png")}
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    dataset = read(tmp_path / "pets")
    assert dataset.format == "images"
    assert dataset.fields["label"].values.tolist() == [0, 1, 1]
    assert dataset.fields["label"].classes == ("ant", "cat")
    expected = [values[name].transpose(2, 0, 1) for name in ("ant/deep/1.png", "cat/10.png", "cat/2.png")]
    np.testing.assert_array_equal(dataset.fields["image"].values, expected)
    specs = [spec("image", "u8", (3, 6, 4)), spec("label", "i32", target=True, low=0, high=2)]
    loaded = load_training_data(specs, source_of("images", tmp_path / "pets"), Cuts())
    assert loaded.train.arrays["label"].tolist() == [0, 1, 1]
    assert loaded.preparation.vocabulary_of("label") == ("ant", "cat")


def test_folders_of_training_and_test(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "test/b/1.png"):
        picture(tmp_path / name)
    dataset = read(tmp_path)
    assert dataset.fields["label"].values.tolist() == [0, 1]
    assert dataset.test is not None
    assert dataset.test["label"].values.tolist() == [0]
    specs = [spec("image", "u8", (3, 6, 4)), spec("label", "i32", target=True, low=0, high=2)]
    loaded = load_training_data(specs, source_of("images", tmp_path), Cuts())
    # The class has the number that it has in training.
    assert loaded.test is not None
    assert loaded.test.arrays["label"].tolist() == [1]
    assert set(dataset.fingerprints) == {"train", "test"}


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.webp").write_bytes(b"RIFF")
    dataset = read(tmp_path)
    assert dataset.fields["label"].classes == ("a",)
    assert dataset.notes == (f"{tmp_path / 'b'} has no png or jpeg images, and is no class",)


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"2\.png: there is no such file"):
        read(tmp_path)


def test_a_further_source_may_not_have_other_classes(tmp_path: Path) -> None:
    for name in ("a/cat/1.png", "a/dog/1.png", "b/cta/1.png"):
        picture(tmp_path / name)
    specs = [spec("image", "u8", (3, 6, 4)), spec("label", "i32", target=True, low=0, high=2)]
    other = source_of("images", tmp_path / "b")
    with pytest.raises(DataError, match=r"has the class `cta`.*did you mean `cat`"):
        load_training_data(specs, source_of("images", tmp_path / "a"), Cuts(other))


def test_images_without_labels_and_one_alone(tmp_path: Path) -> None:
    one = picture(tmp_path / "1.png")
    picture(tmp_path / "2.png")
    assert read(tmp_path).fields.keys() == {"image"}
    alone = load_rows(tmp_path / "1.png", [spec("photo", "u8", (3, 6, 4))], None, {})
    np.testing.assert_array_equal(alone.part.arrays["photo"], one.transpose(2, 0, 1)[None])


def test_options_of_the_training_hold_for_predictions(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 12, 8)
    part = load_rows(tmp_path / "1.png", [spec("image", "u8", (1, 3, 2))], None, {"size": (3, 2), "channels": 1}).part
    assert part.arrays["image"].shape == (1, 1, 3, 2)


def test_predictions_name_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b/2.png", "a/1.jpg", "b/1.png"):
        picture(tmp_path / "photos" / name, 4, 4)
    text = "model M {\n    input image: u8[batch, 3, 4, 4]\n    output y = image / 255 |> flatten |> dense(2)\n}\n"
    (tmp_path / "m.dl").write_text(text)
    weights = tmp_path / "w.safetensors"
    dlc.loads(text).save(weights)
    model = ["predict", str(tmp_path / "m.dl"), "--weights", str(weights), "--target", "reference", "--input"]
    assert main([*model, str(tmp_path / "photos")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == ["a/1.jpg", "b/1.png", "b/2.png"]
    assert main([*model, str(tmp_path / "photos" / "b" / "2.png"), "--output", str(tmp_path / "p.npz")]) == 0
    with np.load(tmp_path / "p.npz") as found:
        assert found["file"].tolist() == ["2.png"]
        assert found["y"].shape == (1, 2)


def test_sizes_and_channels(tmp_path: Path) -> None:
    values = picture(tmp_path / "a" / "1.png", 8, 16, mode="L")
    picture(tmp_path / "a" / "2.png", 6, 4)
    cut = read(tmp_path, size=8, channels=1).fields["image"].values
    assert cut.shape == (2, 1, 8, 8)
    np.testing.assert_array_equal(cut[0, 0], values[:, 4:12])
    assert read(tmp_path, size=(4, 6)).fields["image"].values.shape == (2, 3, 4, 6)
    stretched = read(tmp_path, size=(8, 8), channels=1, fit="stretch").fields["image"].values
    assert not (stretched[0, 0] == values[:, 4:12]).all()
    for options in ({"size": 0}, {"size": (1, 2, 3)}, {"size": "big"}, {"channels": 2}, {"fit": "pad"}):
        with pytest.raises(DataError, match=next(iter(options))):
            read(tmp_path, **options)


def test_kinds_of_pictures(tmp_path: Path) -> None:
    grey = RANDOM.integers(0, 256, (6, 4)).astype(np.uint8)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.dstack([grey] * 4)).save(tmp_path / "transparent.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "wide.png")
    turned = Image.fromarray(np.rot90(grey))
    exif = turned.getexif()
    exif[0x0112] = 6  # the first row is on the right: to be turned clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    found = read(tmp_path).fields["image"].values
    for values in found:
        np.testing.assert_array_equal(values, [grey] * 3)
    Image.fromarray(np.full((6, 4, 3), 77, np.uint8)).save(tmp_path / "flat.jpg")
    assert (read(tmp_path / "flat.jpg").fields["image"].values == 77).all()


def test_every_image_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "a" / f"{number}.png", width=4 + (number == 2))
    (tmp_path / "a" / "4.png").write_bytes(b"nothing")
    whole = (tmp_path / "a" / "3.png").read_bytes()
    (tmp_path / "a" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    text = str(caught.value)
    assert "3 images cannot be used" in text
    assert f"{tmp_path}/a/2.png: has 6 × 5 pixels, those before it 6 × 4" in text
    assert "a/3.png: is no whole image" in text
    assert "a/4.png: is no whole image" in text
    assert "size" in caught.value.fix
    for number in range(5, 30):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="and 20 more"):
        read(tmp_path)


def test_a_loose_image_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no idx training images"):
        read(tmp_path)
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1 images lie beside the folders of classes, such as 1\.png"):
        read(tmp_path)


def test_without_pillow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a" / "1.png")
    usual = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="Pillow") as caught:
        read(tmp_path)
    assert "pip install 'dlc[images]'" in caught.value.fix


# The cache


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "a" / "2.png")
    before = read(tmp_path / "a")
    decoded: list[Path] = []
    usual = images.decoder

    def counting(form: Any) -> Any:
        decode = usual(form)
        return lambda path: (decoded.append(path), decode(path))[1]

    monkeypatch.setattr(images, "decoder", counting)
    again = read(tmp_path / "a")
    assert decoded == []
    np.testing.assert_array_equal(again.fields["image"].values, before.fields["image"].values)
    assert again.fingerprints == before.fingerprints
    read(tmp_path / "a", channels=1)
    assert len(decoded) == 2
    changed = picture(tmp_path / "a" / "2.png")
    os.utime(tmp_path / "a" / "2.png", (1, 1))
    anew = read(tmp_path / "a")
    assert len(decoded) == 4
    np.testing.assert_array_equal(anew.fields["image"].values[1], changed.transpose(2, 0, 1))
    assert anew.fingerprints != before.fingerprints


def test_a_damaged_entry_is_made_anew(tmp_path: Path, cache: DecodedCache) -> None:
    expected = picture(tmp_path / "a" / "1.png").transpose(2, 0, 1)
    read(tmp_path / "a")
    (entry,) = cache.folder.iterdir()
    for content in (b"", entry.read_bytes()[:-1] + b"!", b"\xff" * 100):
        entry.write_bytes(content)
        np.testing.assert_array_equal(read(tmp_path / "a").fields["image"].values[0], expected)
        assert cache.info()[0] == 1


LOST = """
import ctypes, os, sys, threading
from pathlib import Path
import numpy as np
from runtime.data.decoded import DecodedCache

cache = DecodedCache(Path(sys.argv[1]))
cache.put("a", np.ones((40, 4096), np.uint8), {})
array, _ = cache.get("a")
(path,) = cache.folder.iterdir()
os.truncate(path, 4096)
copy = np.zeros_like(array)
# As a kernel does: outside of Python, in a thread of its own.
touch = threading.Thread(target=ctypes.memmove, args=(copy.ctypes.data, array.ctypes.data, array.nbytes))
touch.start()
touch.join()
print("went on")
"""


def test_what_can_no_longer_be_read_ends_with_a_message(tmp_path: Path) -> None:
    """In the middle of an epoch, say, when the disk fails."""
    ended = subprocess.run(
        [sys.executable, "-c", LOST, str(tmp_path / "kept")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    first, second, *rest = ended.stderr.splitlines()
    assert first.startswith(f"error: {tmp_path / 'kept'}")
    assert "this can no longer be read" in first
    assert second.startswith("hint: ")
    assert rest == []


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path / "kept", limit_bytes=3000)
    array = RANDOM.integers(0, 256, (10, 100)).astype(np.uint8)
    for number in range(4):
        cache.put(str(number), array, {"number": number})
        if cache.get(str(number)) is not None:
            entry = tmp_path / "kept" / hashlib.sha256(str(number).encode()).hexdigest()
            os.utime(entry, (number + 1, number + 1))
    assert cache.info()[1] <= 3000
    assert cache.get("0") is None
    found = cache.get("3")
    assert found is not None
    np.testing.assert_array_equal(found[0], array)
    assert found[1] == {"number": 3}
    cache.put("large", np.zeros((4000, 1), np.uint8), {})
    assert cache.get("large") is None
    cache.clear()
    assert cache.info() == (0, 0)


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = DecodedCache(tmp_path / "file" / "images")
    cache.put("a", np.zeros((1, 2), np.uint8), {})
    assert cache.get("a") is None


@pytest.mark.parametrize("format", ["cifar", "idx", "images"])
def test_the_test_part_alone_is_enough_to_measure_on_and_not_to_train_on(format: str, tmp_path: Path) -> None:
    if format == "cifar":
        (tmp_path / "test_batch.bin").write_bytes(records([7, 7])[0])
    elif format == "idx":
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((2, 4, 4), np.uint8)))
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(2, np.uint8)))
    else:
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / "test" / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "test" / name / f"{number}.png")
    known = format_named(format)
    found = known.read(SourceRequest(tmp_path, SourceOptions({}), frozenset(), is_training=False))
    assert (found.rows, found.test, found.fields.keys()) == (2, None, {"image", "label"})
    if format == "images":
        assert found.fields["label"].classes == ("cat", "dog")
        return
    with pytest.raises(DataError, match="train"):
        known.read(SourceRequest(tmp_path, SourceOptions({}), frozenset()))
