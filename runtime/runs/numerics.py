"""The versions of the numerics that computed the steps of a run; they decide whether bits can be promised.

A run that is resumed by another version has several, one after the other. `settings.json` keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from compiler.support.numerics import NUMERICS
from compiler.support.record import record
from runtime.support.files import JsonValue

UNKNOWN = 0  # of runs that were made before versions were kept


@record
class VersionSpan:
    """The steps from `step` on, up to the next stretch, were computed by this `version`."""

    step: int
    version: int


VersionSpans: TypeAlias = tuple[VersionSpan, ...]
NEW: VersionSpans = (VersionSpan(0, NUMERICS),)


def stretches_of(settings: JsonValue) -> VersionSpans:
    """The stretches that `settings.json` holds, in order; one of an unknown version where it holds none."""
    saved = settings.get("numerics") if isinstance(settings, Mapping) else None
    found: list[VersionSpan] = []
    for entry in saved if isinstance(saved, list) else []:
        match entry:
            case {"from_step": int(step), "version": int(version)}:
                found.append(VersionSpan(step, version))
            case _:
                return (VersionSpan(0, UNKNOWN),)
    return tuple(found) or (VersionSpan(0, UNKNOWN),)


def stretches_to_json(stretches: VersionSpans) -> JsonValue:
    return [{"from_step": stretch.step, "version": stretch.version} for stretch in stretches]


def continued(stretches: VersionSpans, step: int) -> VersionSpans:
    """After the run went on from `step` by this version: the steps beyond are computed again."""
    before = tuple(stretch for stretch in stretches if stretch.step < step)
    return before if before and before[-1].version == NUMERICS else (*before, VersionSpan(step, NUMERICS))


def versions_in(stretches: VersionSpans, begin: int, end: int) -> tuple[int, ...]:
    """The versions that computed the steps from `begin` up to, and without, `end`: each once, in order."""
    ends = [*(following.step for _, following in pairwise(stretches)), None]
    touched = [s.version for s, stop in zip(stretches, ends, strict=True) if s.step < end and (stop or end) > begin]
    return tuple(dict.fromkeys(touched if begin < end else ()))


def versions_of(stretches: VersionSpans) -> tuple[int, ...]:
    """All versions of a run: each once, in order."""
    return tuple(dict.fromkeys(stretch.version for stretch in stretches))


def in_words(versions: Sequence[int]) -> str:
    """`version 1`, `versions 1 and 2`, `an unknown version`."""
    known = [str(version) for version in versions if version != UNKNOWN]
    parts = ["an unknown version"] if UNKNOWN in versions else []
    parts += [f"version{'s' if len(known) > 1 else ''} {' and '.join(known)}"] if known else []
    return " and ".join(parts)


def versions_as_cell(versions: Sequence[int]) -> str:
    """`1`, `1, 2`, `unknown`."""
    return ", ".join("unknown" if version == UNKNOWN else str(version) for version in versions)


def resumed_by_another(stretches: VersionSpans, step: int) -> str | None:
    """A warning where a run goes on from `step` by another version than computed the step before it."""
    last = versions_in(stretches, step - 1, step)
    if not step or last == (NUMERICS,):
        return None
    return (
        f"the steps up to {step} were computed by {in_words(last)} of the numerics, the rest will be by version"
        f" {NUMERICS}: last bits may differ from those of a run in one go"
    )


def replayed_by_another(stretches: VersionSpans, begin: int, end: int) -> str | None:
    """A warning where steps from `begin` up to `end` are computed again, and not by the version of the run."""
    versions = versions_in(stretches, begin, end)
    if all(version == NUMERICS for version in versions):
        return None
    return (
        f"the run computed these steps by {in_words(versions)} of the numerics, and this is version {NUMERICS}:"
        " the numbers need not be those of the run, bit for bit"
    )


def compared_by_others(first: Sequence[int], second: Sequence[int]) -> str | None:
    """A warning where two runs were not computed by one version."""
    if not first or not second or (tuple(first) == tuple(second) and len(first) == 1):
        return None
    return (
        f"one run was computed by {in_words(first)} of the numerics, the other by {in_words(second)}:"
        " last bits may differ for that alone"
    )
