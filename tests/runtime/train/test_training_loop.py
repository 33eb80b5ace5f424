"""The training loop against a small model in NumPy: division into calls, interruption, best weights, stopping."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import small_driver

from compiler.diagnosis.reports import NonfiniteReport, Site
from compiler.driver import Executable, Options, Results
from compiler.interface import Steps
from compiler.programs.kinds import EVALUATION, TRAINING
from runtime.data.part import Part
from runtime.inference.evaluation import PartEvaluator
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.position import Position
from runtime.train import training
from runtime.train.compiled_job import Job
from runtime.train.events import EpochEnded, TrainingEnded, TrainingProgressed, TrainingStarted
from runtime.train.keepers import MemoryKeeper
from runtime.train.training import TrainingError, run_training


def job_of(text: str = "", rows: int = 22, validation_rows: int = 6) -> Job:
    program = small_driver.load_text(text, "small.dl")
    tensors = small_driver.allocate(program, Options())
    small_driver.initialise(program, tensors, 0, Options())
    x, label = small_driver.rows_of(rows + 2 * validation_rows)
    arrays, plan = {"x": x, "label": label}, training_of(program)
    settings = runtime_settings(program)
    held = [Part(arrays, np.arange(rows + n * validation_rows, rows + (n + 1) * validation_rows)) for n in range(2)]
    return Job(
        step=small_driver.SmallExecutable(TRAINING),
        evaluator=PartEvaluator(small_driver.SmallExecutable(EVALUATION), plan.usual_rows, settings),
        tensors=tensors,
        settings=settings,
        plan=plan,
        length=length_of(plan, rows),
        train=Part(arrays, np.arange(rows)),
        validation=held[0] if validation_rows else None,
        test=held[1] if validation_rows else None,
        rates=("optimizer.lr",),
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

    def __init__(self, inner: Executable, step: int, number: int = signal.SIGINT) -> None:
        self.inner, self.step, self.number = inner, step, number

    def run(self, steps: Steps) -> Results:
        results = self.inner.run(steps)
        if steps.first_step <= self.step:
            os.kill(os.getpid(), self.number)
        return results


class SavedPosition(MemoryKeeper):
    position = Position()

    def save(self, position: Position) -> None:
        self.position = position


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def test_progress_is_told_while_a_part_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_REPORTS", 0.0)
    seen: list[TrainingProgressed] = []

    def observe(event: object) -> None:
        if isinstance(event, TrainingProgressed):
            seen.append(event)

    run_training(job_of("epochs = 2"), Position(), observe)
    assert {event.part for event in seen} == {"train", "validation", "test"}
    assert next(e.step for e in seen if e.part == "validation") == 6
    assert seen[-1].part == "test"


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    run_training(job_of("epochs = 1"), Position(), Recorder())
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGHUP, "finished"), (signal.SIGINT, "interrupted")])
def test_signals_that_were_ignored_before(number: signal.Signals, reason: str) -> None:
    """`nohup` ignores the end of the terminal, and that counts; a shell ignores Ctrl-C for what it starts with `&`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        job = job_of("epochs = 2")
        end = run_training(replace(job, step=StopAfter(job.step, 9, number)), Position(), Recorder())
    finally:
        signal.signal(number, before)
    assert end.reason == reason


def test_patience_stops_early_and_restores_the_best_weights() -> None:
    job, recorder = job_of("epochs = 200\noptimizer.lr = 8.0\npatience = 2"), Recorder()
    end = run_training(job, Position(), recorder)
    assert end.reason == "stopped early"
    assert end.epochs < 200
    assert end.best_epoch is not None
    assert end.best_epoch == end.epochs - 2
    best = recorder.epochs[end.best_epoch - 1]
    assert best.is_best
    assert job.evaluator is not None
    assert job.validation is not None
    assert job.evaluator.evaluate(job.tensors, job.validation) == best.validation


def test_a_gain_below_the_minimum_change_is_none() -> None:
    recorder = Recorder()
    end = run_training(job_of("epochs = 50\npatience = 3\nmin_change = 100.0"), Position(), recorder)
    assert (end.reason, end.epochs) == ("stopped early", 4)
    assert end.best_epoch == 4, "the best weights are the best all the same"


def test_without_restoring_the_last_weights_stay() -> None:
    text = "epochs = 200\noptimizer.lr = 8.0\npatience = 2\nrestore = "
    job, recorder = job_of(text + "0"), Recorder()
    run_training(job, Position(), recorder)
    assert job.evaluator is not None
    assert job.validation is not None
    assert job.evaluator.evaluate(job.tensors, job.validation) == recorder.epochs[-1].validation
    other = job_of(text + "1")
    run_training(other, Position(), Recorder())
    assert weights(other) != weights(job)


def test_plateaus_reduce_the_rate_down_to_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    job, given = job_of("epochs = 40\noptimizer.lr = 8.0\nplateau = 2"), list[tuple[int, float]]()
    run = job.step.run

    def watched(steps: Steps) -> Results:
        given.append((steps.first_step, steps.settings["optimizer.lr"]))
        return run(steps)

    monkeypatch.setattr(job.step, "run", watched)
    recorder = Recorder()
    run_training(job, Position(), recorder)
    losses = [event.validation["loss"] for event in recorder.epochs]
    first = next(n for n in range(2, 40) if min(losses[n - 1], losses[n]) >= min(losses[: n - 1]))
    assert {rate for step, rate in given if step < 6 * (first + 1)} == {8.0}
    assert list(dict.fromkeys(rate for _, rate in given)) == [8.0, 4.0, 2.0, 1.6], (
        "halved each time, but not below a fifth"
    )


def test_a_resumed_training_keeps_the_reduced_rate() -> None:
    text = "optimizer.lr = 8.0\nplateau = 2\nepochs = "
    whole, first, second = job_of(text + "20"), job_of(text + "9"), job_of(text + "20")
    run_training(whole, Position(), Recorder())
    positions: list[Position] = []
    keep = first.keeper.epoch_ended

    def watched(position: Position, event: EpochEnded) -> None:
        positions.append(position)
        keep(position, event)

    first.keeper.epoch_ended = watched
    first.keeper.restore_best = lambda: None
    run_training(first, Position(), Recorder())
    assert positions[-1].rate_factor < 1
    for name in first.tensors.names():
        second.tensors.write(name, first.tensors[name])
    whole_again = job_of(text + "20")
    whole_again.keeper.restore_best = second.keeper.restore_best = lambda: None
    run_training(second, positions[-1], Recorder())
    run_training(whole_again, Position(), Recorder())
    assert weights(second) == weights(whole_again)


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
    assert caught.value.fix.startswith("no update has been made yet: look at the data")


def test_the_remedy_fits_the_operation_and_the_step() -> None:
    def born(operation: str) -> NonfiniteReport:
        return NonfiniteReport(("loss",), Site(operation, None, "", "forward", "", float("nan"), ("x = -1.0",)), None)

    assert training.remedy(born("log"), 0).startswith("a logarithm needs an argument above 0")
    assert "lower the rate" not in training.remedy(born("log"), 0)
    assert training.remedy(born("log"), 9).endswith("in `train`)")
    assert training.remedy(born("exp"), 9).startswith("lower the rate")
    assert training.remedy(None, 9).startswith("lower the rate")


def test_calls_grow_to_many_steps() -> None:
    job = job_of("epochs = 40", rows=400, validation_rows=0)
    run_training(job, Position(), Recorder())
    assert isinstance(job.step, small_driver.SmallExecutable)
    assert job.step.calls < 40 * 100 / 4
