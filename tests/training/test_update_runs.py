"""Runs of trainings with `update` blocks: what is recorded, resumed, replayed, averaged and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from elaboration import codes, mistakes

import dlc
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.directory import open_run
from runtime.runs.listing import summary_of
from runtime.support.files import sha256_of

TEXT = """
layer net(units: int, outputs: int)(x: [batch, n]) -> [batch, outputs] {
    return x |> dense(units) |> batch_norm |> relu |> dropout(0.1) |> dense(outputs)
}

model Gan {
    input x: f32[batch, 2]
    g = net(6, 2)
    d = net(6, 1)
    fake = g(random(batch, 3))
    output real_score = d(x)[:, 0]
    output fake_score = d(fake)[:, 0]
}

train Gan {
    data = npz("rows.npz")
    validation = 0.2
    metrics = [maximise(mean(fake_score))]
    epochs = 6
    batch = 8
    update critic {
        parameters = "d.*"
        loss = mean(softplus(-real_score)) + mean(softplus(fake_score))
        optimizer = adam(lr = 0.01)
        schedule = cosine(T = total_steps)
        penalty = l2(1e-3)
        times = 2
    }
    update generator {
        parameters = "g.*"
        loss = mean(softplus(-fake_score))
        optimizer = adam(lr = 0.01)
        clip = global_norm(1.0)
        every = 2
    }
}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("rows.npz", x=np.random.default_rng(0).normal(size=(105, 2)).astype(np.float32))
    Path("gan.dl").write_text(TEXT)


def train(out: str, *arguments: str) -> Path:
    assert main(["train", "gan.dl", "--out", out, "--json", *arguments]) == 0
    return Path(out)


def content(run: Path) -> list[str]:
    newest = newest_checkpoint(run / "checkpoints").path
    return [sha256_of(newest / name) for name in ("weights.safetensors", "optimizer.safetensors")]


def test_a_run_tells_each_loss_and_keeps_the_last_weights(capsys: pytest.CaptureFixture[str]) -> None:
    run = train("run")
    told = capsys.readouterr()
    assert "no `best` says" in told.err
    events = [json.loads(line) for line in told.out.splitlines()]
    start, epochs, end = events[0], events[1:-1], events[-1]
    assert start["settings"]["critic.times"] == {"value": 2, "from": "train"}
    # 84 rows: five steps of 16, and one that divides the last four
    assert (start["steps"], start["batch"]) == (36, 16)
    for epoch in epochs:
        for prefix in ("", "val_"):
            both = epoch[f"{prefix}critic.loss"] + epoch[f"{prefix}generator.loss"]
            assert epoch[f"{prefix}loss"] == pytest.approx(both, rel=1e-6)
        assert epoch["best"] is False
    assert end["best_epoch"] is None
    assert summary_of(run).best_epoch is None
    tensors = dlc.load(run).parameters
    newest = newest_checkpoint(run / "checkpoints").checkpoint
    assert all(np.array_equal(np.array(values), newest.weights[name]) for name, values in tensors.items())


def test_few_rows_are_divided_among_the_batches_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    train("run", "--set", "batch=200", "--epochs", "1")  # 84 rows to train
    assert "a step takes 400 rows, and there are 84: each of its 2 batches is of 42" in capsys.readouterr().err


def test_an_update_that_is_never_made_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    train("run", "--epochs", "1", "--set", "generator.every=7")  # of six steps
    assert "`generator` is made every 7 steps, and the run has 6: never" in capsys.readouterr().err
    train("other", "--epochs", "1", "--set", "generator.every=6")
    assert "never" not in capsys.readouterr().err


def test_the_best_epoch_is_that_of_the_stated_metric(capsys: pytest.CaptureFixture[str]) -> None:
    train("run", "--set", "best=mean")
    epochs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    values = [epoch["val_mean"] for epoch in epochs[1:-1]]
    assert epochs[-1]["best_epoch"] == 1 + int(np.argmax(values))


