"""The training loop against a small model in NumPy: division into calls, interruption, best weights, stopping."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import small_driver

from compiler.driver import Options
from runtime.data.part import Part
from runtime.evaluation import Evaluator
from runtime.keepers import MemoryKeeper
from runtime.model import length_of, runtime_settings, training_of, weight_names
from runtime.position import Position
from runtime.reporting.events import EpochEnded, TrainingEnded, TrainingStarted
from runtime.training import Job, TrainingError, run_training


def job_of(text: str = "", rows: int = 22, validation_rows: int = 6) -> Job:
    program = small_driver.load_text(text, "small.dl")
    tensors = small_driver.allocate(program, Options())
    small_driver.initialise(program, tensors, 0, Options())
    x, label = small_driver.rows_of(rows + 2 * validation_rows)
    arrays, plan = {"x": x, "label": label}, training_of(program)
    settings = runtime_settings(program)
    held = [Part(arrays, np.arange(rows + n * validation_rows, rows + (n + 1) * validation_rows)) for n in range(2)]
    return Job(
        step=small_driver.SmallExecutable("train"),
        evaluator=Evaluator(small_driver.SmallExecutable("evaluate"), plan.batch, settings),
        tensors=tensors,
        settings=settings,
        seed=plan.seed,
        length=length_of(plan, rows),
        train=Part(arrays, np.arange(rows)),
        validation=held[0] if validation_rows else None,
        test=held[1] if validation_rows else None,
        patience=plan.patience,
        scalars=("loss", *plan.metrics),
        keeper=MemoryKeeper(tensors, weight_names(program)),
    )


def weights(job: Job) -> dict[str, bytes]:
    return {name: job.tensors[name].tobytes() for name in job.tensors.names()}


class Recorder:
    def __init__(self) -> None:
        self.epochs: list[EpochEnded] = []
        self.end: TrainingEnded | None = None

    def __call__(self, event: object) -> None:
        assert not isinstance(event, TrainingStarted)
        if isinstance(event, EpochEnded):
            self.epochs.append(event)
        elif isinstance(event, TrainingEnded):
            self.end = event


def test_every_row_counts_in_every_epoch() -> None:
    job, recorder = job_of("epochs = 3"), Recorder()
    end = run_training(job, Position(), recorder)
    assert (end.step, end.epochs, end.reason) == (18, 3, "finished")  # 22 rows in batches of 4: 6 steps, the last of 2
    assert [event.step for event in recorder.epochs] == [6, 12, 18]
    assert recorder.end == end
    assert set(end.test) == {"loss", "accuracy"}
    assert recorder.epochs[-1].scalars["loss"] < recorder.epochs[0].scalars["loss"]


def test_epoch_means_weigh_the_short_batch_by_its_rows() -> None:
    position = Position()
    position = position.advanced({"loss": np.array([1.0, 2.0])}, np.array([4, 4]), 0.1)
    position = position.advanced({"loss": np.array([4.0])}, np.array([2]), 0.1)
    assert position.means() == {"loss": (4 * 1.0 + 4 * 2.0 + 2 * 4.0) / 10}


def test_steps_may_end_inside_an_epoch() -> None:
    recorder = Recorder()
    end = run_training(job_of("steps = 8"), Position(), recorder)
    assert (end.step, end.epochs) == (8, 2)
    assert [event.step for event in recorder.epochs] == [6, 8]


class StopAfter:
    """Sends this process a signal while step `step` is computed."""

    def __init__(self, inner: small_driver.SmallExecutable, step: int, number: int = signal.SIGINT) -> None:
        self.inner, self.step, self.number = inner, step, number

    def run(
        self, tensors: object, data: object, rows: object, batch: int, first_step: int = 0, *more: object
    ) -> object:
        results = self.inner.run(tensors, data, rows, batch, first_step, *more)
        if first_step <= self.step:
            os.kill(os.getpid(), self.number)
        return results


class SavedPosition(MemoryKeeper):
    position = Position()

    def save(self, position: Position) -> None:
        self.position = position


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_at", [0, 2, 5, 9])
def test_interrupted_and_resumed_gives_the_same_bits(stop_at: int, number: int) -> None:
    whole, recorder = job_of("epochs = 4"), Recorder()
    whole_end = run_training(whole, Position(), recorder)

    job, first, second = job_of("epochs = 4"), Recorder(), Recorder()
    keeper = SavedPosition(job.tensors, ("dense.W", "dense.b"))
    interrupted = replace(job, keeper=keeper, step=StopAfter(job.step, stop_at, number))
    while (end := run_training(interrupted, keeper.position, first)).reason == "interrupted":
        assert end.test == {}
        interrupted = replace(interrupted, step=job.step)
    assert weights(job) == weights(whole)
    means = [(e.scalars, e.validation, e.is_best) for e in recorder.epochs]
    assert [(e.scalars, e.validation, e.is_best) for e in first.epochs + second.epochs] == means
    assert (end.test, end.best_epoch) == (whole_end.test, whole_end.best_epoch)


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    run_training(job_of("epochs = 1"), Position(), Recorder())
    assert signal.getsignal(signal.SIGINT) is before


def test_patience_stops_early_and_restores_the_best_weights() -> None:
    job, recorder = job_of("epochs = 200\noptimizer.lr = 8.0\npatience = 2"), Recorder()
    end = run_training(job, Position(), recorder)
    assert end.reason == "stopped early"
    assert end.epochs < 200
    assert end.best_epoch == end.epochs - 2
    best = recorder.epochs[end.best_epoch - 1]
    assert best.is_best
    assert job.evaluator is not None
    assert job.evaluator.evaluate(job.tensors, job.validation) == best.validation


def test_without_validation_the_training_loss_chooses() -> None:
    recorder = Recorder()
    end = run_training(job_of("epochs = 3", validation_rows=0), Position(), recorder)
    losses = [event.scalars["loss"] for event in recorder.epochs]
    assert end.best_epoch == losses.index(min(losses)) + 1
    assert end.test == {}


def test_nan_names_tensor_step_and_remedy() -> None:
    job = job_of("epochs = 3")
    job.train.arrays["x"][job.length.rows - 1] = np.nan
    with pytest.raises(TrainingError, match=r"`loss` became NaN or infinite at step \d+ \(epoch 1\)") as caught:
        run_training(job, Position(), Recorder())
    assert "optimizer.lr" in caught.value.fix


def test_calls_grow_to_many_steps() -> None:
    job = job_of("epochs = 40", rows=400, validation_rows=0)
    run_training(job, Position(), Recorder())
    assert isinstance(job.step, small_driver.SmallExecutable)
    assert job.step.calls < 40 * 100 / 4
