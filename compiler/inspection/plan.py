"""The cost of a model before it runs: parameters and arithmetic by layer, kernels, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field
from itertools import zip_longest
from typing import Any

from compiler.frontend.program import Program
from compiler.graph.ir import Direction, Graph, Node, Origin, Role
from compiler.inspection.forms import Forms, flops_of, forms_of, work_of_nodes
from compiler.interface import Options
from compiler.machine import Machine
from compiler.programs.stages import prepared, scheduled
from compiler.schedule.ir import Schedule
from compiler.support.record import record
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import capacity_for
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import DevicePlan
from compiler.types import static_elements

REST = "(model)"  # work of no layer that owns parameters


@record
class LayerRow:
    """One line of the plan: the results of a layer, and its floating-point operations for the whole batch.

    They are those of the text, before any layer is joined with another or laid out for the processor.
    """

    path: str
    output: str
    parameters: int
    flops_forward: int
    flops_step: int


@record
class KernelRow:
    name: str
    kind: str
    count: int
    lines: str


@record
class DeviceKernelRow:
    """A kernel as a device runs it: its `launches` in a step, and the most blocks of one.

    Each block has `threads` and `shared_bytes`; `count` is that of the places where it is called.
    """

    name: str
    kind: str
    count: int
    launches: int
    blocks: int
    threads: int
    shared_bytes: int
    lines: str


@record
class PlanReport:
    """Figures for one batch of `batch` rows; `peak_bytes` counts everything that the step keeps in memory.

    The memory is that of the device, where the target has one.
    A step makes `batches` of them. Of a `sampler`, all is of its graph.
    """

    model: str
    batch: int
    layers: tuple[LayerRow, ...]
    kernels: tuple[KernelRow, ...] | tuple[DeviceKernelRow, ...]
    memory: Mapping[str, int] = field(default_factory=dict[str, int])
    parameters: int = 0
    flops_forward: int = 0
    flops_step: int = 0
    batches: int = 1
    sampler: str = ""

    def to_json(self) -> dict[str, Any]:
        left_out = {"batches": self.batches == 1, "sampler": not self.sampler}
        return {name: value for name, value in asdict(self).items() if not left_out.get(name)}


@record(eq=False)
class Compiled:
    """The forms of a program behind which its code lies: the prepared graph of a step, its schedule and its kernels."""

    forms: Forms
    code: Graph
    machine: Machine
    schedule: Schedule
    lowered: Lowered


def compiled(forms: Forms, keeps_nests: bool = False, go_on: Callable[[], None] = lambda: None) -> Compiled:
    """Every kernel of a step as text, for the batch of the options; nothing is made to run.

    `go_on` is called from pass to pass and from kernel to kernel, and raises an error to end the work.
    """
    options = forms.options
    target = kernel_target_of(options)
    target.expect_products(options, runs=False)
    code, machine = prepared(forms.training, options, go_on), target.machine(options, runs=False)
    ready = scheduled(code, options, machine, go_on)
    lowered = target.lower(code, ready, machine, options.batch, lambda _: go_on(), keeps_nests)
    return Compiled(forms, code, machine, ready, lowered)


def plan(program: Program, options: Options, sampler: str = "") -> PlanReport:
    """The plan of a program, or of a sampler of it, for the batch of the options."""
    return plan_of(compiled(forms_of(program, options, sampler)))


def plan_of(found: Compiled) -> PlanReport:
    """The plan of what was compiled."""
    forms, batch = found.forms, found.forms.options.batch
    device = kernel_target_of(forms.options).device_plan(found.lowered, batch)
    kernels, memory = _kernels(found.lowered), _memory(found.code, found.schedule, batch)
    if device is not None:
        kernels, memory = _device_kernels(found.lowered, device), _device_memory(device)
    return PlanReport(
        forms.program.name,
        batch,
        _layers(forms.program, forms.forward, forms.step, batch),
        kernels,
        memory,
        sum(static_elements(p.type.shape) for p in forms.program.parameters if p.role is Role.PARAMETER),
        flops_of(forms.forward.nodes, batch),
        flops_of(forms.step.nodes, batch),
        1 if forms.program.plan is None or forms.sampler else forms.program.plan.batches,
        forms.sampler,
    )


def _path(node: Node) -> str:
    return next((o.path for o in node.origins if o.path), "")


def _layers(program: Program, forward: Graph, step: Graph, batch: int) -> tuple[LayerRow, ...]:
    parameters: dict[str, int] = {}
    for spec in program.parameters:
        if spec.role is Role.PARAMETER:
            layer = spec.path.rpartition(".")[0]
            parameters[layer] = parameters.get(layer, 0) + static_elements(spec.type.shape)
    rows: dict[str, LayerRow] = {path: LayerRow(path, "", count, 0, 0) for path, count in parameters.items()}
    for node, flops in work_of_nodes(forward.nodes, batch):
        path = layer_of(_path(node), rows)
        old = rows.get(path, LayerRow(path, "", 0, 0, 0))
        # The stack that a scan emits, rather than its last carry; nodes of no layer have no single output.
        shape = "" if path == REST else str(node.results[-1].type)
        rows[path] = LayerRow(path, shape, old.parameters, old.flops_forward + flops, 0)
    for node, flops in work_of_nodes(step.nodes, batch):
        path = layer_of(_path(node), rows)
        old = rows.get(path, LayerRow(path, "", 0, 0, 0))
        rows[path] = LayerRow(path, old.output, old.parameters, old.flops_forward, old.flops_step + flops)
    return tuple(row for row in rows.values() if row.parameters or row.flops_step or row.flops_forward)


def layer_of(path: str, rows: Mapping[str, object]) -> str:
    """The layer that owns a node: the path itself, or the nearest ancestor that has a row."""
    while path and path not in rows:
        path = path.rpartition(".")[0]
    return path or REST


def _kernels(found: Lowered) -> tuple[KernelRow, ...]:
    return tuple(_rows_of_kernels(found).values())


def _rows_of_kernels(found: Lowered) -> dict[str, KernelRow]:
    """By symbol, in the order of their first calls."""
    counts: dict[str, int] = {}
    rows: dict[str, KernelRow] = {}
    behind = [instance for _, instance in found.instances[1:]]
    for (symbol, instance), following in zip_longest(found.instances, behind):
        if instance is following:
            continue  # it packs the panels of the product behind it, and counts with that
        counts[symbol] = counts.get(symbol, 0) + 1
        rows.setdefault(symbol, KernelRow(instance.kernel.name, instance.kernel.kind, 0, _said(instance.origins)))
    return {s: KernelRow(r.name, r.kind, counts[s], r.lines) for s, r in rows.items()} | _rows_of_loops(found)


def _rows_of_loops(found: Lowered) -> dict[str, KernelRow]:
    """The kernels of loops, by symbol."""
    rows: dict[str, KernelRow] = {}
    for kernel in found.manifest.loop_kernels:
        origins = [o for lines in kernel.beside for line in lines for o in found.call_of(line)[1].origins]
        count = rows[kernel.symbol].count + 1 if kernel.symbol in rows else 1
        name = f"loop of {found.manifest.entries[kernel.line].extent} steps"
        rows[kernel.symbol] = KernelRow(name, "loop", count, _said(origins))
    return rows


def _said(origins: Iterable[Origin]) -> str:
    """Lines of the text, and directions."""
    seen = tuple(origins)
    lines = sorted({o.user_span.line for o in seen if not o.user_span.source.is_library})
    directions = [d.value for d in Direction if any(o.direction is d for o in seen)]
    return f"{'+'.join(directions)} of line {', '.join(map(str, lines))}" if lines else ""


def _device_kernels(found: Lowered, device: DevicePlan) -> tuple[DeviceKernelRow, ...]:
    rows = [(device.kernels[s], row) for s, row in _rows_of_kernels(found).items() if s in device.kernels]
    return tuple(
        DeviceKernelRow(r.name, r.kind, r.count, d.launches, d.blocks, d.threads, d.shared_bytes, r.lines)
        for d, r in rows
    )


def _device_memory(device: DevicePlan) -> dict[str, int]:
    """The bytes of the device's memory by purpose."""
    named = {f"{purpose}_bytes": size for purpose, size in device.memory.items()}
    return named | {"peak_bytes": sum(named.values())}


def _memory(graph: Graph, ready: Schedule, batch: int) -> dict[str, int]:
    persistent = {Role.PARAMETER: 0, Role.STATE: 0, Role.OPTIMIZER_STATE: 0}
    for entry in graph.inputs:
        if entry.role in persistent:
            persistent[entry.role] += static_elements(entry.value.type.shape) * entry.value.type.dtype.size
    capacity = capacity_for(ready.batch_bytes, batch)
    named = {f"{role.value}_bytes": size for role, size in persistent.items()}
    named |= {"static_bytes": ready.static_bytes, "batch_bytes": ready.batch_bytes * capacity}
    return named | {"peak_bytes": sum(named.values())}
