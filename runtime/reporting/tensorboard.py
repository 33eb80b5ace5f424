"""Events of a training as TensorBoard event files, one scalar for each metric and part. Imports tensorboardX."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from runtime.reporting.units import value_text
from runtime.support.files import missing
from runtime.train.events import EpochEnded, Event, TrainingEnded, TrainingStarted

try:
    from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingTypeStubs]
except ImportError as error:
    raise missing("tensorboardX", "tensorboard", "--log tensorboard") from error


class _Writer(Protocol):
    """The methods of tensorboardX in use, which has no types."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...
    def add_text(self, tag: str, text_string: str, global_step: int) -> None: ...
    def close(self) -> None: ...


class TensorBoardLog:
    """An observer that writes to `folder`; the scalars of an epoch stand at its last step.

    A resumed training adds a file, and what was logged after its first step counts no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: _Writer | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case TrainingStarted():
                self._start(event)
            case EpochEnded():
                self._add("train", event.scalars, event.step)
                self._add("validation", event.validation, event.step)
                speed = {"samples_per_second": event.samples_per_second}
                self._add("", speed if event.rate is None else {"rate": event.rate, **speed}, event.step)
            case TrainingEnded():
                self._add("test", event.test, event.step)
            case _:
                return

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _start(self, event: TrainingStarted) -> None:
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)  # it remarks on NaN, which is ours to report
        # Names hold whole seconds only: without the step, a resumed training could overwrite the file of the first.
        writer = SummaryWriter(str(self._folder), purge_step=event.step or None, filename_suffix=f".{event.step}")
        self._writer = cast(_Writer, writer)
        lines = [f"| {s.name} | {value_text(s.value)} | {s.origin} |" for s in event.settings if s.origin != "derived"]
        table = "\n".join(["| setting | value | from |", "|---|---|---|", *lines])
        self._writer.add_text("settings", table, event.step)

    def _add(self, part: str, scalars: Mapping[str, float], step: int) -> None:
        """TensorBoard shows tags with the same first part in one group: `loss/train`, `loss/validation`."""
        for name, value in scalars.items():
            if self._writer is not None:
                self._writer.add_scalar(f"{name}/{part}" if part else name, value, step)
