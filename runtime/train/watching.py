"""The observations of `--watch`, made now and then during a training: units without effect, gradients and updates."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.driver import Options, Program
from compiler.support.record import record
from runtime.runs.position import Position
from runtime.train.compiled_job import Job, steps_at
from runtime.train.programs import kind_at

if TYPE_CHECKING:
    from compiler.diagnosis.inspected_step import WatchedStep
    from compiler.diagnosis.reports import WatchedNumber

# Looking may take this part of the time.
_SHARE = 0.01
_DEAD, _SATURATED = 0.5, 0.5
_VANISHING, _EXPLODING = 1e-5, 1e3
_HARDLY, _TOO_MUCH = 1e-7, 0.1


@record
class Sight:
    """An observation at a layer's line or a parameter. `step` is that of the worst look, whose numbers these are.

    `gradient`, `ratio` (of update to weight) are of parameters, `share` of the `units` of an activation that are dead
    or saturated. `mistake` says what is wrong, if anything.
    """

    line: str
    path: str
    kind: str
    units: int
    step: int
    share: float | None = None
    gradient: float | None = None
    ratio: float | None = None
    mistake: str | None = None


class Watcher:
    """Looks at a training at its first step, and then as often as costs a hundredth of its time."""

    def __init__(self, program: Program, options: Options) -> None:
        self._program, self._options = program, options
        self._phase: int | None = None
        self._step: WatchedStep | None = None
        self._next_at = 0.0
        self._next_epoch = 1  # short trainings are looked at in epochs 1, 2, 3, 5, 9, … all the same
        self._worst: dict[tuple[str, str, str], Sight] = {}
        self.looks = 0

    def __call__(self, job: Job, position: Position) -> None:
        """Look at the step that follows, if it is time to. Nothing changes."""
        epoch = position.step // job.length.steps_per_epoch
        if time.perf_counter() < self._next_at and epoch < self._next_epoch:
            return
        if epoch >= self._next_epoch:
            self._next_epoch = 2 * epoch
        step = self._compiled(epoch, job.length.batch)
        begin = time.perf_counter()
        results = step.executable.run(steps_at(job, position))
        self._note(step.watched, {name: float(v[0]) for name, v in results.scalars.items()}, position.step)
        end = time.perf_counter()
        self._next_at = end + (end - begin) / _SHARE
        self.looks += 1

    def sights(self) -> list[Sight]:
        """The worst of each line and parameter, in the order of the program."""
        return list(self._worst.values())

    def _compiled(self, epoch: int, batch: int) -> WatchedStep:
        phase = kind_at(self._program, epoch).phase
        if self._step is None or phase != self._phase:
            from compiler.diagnosis.inspected_step import watched_step  # the whole compiler, which reports do without

            self._step = watched_step(self._program, phase, replace(self._options, batch=batch))
            self._phase = phase
        return self._step

    def _note(self, watched: tuple[WatchedNumber, ...], scalars: Mapping[str, float], step: int) -> None:
        measured = [one for one in watched if one.kind in ("gradient", "update", "weight")]
        sizes = {(one.kind, one.path): math.sqrt(max(scalars[one.name], 0.0)) for one in measured}
        largest = max((size for (kind, _), size in sizes.items() if kind == "gradient"), default=0.0)
        for one in watched:
            line = "" if one.span is None else f"{one.span.source.name}:{one.span.line}"
            if one.kind in ("dead", "saturated"):
                share = scalars[one.name]
                is_bad = share > (_DEAD if one.kind == "dead" else _SATURATED)
                mistake = f"{share:.0%} of {one.units} units are {one.kind}" if is_bad else None
                self._keep(Sight(line, one.path, one.kind, one.units, step, share=share, mistake=mistake), share)
            elif one.kind == "gradient":
                gradient = sizes["gradient", one.path]
                weight = sizes.get(("weight", one.path), 0.0)
                ratio = sizes["update", one.path] / weight if weight > 0 else None
                sight = Sight(line, one.path, "parameter", one.units, step, gradient=gradient, ratio=ratio)
                mistake = _mistake(gradient, largest, ratio)
                self._keep(replace(sight, mistake=mistake), 1.0 if mistake else 0.0)

    def _keep(self, sight: Sight, badness: float) -> None:
        key = sight.line, sight.path, sight.kind
        known = self._worst.get(key)
        before = -1.0 if known is None else known.share if known.share is not None else float(known.mistake is not None)
        if badness >= before:
            self._worst[key] = sight


def _mistake(gradient: float, largest: float, ratio: float | None) -> str | None:
    if not math.isfinite(gradient) or gradient > _EXPLODING:
        return "the gradient explodes"
    if largest > 0 and gradient < _VANISHING * largest:
        return f"the gradient vanishes: {gradient:.2g}, and {largest:.2g} elsewhere"
    if ratio is not None and ratio > _TOO_MUCH:
        return f"each update moves it by {ratio:.0%} of its size: the rate is too high"
    if ratio is not None and 0 < ratio < _HARDLY:
        return f"each update moves it by {ratio:.1g} of its size: the rate is too low"
    return None
