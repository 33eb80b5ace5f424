"""Batches of texts computed at a few lengths: the same losses, the same bits after a pause, and less to compute."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import Executable, Program
from compiler.interface import Steps
from compiler.programs.kinds import EVALUATION
from runtime.analysis.evaluation_data import evaluation_data
from runtime.cli.main import main
from runtime.data.dimensions import dimensions_of
from runtime.data.part import Part
from runtime.inference.buckets import Buckets, best_sizes, chosen_sizes, text_dimensions
from runtime.inference.evaluation import PartEvaluator, finisher_of
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.runs.checkpoint import checkpoints_in, newest_checkpoint, read_checkpoint
from runtime.runs.directory import open_run
from runtime.runs.trained import open_trained_run, saved_preparation
from runtime.train.jobs import load_data

PAIRS = """fn spread(x: [batch, time, n], where: bool[batch, time]) {
    return sqrt(sum((x - mean(x, where = where)) ^ 2, where = where) / sum(where))
}

model M(units = 6) {
    input source: i32[batch, read] in 0..letters padded by source_mask
    input target: i32[batch, written] in 0..signs padded by target_mask
    memory = encoder_block(2, units, drop = 0)(embedding(letters, units)(source), where = source_mask)
    x = embedding(signs, units)(target) |> sinusoidal_positions
    x = decoder_block(2, units, drop = 0)(x, memory, where = target_mask, memory_where = source_mask)
    output logits = x |> dense(signs)
}

train M {
    data = pairs("both.tsv", separator = "\\t", tokens = "char", bucket = 3)
    validation = 0.3
    target next: i32[batch, written] in 0..signs
    loss = cross_entropy(logits, next, where = target_mask)
    metrics = [accuracy(logits, next, where = target_mask), spread(logits, where = target_mask)]
    optimizer = gradient_descent(lr = 0.3)
    epochs = 3
    batch = 4
}
"""

LINES = """model M(units = 4) {
    input tokens: i32[batch, time] in 0..vocab padded by mask
    text = tokens |> embedding(vocab, units) |> mean(axis = time, where = mask)
    output logits = text |> dense(2)
}

train M {
    data = lines("texts.txt", label = "first", tokens = "char", bucket = 6)
    validation = 0.3
    target label: u8[batch] in 0..2
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 0.05)
    epochs = 3
    batch = 4
}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    lengths = np.sort(random.integers(1, 30, 60))
    words = ["".join(random.choice(list("abcd"), length)) for length in lengths]
    pairs = [f"{word}\t{word[::-1][: 1 + len(word) // 2]}" for word in words]
    (tmp_path / "both.tsv").write_text("\n".join(pairs) + "\n")
    (tmp_path / "texts.txt").write_text("\n".join(f"{'ab'[word[0] > 'b']} {word}" for word in words) + "\n")
    (tmp_path / "pairs.dl").write_text(PAIRS)
    (tmp_path / "lines.dl").write_text(LINES)
    return tmp_path


