"""Numbers as people read them: durations, sizes, counts, measures."""

from __future__ import annotations

import json
import math

from compiler.driver import SettingValue
from compiler.errors.diagnostics import scaled
from runtime.support.files import JsonValue

_HEADINGS = {"flops_forward": "FLOPs forward", "flops_step": "FLOPs of a step", "f1": "F1", "r2": "R²"}


def duration(seconds: float) -> str:
    """`0.4 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def amount(count: float, unit: str = "") -> str:
    """Operations or rates: `950`, `1.2 k`, `3.4 MFLOP`."""
    return f"{scaled(count, 1000, ('', 'k', 'M', 'G', 'T', 'P'))}{unit}".rstrip()


def heading(name: str) -> str:
    """A key of a report as people read it: `FLOPs of a step` for `flops_step`, `peak` for `peak_bytes`."""
    words = name.removesuffix("_bytes").split("_")
    return _HEADINGS.get(name) or " ".join(_HEADINGS.get(word, word) for word in words)


def measure(value: float) -> str:
    """A loss or metric with four significant places: `0.0123`, `1.235`, `3.2e-07`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.4f}" if 0.01 <= abs(value) < 1000 else f"{value:.4g}"


def value_text(value: SettingValue) -> str:
    """`0.001`, `true`, `"text"`, `[1, 2]`, `none`."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            return f"[{', '.join(value_text(item) for item in value)}]"
        case _:
            return repr(value)


def is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
