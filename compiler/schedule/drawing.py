"""A schedule as a picture: kernels as boxes, the buffers between them as arrows."""

from __future__ import annotations

from compiler.graph.boxes import Arrow, Box, Drawing
from compiler.graph.ir import Direction
from compiler.loops.ir import CollectKernel, ContractionKernel, FetchKernel
from compiler.schedule.ir import Instance, Schedule
from compiler.schedule.printer import lines_of, name_of, print_domain, transferred


def drawing_of(schedule: Schedule) -> Drawing:
    """A box for each kernel, and for each buffer that is there before the first one writes it.

    An arrow leads from the last writer of a buffer to each reader, and to the next writer where nobody read between.
    """
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    writer: dict[int, str] = {}
    for number, instance in enumerate(schedule.instances):
        key = f"kernel {number}"
        kernel = Box(key, _lines_of(schedule, instance), _kind_of(instance), "\n".join(lines_of(instance.origins)))
        for buffer in instance.reads:
            if buffer not in writer:
                entry = schedule.buffers[buffer]
                writer[buffer] = f"input {buffer}"
                kind = "" if entry.role is None else entry.role.value
                text = (name_of(entry), f"{entry.dtype.value}[{entry.elements}]")
                boxes.append(Box(writer[buffer], text, kind))
        boxes.append(kernel)
        before = dict.fromkeys((*instance.reads, *(b for b in instance.writes if b in writer)))
        arrows.extend(Arrow(writer[b], key, name_of(schedule.buffers[b])) for b in before)
        writer.update((b, key) for b in instance.writes)
    return Drawing(schedule.name, tuple(boxes), tuple(_without_repeats(arrows)))


def _without_repeats(arrows: list[Arrow]) -> list[Arrow]:
    """One arrow for each pair of boxes, named after all the buffers between them."""
    names: dict[tuple[str, str], list[str]] = {}
    for arrow in arrows:
        names.setdefault((arrow.source, arrow.target), []).append(arrow.name)
    return [Arrow(source, target, ", ".join(found)) for (source, target), found in names.items()]


def _lines_of(schedule: Schedule, instance: Instance) -> tuple[str, ...]:
    transfer = transferred(schedule, instance)
    title = instance.kernel.name if transfer is None else f"{instance.kernel.kind} {transfer}"
    return title, print_domain(instance.kernel)


def _kind_of(instance: Instance) -> str:
    match instance.kernel:
        case FetchKernel():
            return "data"
        case CollectKernel():
            return "output"
        case ContractionKernel():
            return "contraction"
        case _:
            directions = {origin.direction for origin in instance.origins}
            return Direction.FORWARD.value if len(directions) != 1 else next(iter(directions)).value
