"""Events of a training as JSON, one object a line on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import assert_never

from runtime.support.files import JsonValue
from runtime.train.events import EpochEnded, Event, NonfiniteMet, TrainingEnded, TrainingProgressed, TrainingStarted


def print_event(event: Event) -> None:
    """The observer of `dlc train --json`. Progress within an epoch is left out."""
    if isinstance(event, TrainingProgressed):
        return
    json.dump(event_as_json(event), sys.stdout, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def event_as_json(event: TrainingStarted | EpochEnded | NonfiniteMet | TrainingEnded) -> dict[str, JsonValue]:
    """Metrics stand beside the other keys: `accuracy`, `val_accuracy`, `test_accuracy`; NaN and Inf are null."""
    match event:
        case TrainingStarted():
            return {
                "event": "start",
                "model": event.model,
                "run": _path(event.run),
                "parameters": event.parameters,
                "rows": dict(event.rows),
                "batch": event.batch,
                "epochs": event.epochs,
                "steps": event.total_steps,
                "step": event.step,
                "settings": {
                    s.name: {"value": s.value, "from": s.origin} for s in event.settings if s.origin != "derived"
                },
                **({} if event.weights is None else {"init_from": event.weights.to_json()}),
            }
        case EpochEnded():
            return {
                "event": "epoch",
                "epoch": event.epoch,
                "step": event.step,
                **prefixed("", event.scalars),
                **prefixed("val_", event.validation),
                "rate": event.rate,
                "samples_per_second": round(event.samples_per_second, 1),
                "seconds": round(event.seconds, 4),
                "best": event.is_best,
            }
        case NonfiniteMet():
            return {
                "event": "nonfinite",
                "epoch": event.epoch,
                "step": event.step,
                "output": event.output,
                "action": event.action,
                "text": event.text,
            }
        case TrainingEnded():
            return {
                "event": "end",
                "reason": event.reason,
                "run": _path(event.run),
                "step": event.step,
                "epochs": event.epochs,
                "best_epoch": event.best_epoch,
                **prefixed("test_", event.test),
                "seconds": round(event.seconds, 4),
            }
        case _:
            assert_never(event)


def prefixed(prefix: str, scalars: Mapping[str, float]) -> dict[str, JsonValue]:
    return {prefix + name: value if math.isfinite(value) else None for name, value in scalars.items()}


def _path(path: object) -> str | None:
    return None if path is None else str(path)
