"""Rows of the caller are fetched before the instances of each step, and its results collected behind them."""

from __future__ import annotations

from dataclasses import replace

from compiler.loops.ir import BufferArgument, CollectKernel, FetchKernel
from compiler.schedule.addresses import count
from compiler.schedule.ir import FedInput, Instance, Schedule, ScheduleResult
from compiler.types import BatchExtent, depends_on_batch, elements


def add_transfers(schedule: Schedule) -> Schedule:
    """The schedule with an instance for each input that rows are fetched of, and for each result."""
    once = [instance for instance in schedule.instances if instance.once]
    fetched = [_fetch(k, item) for k, item in enumerate(schedule.inputs) if item.batch_axis is not None]
    collected = [_collect(k, item) for k, item in enumerate(schedule.results)]
    return replace(schedule, instances=(*once, *fetched, *schedule.instances[len(once) :], *collected))


def _fetch(position: int, item: FedInput) -> Instance:
    buffers = (BufferArgument("b0", item.dtype),)
    kernel = FetchKernel(f"fetch_{item.dtype.size}", buffers, item.row_elements)
    return Instance(kernel, (item.buffer,), (), (item.buffer,), (), data=position)


def _collect(position: int, item: ScheduleResult) -> Instance:
    rows = BatchExtent(1) if depends_on_batch(item.shape) else 1
    buffers = (BufferArgument("b0", item.dtype),)
    kernel = CollectKernel(f"collect_{item.dtype.size}", buffers, rows, count(elements(item.shape)))
    return Instance(kernel, (item.buffer,), (item.buffer,), (), (), data=position)
