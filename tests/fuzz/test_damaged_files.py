"""Files with flipped, cut, repeated and overwritten bytes: read as something valid, or refused with a message."""

import functools
import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_specs import idx_bytes, source, source_of, spec, write_digits
from PIL import Image

from compiler.errors.diagnostics import CheckpointError, DataError, ResourceError, Source
from runtime.data.decoded import DecodedCache
from runtime.data.loading import load_training_data
from runtime.data.preparation import preparation_from_json
from runtime.data.specs import Cuts
from runtime.runs.checkpoint import Checkpoint, best_checkpoint, newest_checkpoint, write_checkpoint
from runtime.runs.directory import create_run, open_run
from runtime.runs.position import Position
from runtime.runs.tensor_files import read_tensors, write_tensors

_ROUNDS = 150


def damaged(content: bytes, generator: random.Random) -> bytes:
    """One kind of damage at a random place."""
    place = generator.randrange(len(content))
    match generator.randrange(6):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + bytes([content[place] ^ (1 << generator.randrange(8))]) + content[place + 1 :]
        case 2:
            return content[:place] + generator.randbytes(4) + content[place + 4 :]
        case 3:
            return content[:place] + content[place : place + 9] + content[place:]
        case 4:
            return content[:place] + content[place + generator.randrange(1, 20) :]
        case _:
            return content[:place] + b"\xff" * 8 + content[place + 8 :]


def fix_of(read: Callable[[], object]) -> str | None:
    """What an error of the allowed kinds says to do; None where the file is read as something valid."""
    try:
        read()
    except (DataError, CheckpointError, ResourceError) as error:
        return error.fix
    return None


def check(path: Path, read: Callable[[], object], rounds: int = _ROUNDS) -> None:
    """Reading the damaged file gives a value or one of the errors, always with advice."""
    generator = random.Random(path.name)
    content = path.read_bytes()
    fixes: list[str | None] = []
    for _ in range(rounds):
        path.write_bytes(damaged(content, generator))
        fixes.append(fix_of(read))
    assert "" not in fixes
    assert set(fixes) != {None}
    path.write_bytes(content)
    assert fix_of(read) is None


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv(tmp_path: Path, name: str) -> None:
    rows = "".join(f'{i},{i / 7:.4f},"kind, {i % 3}",{i % 2}\n' for i in range(40))
    text = ("id,x,kind,y\n" + rows).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    specs = [spec("features", row=(2,)), spec("kind", "u8", low=0, high=3), spec("y", "u8", target=True, low=0, high=2)]
    check(path, lambda: load_training_data(specs, source(path, normalise=True), Cuts(0.2, 0.2, 0)))


def test_csv_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("".join(f"{i},{i * 0.37:.3f},{i % 5}\n" for i in range(60)).encode())
    specs = [spec("x", row=(2,)), spec("y", "i32", target=True, low=0, high=5)]
    check(path, lambda: load_training_data(specs, source(path, target=-1, missing="mean"), Cuts(0.2, None, 0)))


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
def test_idx(tmp_path: Path, name: str) -> None:
    folder = write_digits(tmp_path / "digits")
    specs = [spec("image", "u8", (4, 3)), spec("label", "u8", target=True, low=0, high=10)]
    check(folder / name, lambda: load_training_data(specs, source(folder), Cuts()))


@pytest.mark.parametrize("head", range(24))
def test_every_byte_of_an_idx_header(tmp_path: Path, head: int) -> None:
    path = tmp_path / "x.idx"
    content = idx_bytes(np.zeros((2, 3, 4), np.float64))
    fixes: list[str | None] = []
    for value in range(0, 256, 5):
        path.write_bytes(content[:head] + bytes([value]) + content[head + 1 :])
        fixes.append(fix_of(lambda: load_training_data([spec("image", "f64", (3, 4))], source(path), Cuts())))
    assert "" not in fixes


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, x=np.arange(24.0).reshape(6, 4), y=np.array(["a", "b", "c"] * 2), z=np.arange(6))
    specs = [spec("x", row=(4,)), spec("y", "u8", target=True), spec("z", "i64")]
    check(path, lambda: load_training_data(specs, source(path), Cuts()), rounds=400)


