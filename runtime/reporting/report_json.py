"""The numbers of a report as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping

from runtime.analysis.examined.confusion import Confusion
from runtime.analysis.examined.examination import Examination
from runtime.reporting.predictions_page import MOST_IN_FULL, class_row, most_confused_rows
from runtime.reporting.run_page import RunFacts
from runtime.support.files import JsonValue


def report_json(facts: RunFacts) -> dict[str, JsonValue]:
    """What is not finite is null; `evaluation` is null where no rows could be measured, and `missing` says why."""
    found = facts.examination
    return {
        **{name: _finite(value) for name, value in facts.summary.to_json().items()},
        "missing": facts.missing or None,
        "checkpoint_of_weights": facts.checkpoint or None,
        "evaluation": None if found is None else _examination(found),
        "weights": [one.to_json() for one in facts.weights],
    }


def _examination(found: Examination) -> dict[str, JsonValue]:
    return {
        "data": found.data,
        "rows": found.rows,
        "measured": found.measured,
        "notes": list(found.notes),
        "rows_not_finite": found.nonfinite,
        "scalars": _finite(found.scalars),
        "classes": [_confusion(confusion) for confusion in found.confusions],
        "numbers": [fit.to_json() for fit in found.fits],
        "samples": [row.to_json() for row in found.samples],
        "texts": [text.to_json() for text in found.texts],
    }


def _confusion(found: Confusion) -> dict[str, JsonValue]:
    """The whole matrix where the page shows it, and every class; of more classes, those that occur."""
    scores = found.scores()
    is_in_full = len(found.classes) <= MOST_IN_FULL
    chosen = [n for n in range(len(found.classes)) if is_in_full or scores.present[n] + scores.taken[n] > 0]
    return {
        "target": found.target,
        "output": found.output,
        "threshold": found.threshold,
        "total": found.total,
        **found.averages(),
        "matrix": found.counts.tolist() if is_in_full else None,
        "most_confused": [dict(row) for row in most_confused_rows(found)],
        "classes": [class_row(found, scores, number) for number in chosen],
    }


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