@pytest.mark.parametrize("given", ["critic.loss", '"critic.loss"'])
def test_the_loss_of_an_update_may_say_which_epoch_is_the_best(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = f"batch = 8\n    best = {given}\n    early_stop = patience(1)"
    Path("gan.dl").write_text(TEXT.replace("batch = 8", stopping).replace("epochs = 6", "epochs = 40"))
    train("run")
    *_, end = epochs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    values = [epoch["val_critic.loss"] for epoch in epochs[1:-1]]
    assert end["best_epoch"] == 1 + int(np.argmin(values)) == len(values) - 1
    assert epochs[0]["settings"]["best"] == {"value": "critic.loss", "from": "train"}


@pytest.mark.parametrize(
    ("key", "code", "told"),
    [
        ("best = 3", "E0603", "such as `best = accuracy`, or `best = critic.loss` beside an `update critic`"),
        ("best = criti.loss", "E0617", "did you mean `critic.loss`"),
        ("early_stop = patience(2)", "E0624", "such as `best = accuracy`"),
        ("accumulate = 2", "E0620", "`times` how many batches an update takes"),
        ("shards = 2", "E0620", "one process makes the steps"),
        ("auxiliary = {balance: 0.1}", "E0620", "add it to that of an `update`"),
    ],
)
def test_a_mistake_says_what_to_write(key: str, code: str, told: str) -> None:
    found = mistakes(TEXT.replace("batch = 8", f"batch = 8\n    {key}"))
    assert codes(found) == [code]
    assert told in " ".join(note.message for note in found[0].notes)


def test_several_processes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "gan.dl", "--processes", "2"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "a step of `update` blocks is made by one hint: start one process" in told


def test_a_resumed_training_has_the_same_bits() -> None:
    wanted = content(train("whole"))
    part = train("part", "--set", "steps=15", "--set", "critic.schedule.T=36")
    whole = train("other", "--set", "steps=36", "--set", "critic.schedule.T=36")
    assert main(["train", "--resume", str(part), "--set", "steps=36", "--json"]) == 0
    assert content(part) == content(whole)
    assert content(whole) == wanted
    assert len(open_run(part).read_metrics()) >= 6


def test_a_step_is_replayed_with_the_gradients_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    train("run")
    capsys.readouterr()
    paths = ("d.dense.W:gradient", "g.dense.W:gradient", "critic.loss", "fake_score", "g.dense.W")
    shown = [word for path in paths for word in ("--show", path)]
    assert main(["replay", "run", "--step", "14", *shown, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["tensors"]) == set(paths)


def test_averaged_weights_move_once_a_step() -> None:
    whole = dlc.load("gan.dl", ema=0.5, steps=1, validation=0)
    start = {name: np.array(values) for name, values in whole.parameters.items()}
    plain = dlc.load("gan.dl", steps=1, validation=0)
    whole.train()
    plain.train()
    for name, values in plain.parameters.items():
        if "running" not in name:
            moved = 0.5 * start[name] + 0.5 * np.array(values)
            np.testing.assert_allclose(np.array(whole.parameters[name]), moved, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "gan.dl", "--overfit", "8"], "several updates"),
        (["lr", "gan.dl"], "several updates"),
        (["sweep", "gan.dl", "--set", "critic.optimizer.lr=[0.1,0.2]", "--trials", "2"], "several updates"),
        (["train", "gan.dl", "--set", "steps=1", "--set", "critic.times=200"], "takes 200 batches"),
    ],
)
def test_what_needs_one_loss_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) != 0
    assert told in capsys.readouterr().err


def test_a_value_that_is_not_finite_names_its_line_and_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gan.dl").write_text(TEXT.replace("loss = mean(softplus(-fake_score))", "loss = mean(log(fake_score - 100))"))
    assert main(["train", "gan.dl"]) != 0
    told = capsys.readouterr().err
    assert "`log` gives nan" in told
    assert "of the data" not in told  # several batches: no place in one of them is a row


def test_an_export_of_the_step_takes_one_batch(capsys: pytest.CaptureFixture[str]) -> None:
    run = train("run")
    assert main(["export", str(run), "--to", "c", "--training", "-o", "library"]) != 0
    assert "takes 2 batches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("loss = mean(fake_score)", "E0620"),
        ("optimizer = adam()", "E0620"),
        ("accumulate = 2", "E0620"),
        ("shards = 2", "E0620"),
        ('freeze = "g.*"\n unfreeze = after(1, "g.*")', "E0620"),
        ("early_stop = patience(2)", "E0624"),
        ("plateau = reduce(0.5, patience = 2)", "E0624"),
        ("restore = true", "E0624"),
        ("update third { loss = mean(fake_score) optimizer = adam() }".replace(" optimizer", "\n optimizer"), "E0602"),
        ('update critic { parameters = "x.*"\n loss = mean(fake_score)\n optimizer = adam() }', "E0601"),
        ('update third { parameters = "x.*"\n loss = mean(fake_score)\n optimizer = adam() }', "E0605"),
        ('update third { parameters = "d.*"\n loss = mean(fake_score)\n optimizer = adam() }', "E0619"),
        ('update epochs { parameters = "d.*"\n loss = mean(fake_score)\n optimizer = adam() }', "E0607"),
        ("update third { paramters = 3 }", "E0601"),
    ],
)
def test_what_does_not_go_together_is_a_mistake(line: str, code: str) -> None:
    assert code in codes(mistakes(TEXT.replace("    batch = 8\n", f"    batch = 8\n    {line}\n")))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("times = 2", "times = 0"), "E0603"),
        (("batch = 8", "batch = all"), "E0603"),
        (("optimizer = adam(lr = 0.01)\n        clip", "optimizer = lbfgs()\n        clip"), "E0615"),
        (("schedule = cosine(T = total_steps)", "schedule = reduce_on_plateau(0.5)"), "E0620"),
        (("loss = mean(softplus(-fake_score))", "loss = accuracy(fake_score, real_score)"), "E0604"),
        (("fake = g(random(batch, 3))", "fake = g(random(batch, 3))\n    loss size = mean(fake ^ 2)"), "E0620"),
    ],
)
def test_wrong_blocks_are_mistakes(change: tuple[str, str], code: str) -> None:
    assert change[0] in TEXT
    assert code in codes(mistakes(TEXT.replace(*change)))
