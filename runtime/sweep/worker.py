"""One worker of a search that several processes share: trial after trial, until none is left."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import DataError, ResourceError, SourceError, UsageError
from runtime.sweep.trials import Goal, Trial, trained
from runtime.train.session import TrainingRequest

if TYPE_CHECKING:
    from runtime.sweep.study import Study, TakenTrial

_SECONDS_BETWEEN_LOOKS = 0.5


def work(study: Study, request: TrainingRequest, tell: Callable[[str], None], told: Callable[[], None]) -> None:
    """Make trials until all of the search have ended, also those of other workers; `told` is called after each.

    Trials of workers that die are made again here. Raises what is wrong in the first trial, and KeyboardInterrupt after
    Ctrl-C, when the trial is given back.
    """
    try:
        while True:
            taken = study.next()
            if taken is not None:
                _make(study, taken, request, tell)
                gc.collect()  # collections come late by themselves, and there may be a thousand trials
            elif not study.is_running():
                return
            else:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            told()
    finally:
        study.leave()


def _make(study: Study, taken: TakenTrial, request: TrainingRequest, tell: Callable[[str], None]) -> None:
    goal = Goal(study.plan.metric, study.plan.maximise)
    overrides = (*request.overrides, *study.plan.space.fixed, *taken.settings.items())
    wanted = replace(request, overrides=overrides, out=study.folder / f"trial-{taken.number:03d}")
    try:
        trial, was_interrupted = trained(taken.number, taken.settings, wanted, goal, tell, taken.report)
    except (SourceError, UsageError, DataError, ResourceError) as error:
        taken.tell(Trial(taken.number, taken.settings, None, None, None, str(error).split("\n")[0]), pruned=False)
        if taken.number == 1:
            raise
        return
    except BaseException:
        taken.give_back()
        raise
    if was_interrupted:
        taken.give_back()
        raise KeyboardInterrupt
    if not taken.tell(trial, trial.is_pruned):
        tell(f"trial {taken.number} was given to another worker, as this one was taken for dead")
