"""The tables that the runner walks, made of a manifest: the same for a process and for a library of machine code."""

from __future__ import annotations

from compiler.support.record import record
from compiler.targets.cpu.runner import LAST, OF_CHAIN, SETTINGS
from compiler.targets.manifest import CHAIN, CHAIN_END, CONTROL_ARENA, END, FLAGS, Manifest
from compiler.types import BatchExtent

MARKS = {END: LAST, CHAIN: OF_CHAIN, CHAIN_END: OF_CHAIN | LAST}  # their flags


@record
class ControlLayout:
    """Where the control arena holds arguments and flag bytes, and how large it is, in bytes."""

    arguments: int
    flags: int
    size: int


def control_layout(manifest: Manifest) -> ControlLayout:
    arguments = 8 * (SETTINGS + len(manifest.settings) + 8)
    flags = arguments + 8 * len(manifest.relocations)
    return ControlLayout(arguments, flags, flags + len(manifest.checked_stores) + 64)


def entry_rows(manifest: Manifest) -> list[tuple[int, ...]]:
    """Each entry as ENTRY_SLOTS numbers, of which the first is the function's number in the manifest, or negative."""
    rows: list[tuple[int, ...]] = []
    for entry in manifest.entries:
        extent = entry.extent
        base, slope = (0, extent.multiple) if isinstance(extent, BatchExtent) else (extent, 0)
        flags = entry.flags | MARKS.get(entry.function, 0)
        rows.append(
            (entry.function, entry.first_argument, base, slope, entry.chunk, entry.factor, flags, entry.arguments)
        )
    return rows


def relocation_rows(manifest: Manifest) -> list[tuple[int, int, int]]:
    """Each relocation as the runner reads it, with the places of flag bytes in the control arena."""
    flags = control_layout(manifest).flags
    return [
        (CONTROL_ARENA, flags + base, 0) if kind == FLAGS else (kind, base, slope)
        for kind, base, slope in manifest.relocations
    ]


def most_moving_arguments(manifest: Manifest) -> int:
    """Of all entries, the most arguments that move."""
    return max((entry.arguments for entry in manifest.entries), default=0)