def test_npy(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(24, dtype=np.int32).reshape(6, 4))
    check(path, lambda: load_training_data([spec("x", "f32", (4,))], source(path), Cuts()), rounds=400)


@pytest.mark.parametrize("name", ["train.bin", "train.bin.gz"])
def test_cifar(tmp_path: Path, name: str) -> None:
    records = np.arange(2 * 3073, dtype=np.int64).astype(np.uint8).reshape(2, 3073)
    records[:, 0] = 0, 1
    content = records.tobytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    specs = [spec("image", "u8", (3, 32, 32)), spec("label", "u8", target=True, low=0, high=2)]
    check(tmp_path / name, lambda: load_training_data(specs, source_of("cifar", tmp_path), Cuts()))


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
def test_images(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    for file in ("a.png", name):
        Image.fromarray(values).save(tmp_path / "pets" / "cat" / file)
    specs = [spec("image", "u8", (3, 5, 6)), spec("label", "u8", target=True, low=0, high=1)]
    check(
        tmp_path / "pets" / "cat" / name,
        lambda: load_training_data(specs, source_of("images", tmp_path / "pets"), Cuts()),
    )


def test_decoded_images(tmp_path: Path) -> None:
    """A damaged entry of the cache is as good as none."""
    cache = DecodedCache(tmp_path)
    array = np.arange(60, dtype=np.uint8).reshape(3, 20)
    cache.put("a", array, {"fingerprint": "x"})
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    generator = random.Random(1)
    for _ in range(_ROUNDS):
        path.write_bytes(damaged(content, generator))
        found = cache.get("a")
        assert found is None or (found[0] == array).all()


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a.W": np.zeros((3, 4), np.float32), "a.b": np.zeros(4), "n": np.zeros((), np.int64)})
    check(path, lambda: read_tensors(path), rounds=400)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "position.json", "manifest.json"])
def test_checkpoints_fall_back(tmp_path: Path, name: str) -> None:
    for step in (1, 2):
        weights = {"W": np.full(5, step, np.float32)}
        newest = write_checkpoint(tmp_path, Checkpoint(weights, weights, Position(step=step), 0), is_best=step == 1)
    generator = random.Random(name)
    content = (newest / name).read_bytes()
    fallen = 0
    for _ in range(_ROUNDS):
        (newest / name).write_bytes(damaged(content, generator))
        found = newest_checkpoint(tmp_path)
        fallen += found.checkpoint.position.step == 1
        assert found.checkpoint.weights["W"][0] == found.checkpoint.position.step
        assert best_checkpoint(tmp_path).checkpoint.position.step == 1
    assert fallen > _ROUNDS // 2


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "source/m.dl"])
def test_run_directories(tmp_path: Path, name: str) -> None:
    with create_run("x", tmp_path / "run", (Source(str(tmp_path / "m.dl"), "model M { }\n"),)) as run:
        for step in range(5):
            run.append_metrics({"step": step, "loss": 0.5})

    def use() -> None:
        opened = open_run(run.path)
        opened.read_metrics()
        opened.truncate_metrics(3)
        assert opened.program.is_file()

    generator = random.Random(name)
    content = (run.path / name).read_bytes()
    for _ in range(_ROUNDS):
        (run.path / name).write_bytes(damaged(content, generator))
        assert fix_of(use) != ""
    shutil.rmtree(run.path / "source")
    (run.path / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError):
        _ = open_run(run.path).program


def test_saved_preparations(tmp_path: Path) -> None:
    text = json.dumps(
        {
            "columns": {"x": ["a", "b"]},
            "vocabularies": {"a": ["p", "q"]},
            "fills": {"b": 1.5},
            "scales": {"b": {"mean": 0.0, "deviation": 1.0}},
            "table": ["a", "b"],
            "missing": "error",
        }
    ).encode()
    generator = random.Random(3)
    for _ in range(4 * _ROUNDS):
        try:
            value = json.loads(damaged(text, generator))
        except ValueError:
            continue
        assert fix_of(functools.partial(preparation_from_json, value)) != ""
