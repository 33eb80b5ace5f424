"""Events of a training as lines that name their values: for pipes and files, and for trainings one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from runtime.reporting.epoch_table import epochs_text, step_text
from runtime.reporting.units import amount, duration, measure
from runtime.train.events import EpochEnded, Event, TrainingProgressed, TrainingStarted

SECONDS_BETWEEN_SIGNS = 10.0  # of life, where nothing else is said


class SignsOfLife:
    """The observer of a training that is otherwise silent: every ten seconds, `tell` gets a line."""

    def __init__(self, started: TrainingStarted, tell: Callable[[str], None]) -> None:
        self._started, self._tell, self._last = started, tell, time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingProgressed) and time.monotonic() - self._last >= SECONDS_BETWEEN_SIGNS:
            self._last = time.monotonic()
            self._tell("  ".join(progress_parts(self._started, event)))


def progress_parts(started: TrainingStarted, event: TrainingProgressed) -> list[str]:
    """A line that shows in a pipe or a file that the training goes on."""
    begin = [place_text(started, event.epoch), f"step {event.step}/{started.total_steps}"]
    if event.part != "train":
        return [*begin, f"measuring the {event.part} part"]
    speed, left = f"{amount(event.samples_per_second)} samples/s", f"{duration(event.seconds_left)} left"
    return [*begin, scalars_text(event.scalars), *rate_text(event.rate), speed, left]


def epoch_parts(started: TrainingStarted | None, event: EpochEnded) -> list[str]:
    step = None if started is None else step_text(started, event.step)
    parts = [
        f"epoch {event.epoch}" if started is None else place_text(started, event.epoch),
        "" if step is None else f"step {step}",
        scalars_text(event.scalars),
        scalars_text({f"val_{name}": value for name, value in event.validation.items()}),
        *rate_text(event.rate),
        f"{amount(event.samples_per_second)} samples/s",
        duration(event.seconds),
    ]
    return [part for part in parts if part]


def place_text(started: TrainingStarted, epoch: int) -> str:
    total = epochs_text(started)
    return f"epoch {epoch:>{len(total)}}/{total}"


def scalars_text(scalars: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {measure(value)}" for name, value in scalars.items())


def rate_text(rate: float | None) -> tuple[str, ...]:
    return () if rate is None else (f"rate {rate:.3g}",)
