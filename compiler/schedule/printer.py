"""A schedule as text, and as data for other programs."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.ir import Origin
from compiler.graph.printer import Json
from compiler.loops.ir import FetchKernel, Kernel, extents_of
from compiler.schedule.ir import Arena, Buffer, Instance, Schedule
from compiler.schedule.memory.plan_memory import size_in_arena


def print_schedule(schedule: Schedule) -> str:
    """Kernels in order, with the barriers between them, then the buffers that they use and where these lie.

    Before the passes that set barriers and plan memory, there are no barriers and no places.
    """
    marks = sum(schedule.barriers)
    head = f"schedule {schedule.name}: {len(schedule.instances)} kernels, {marks} barriers"
    memory = f"memory: {schedule.static_bytes} bytes, and {schedule.batch_bytes} bytes for each row of the batch"
    lines = [head, memory, "", "kernels"]
    once = sum(instance.once for instance in schedule.instances)
    barriers = schedule.barriers or (False,) * len(schedule.instances)
    for number, (instance, barrier) in enumerate(zip(schedule.instances, barriers, strict=True)):
        lines.extend(_loop_lines(schedule, () if number == 0 else schedule.instances[number - 1].loops, instance.loops))
        margin = "  " * (1 + len(instance.loops) + any(s.first <= number <= s.last for s in schedule.chains))
        if barrier or number == once > 0:
            lines.append(f"{margin}-- barrier --")
        lines.extend(f"  {s.shards} shards, each through all of these:" for s in schedule.chains if s.first == number)
        lines.append(f"{margin}{_instance_line(schedule, number, instance)}")
    lines.extend(["", "buffers"])
    lines.extend(f"  {_buffer_line(schedule, index)}" for index in buffers_in_use(schedule.instances))
    return "\n".join(lines) + "\n"


def schedule_to_json(schedule: Schedule) -> dict[str, Json]:
    """Instances with their kernels by name, buffers with their places; origins by line."""
    instances: list[Json] = [
        _instance_to_json(schedule, number, instance, barrier)
        for number, (instance, barrier) in enumerate(zip(schedule.instances, schedule.barriers, strict=True))
    ]
    buffers: list[Json] = [_buffer_to_json(schedule, index) for index in buffers_in_use(schedule.instances)]
    return {
        "name": schedule.name,
        "static_bytes": schedule.static_bytes,
        "batch_bytes": schedule.batch_bytes,
        "instances": instances,
        "buffers": buffers,
    }


def _loop_lines(schedule: Schedule, before: tuple[int, ...], now: tuple[int, ...]) -> list[str]:
    """A line for each loop that begins between two instances."""
    same = next((k for k, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    lines: list[str] = []
    for depth, number in enumerate(now[same:], same + 1):
        loop = schedule.loops[number]
        lines.append(f"{'  ' * depth}{loop.steps} times{', backward' if loop.reverse else ''}:")
    return lines


def buffers_in_use(instances: Sequence[Instance]) -> list[int]:
    """The buffers that the instances read or write, in order."""
    return sorted({buffer for instance in instances for buffer in (*instance.reads, *instance.writes)})


def print_domain(kernel: Kernel) -> str:
    """`rows batch x 10`: the kind of a kernel, and its iteration space."""
    extents = extents_of(kernel)
    if len(extents) == 3 and extents[0] == 1:
        extents = extents[1:]  # a single outer block
    return f"{kernel.kind} {' x '.join(map(str, extents))}"


def name_of(buffer: Buffer) -> str:
    return buffer.name if buffer.name is not None else f"b{buffer.index}"


def lines_of(origins: Sequence[Origin]) -> list[str]:
    """The user's lines that origins name, each once, in order: `model.dl:12`."""
    places = {o.user_line for o in origins}
    return [f"{source}:{line}" for source, line in sorted(places)]


def transferred(schedule: Schedule, instance: Instance) -> str | None:
    """The name of the input that an instance fetches, or of the result that it hands over."""
    if instance.data < 0:
        return None
    if isinstance(instance.kernel, FetchKernel):
        return schedule.inputs[instance.data].name
    return schedule.results[instance.data].name


def _instance_line(schedule: Schedule, number: int, instance: Instance) -> str:
    reads, writes = (
        ", ".join(name_of(schedule.buffers[b]) for b in buffers) for buffers in (instance.reads, instance.writes)
    )
    transfer = transferred(schedule, instance)
    if transfer is not None:
        outside = f"the caller's {transfer}"
        reads, writes = reads or outside, writes or outside
    lines = ", ".join(lines_of(instance.origins))
    text = f"{number:3} {instance.kernel.name}  [{print_domain(instance.kernel)}]  {reads or 'nothing'} -> {writes}"
    text = f"{text.rstrip()}  (once)" if instance.once else text.rstrip()
    text += f"  (queue {queue})" if (queue := schedule.queue(number)) else ""
    return text + (f"  # {lines}" if lines else "")


def _buffer_line(schedule: Schedule, index: int) -> str:
    buffer, where = schedule.buffers[index], ""
    kind = f"  ({buffer.role.value})" if buffer.role is not None else ""
    type_ = f"{buffer.dtype.value}[{buffer.elements}]"
    if schedule.places:
        place = schedule.places[index]
        where = f" at {place.arena.value} {place.offset}{'*capacity' if place.arena is Arena.BATCH else ''}"
    return f"{index:3} {name_of(buffer)}: {type_}{where}, {size_in_arena(buffer)} bytes{kind}"


def _instance_to_json(schedule: Schedule, number: int, instance: Instance, barrier: bool) -> Json:
    lines: list[Json] = [*lines_of(instance.origins)]
    return {
        "kernel": instance.kernel.name,
        "kind": instance.kernel.kind,
        "domain": print_domain(instance.kernel),
        "barrier": barrier,
        "queue": schedule.queue(number),
        "once": instance.once,
        "loops": [schedule.loops[loop].steps for loop in instance.loops],
        "reads": list(instance.reads),
        "writes": list(instance.writes),
        "transfers": transferred(schedule, instance),
        "checked_stores": list(instance.checked_stores),
        "lines": lines,
    }


def _buffer_to_json(schedule: Schedule, index: int) -> Json:
    buffer, place = schedule.buffers[index], schedule.places[index]
    return {
        "index": index,
        "name": buffer.name,
        "role": None if buffer.role is None else buffer.role.value,
        "dtype": buffer.dtype.value,
        "elements": buffer.elements if isinstance(buffer.elements, int) else str(buffer.elements),
        "arena": place.arena.value,
        "offset": place.offset,
        "bytes": size_in_arena(buffer),
    }