def losses(run: Path) -> list[list[float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[line[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")] for line in found]


def spreads(run: Path) -> list[list[float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[line[name] for name in ("spread", "val_spread") if name in line] for line in found]


@pytest.mark.parametrize(("name", "target"), [("pairs", "reference"), ("pairs", "native"), ("lines", "native")])
def test_losses_and_weights_are_those_of_one_length(project: Path, name: str, target: str) -> None:
    text = (project / f"{name}.dl").read_text()
    (project / "one.dl").write_text(text.replace("bucket = 3", "bucket = 1").replace("bucket = 6", "bucket = 1"))
    assert main(["train", f"{name}.dl", "--out", "several", "--target", target]) == 0
    assert main(["train", "one.dl", "--out", "one", "--target", target]) == 0
    assert len(saved_preparation(open_run(project / "several")).buckets) > 2
    assert saved_preparation(open_run(project / "one")).buckets == ()
    assert len(losses(project / "several")) == 3
    np.testing.assert_allclose(losses(project / "several"), losses(project / "one"), rtol=1e-4)
    np.testing.assert_allclose(spreads(project / "several"), spreads(project / "one"), rtol=1e-4)
    ours, theirs = dlc.load("several").parameters, dlc.load("one").parameters
    for path, array in ours.items():
        np.testing.assert_allclose(array, theirs[path], rtol=1e-3, atol=1e-5)


def test_a_resumed_training_has_the_same_bits_and_lengths(project: Path) -> None:
    assert main(["train", "lines.dl", "--out", "whole", "--threads", "2"]) == 0
    assert main(["train", "lines.dl", "--out", "parts", "--epochs", "1", "--threads", "1"]) == 0
    assert main(["train", "--resume", "parts", "--epochs", "3", "--threads", "1"]) == 0
    whole, parts = (newest_checkpoint(project / name / "checkpoints").checkpoint for name in ("whole", "parts"))
    assert whole.position.step == parts.position.step
    assert all(whole.weights[path].tobytes() == parts.weights[path].tobytes() for path in whole.weights)
    settings = json.loads((project / "parts" / "settings.json").read_text())["settings"]
    sizes = saved_preparation(open_run(project / "parts")).buckets
    assert settings["bucket.time"] == {"value": [size["time"] for size in sizes], "from": "data"}


def checkpoints(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "checkpoints").rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("name", "target"), [("pairs", "reference"), ("pairs", "native"), ("lines", "native")])
def test_texts_that_stay_on_disk_have_the_same_batches(
    project: Path, name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits of memory where one block holds all rows; a resumed training has the bits of one that went through."""
    train = ("train", f"{name}.dl", "--target", target)
    monkeypatch.setenv("DLC_CACHE_DIR", str(project / "cache"))
    assert main([*train, "--out", "memory"]) == 0
    assert main([*train, "--out", "block", "--set", "stream=100"]) == 0
    assert len(saved_preparation(open_run(project / "block")).buckets) > 2
    assert checkpoints(project / "block") == checkpoints(project / "memory")
    stream = ("--set", "stream=15")
    assert main([*train, "--out", "whole", *stream, "--threads", "2"]) == 0
    assert main([*train, "--out", "parts", *stream, "--epochs", "1", "--threads", "1"]) == 0
    assert main(["train", "--resume", "parts", "--epochs", "3", "--threads", "1", "--target", target]) == 0
    whole, parts = (newest_checkpoint(project / run / "checkpoints").checkpoint for run in ("whole", "parts"))
    assert all(whole.weights[path].tobytes() == parts.weights[path].tobytes() for path in whole.weights)
    assert checkpoints(project / "whole") != checkpoints(project / "memory")
    assert main(["eval", "whole", "--target", target]) == 0


def test_an_evaluation_has_the_same_bits_for_any_batch(project: Path) -> None:
    """Each text is computed at the length that it would have alone, whoever shares its batch."""
    assert main(["train", "lines.dl", "--out", "run"]) == 0
    trained = open_trained_run(Path("run"), use_last=False, overrides=(), options=driver.Options())
    part = evaluation_data(trained, None, "train").part
    settings = runtime_settings(trained.program, length_of(training_of(trained.program), len(part.rows)))
    found: list[dict[str, float]] = []
    for batch in (1, 3, 8, 64):
        buckets = Buckets(trained.program, trained.sizes)
        executable = buckets.executable(lambda one: driver.compile_program(one, EVALUATION, driver.Options()))
        finisher = finisher_of(trained.program, driver.Options())
        evaluator = PartEvaluator(executable, batch, settings, buckets=buckets, finisher=finisher)
        found.append(evaluator.evaluate(trained.tensors, part) or {})
    assert found[0].keys() == {"loss", "accuracy"}
    assert found == [found[0]] * 4


def test_a_replay_takes_the_same_lengths(project: Path) -> None:
    assert main(["train", "lines.dl", "--out", "run", "--target", "reference"]) == 0
    *_, before, last = checkpoints_in(project / "run" / "checkpoints")
    wanted = read_checkpoint(last).weights
    step = read_checkpoint(last).position.step
    shutil.rmtree(last)
    assert read_checkpoint(before).position.step < step - 1
    (path, *_) = wanted
    assert main(["replay", "run", "--step", str(step), "--show", path, "--out", "a.npz"]) == 0
    assert main(["replay", "run", "--step", str(step - 1), "--show", "loss", "--out", "b.npz"]) == 0
    with np.load("a.npz") as found:
        assert found[path].tobytes() == wanted[path].tobytes()
    with np.load("b.npz") as found:
        assert np.isfinite(found["loss"])


class Noted:
    """Compiles, and notes how long the texts of each call are, at which it runs."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, program: Program) -> Executable:
        inner = driver.compile_program(program, EVALUATION, driver.Options(batch=4))
        calls = self.calls

        class Watching:
            def run(self, steps: Steps) -> Any:
                calls.append((len(steps.rows), steps.data["tokens"].shape[1]))
                assert driver.data_dimensions(program)["time"] == steps.data["tokens"].shape[1]
                return inner.run(steps)

        return Watching()


def test_each_batch_runs_at_the_first_length_that_holds_it(project: Path) -> None:
    program = driver.load("lines.dl", None, (), dimensions_of(None))
    train = load_data(program, None).train
    options = driver.Options(batch=4)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    buckets, noted = Buckets(program, train.buckets), Noted()
    lengths = train.arrays["mask"].sum(axis=1)
    rows = np.argsort(lengths, kind="stable")
    results = buckets.executable(noted).run(Steps(tensors, train.arrays, rows, 4))
    whole = driver.compile_program(program, EVALUATION, options).run(Steps(tensors, train.arrays, rows, 4))
    np.testing.assert_allclose(results.scalars["loss"], whole.scalars["loss"], rtol=1e-5)
    extents = [size["time"] for size in train.buckets]
    assert extents == sorted(extents)
    wanted = [min(e for e in extents if e >= lengths[rows[k : k + 4]].max()) for k in range(0, len(rows), 4)]
    assert [time for count, time in noted.calls for _ in range(-(-count // 4))] == wanted
    computed = sum(count * time for count, time in noted.calls)
    assert lengths.sum() <= computed < 0.75 * len(rows) * extents[-1]


def test_predictions_stand_in_the_order_of_the_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "lines.dl", "--out", "run", "--target", "reference"]) == 0
    assert main(["eval", "run", "--part", "validation", "--target", "reference"]) == 0
    texts = ["abcd" * 6, "a", "dd", "abc" * 5, "b" * 29, "c"]
    (project / "in.txt").write_text("\n".join(texts) + "\n")
    capsys.readouterr()
    assert main(["predict", "run", "--input", "in.txt", "--target", "reference"]) == 0
    together = [json.loads(line)["logits"] for line in capsys.readouterr().out.splitlines()]
    for text, logits in zip(texts, together, strict=True):
        (project / "in.txt").write_text(text + "\n")
        assert main(["predict", "run", "--input", "in.txt", "--target", "reference"]) == 0
        np.testing.assert_allclose(json.loads(capsys.readouterr().out)["logits"], logits, rtol=1e-4, atol=1e-6)


def loaded(text: str) -> tuple[Program, list[str], int]:
    program = driver.load_text(text, "lines.dl", None, (), dimensions_of(None))
    data = load_data(program, None)
    return program, list(data.notes), len(data.train.buckets)


def test_shapes_that_depend_on_the_length_keep_it(project: Path) -> None:
    text = LINES.replace("|> mean(", "|> learned_positions(time) |> mean(")
    _, notes, count = loaded(text)
    assert count == 0
    assert "since the shape of `text.learned_positions.W` depends on `time`" in " ".join(notes)
    (project / "positions.dl").write_text(text)
    assert main(["train", "positions.dl", "--out", "run", "--epochs", "1", "--target", "reference"]) == 0


def test_augmented_texts_keep_their_length(project: Path) -> None:
    change = "    augment {\n        tokens, mask = (tokens, mask) |> random_deletion(0.3)\n    }\n    loss"
    _, notes, count = loaded(LINES.replace("    loss", change))
    assert count == 0
    assert "since `augment` may make a text longer" in " ".join(notes)


def test_what_is_too_short_for_the_model_is_no_length(project: Path) -> None:
    _, _, count = loaded(LINES)
    text = LINES.replace("mean(axis = time, where = mask)", "eighth")
    text += "\nfn eighth(x: [batch, time, n]) = x[:, 7]\n"
    program, _, fewer = loaded(text)
    assert 0 < fewer < count
    assert load_data(program, None).train.buckets[0]["time"] > 7


def test_a_length_that_the_model_says_is_kept(project: Path) -> None:
    program = driver.load_text(LINES, "lines.dl", None, (("time", "40"),), dimensions_of(None))
    assert text_dimensions(program) == {}
    assert load_data(program, None).train.buckets == ()


def test_a_text_without_a_mask_keeps_its_length(project: Path) -> None:
    text = LINES.replace(" padded by mask", "").replace(", where = mask", "")
    assert loaded(text)[2] == 0


@pytest.mark.parametrize("value", ["0", "-1", '"yes"'])
def test_a_number_of_lengths_is_positive(project: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "wrong.dl").write_text(LINES.replace("bucket = 6", f"bucket = {value}"))
    assert main(["train", "wrong.dl"]) == 1
    assert "must be true, false, or how many lengths" in capsys.readouterr().err


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_other_lengths_have_fewer_places(most: int) -> None:
    """Compared with all that there are, for batches of one row."""
    lengths = np.array([1, 1, 1, 2, 3, 3, 7, 8, 8, 13, 20])
    tokens = (np.arange(20) < lengths[:, None]).astype(np.int32)
    part = Part({"tokens": tokens}, np.arange(len(lengths)), lengths=lengths)
    found = [size["time"] for size in best_sizes(part, {"time": [tokens]}, 0, 1, most)]

    def places(extents: tuple[int, ...]) -> int:
        return sum(min(e for e in extents if e >= length) for length in lengths.tolist())

    others = itertools.combinations(sorted(set(lengths.tolist()) - {20}), most - 1)
    assert places(tuple(found)) == min(places((*other, 20)) for other in others)


def test_two_lengths_are_chosen_together() -> None:
    random = np.random.default_rng(0)
    first = random.integers(2, 40, 4000)
    second = np.clip(first + random.integers(-3, 4, 4000), 1, None)
    arrays = {"a": (np.arange(60) < first[:, None]), "b": (np.arange(60) < second[:, None])}
    part = Part(arrays, np.arange(4000), lengths=np.maximum(first, second))
    sizes = best_sizes(part, {"m": [arrays["a"]], "n": [arrays["b"]]}, 0, 32, 6)
    assert len(sizes) == 6
    assert sizes[-1] == {"m": first.max(), "n": second.max()}
    assert all(abs(size["m"] - size["n"]) <= 4 for size in sizes)


def test_a_length_must_pay_where_their_number_is_open(project: Path) -> None:
    small, large = LINES.replace("bucket = 6", "bucket = true"), LINES.replace("epochs = 3", "epochs = 100000000")
    assert loaded(small)[2] == 0
    assert loaded(large.replace("bucket = 6", "bucket = true"))[2] > 2


def test_without_much_to_save_there_is_one_length(project: Path) -> None:
    tokens = np.ones((40, 12), np.int32)
    part = Part({"tokens": tokens}, np.arange(40), lengths=np.full(40, 12))
    assert best_sizes(part, {"time": [tokens]}, 0, 4, 6) == ({"time": 12},)
    program = driver.load("lines.dl", None, (), dimensions_of(None))
    train = load_data(program, None).train
    assert chosen_sizes(program, train, 1, []) == ()
