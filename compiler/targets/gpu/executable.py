"""A compiled program on a GPU: its code loaded, its memory laid out, ready to run steps as graphs of the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.interface import Results, Steps, Tensors
from compiler.support.arrays import Array
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.hardware import Held
from compiler.targets.gpu.launches import Launches
from compiler.targets.gpu.results import Outlet, results_of
from compiler.targets.gpu.room import Room
from compiler.targets.manifest import FIRST_TENSOR, Manifest, TensorSpec
from compiler.targets.memory import TensorStore
from compiler.types import numpy_dtype


class GpuExecutable:
    """Runs the execution plan of a manifest on a GPU. `modules` hold the kernels, whose handles `functions` are."""

    threads = 1
    room_of: type[Room] = Room

    def __init__(
        self, manifest: Manifest, memory: DeviceMemory, modules: Sequence[Held], functions: Mapping[str, int]
    ) -> None:
        if len(manifest.touched) != len(manifest.entries):
            raise CompilerBug("executable", f"{manifest.name} does not say which bytes its kernels touch")
        self.manifest = manifest
        self._memory, self._gpu = memory, memory.gpu
        self._modules, self._functions = tuple(modules), functions
        self._room: Room | None = None
        touched = {t.arena - FIRST_TENSOR for line in manifest.touched for t in line if t.writes}
        self._written = [spec.name for k, spec in enumerate(manifest.tensors) if k in touched]
        self._outlets = [Outlet(slot) for slot in manifest.results]
        self._bound: tuple[TensorStore | None, int] = (None, 0)
        self._call: Launches | None = None  # which keeps what the device is given
        self._none = TensorStore(())
        self.is_timed = False
        self.seconds = 0.0  # of the last call that was timed: of its steps on the device, without what is copied

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        return self.manifest.tensors

    def close(self) -> None:
        """Give the program's memory and code on the device back."""
        self._leave_room()
        for module in self._modules:
            module.close()

    def run(self, steps: Steps) -> Results:
        tensors = steps.tensors
        assert isinstance(tensors, TensorStore)
        self._gpu.context.enter()
        try:
            return self._run(steps, tensors)
        except BaseException:
            self._gpu.settle()
            has_begun = self._call is not None and self._call.has_begun
            self._memory.lose(tensors, self._written if has_begun else ())
            self._bound = (None, 0)
            self._leave_room()
            raise

    def _run(self, steps: Steps, tensors: TensorStore) -> Results:
        gpu, content = self._gpu, tensors.content
        self._call = None
        if self._room is None:
            self._room = self.room_of(self.manifest, self._memory, self._functions)
        is_fresh = (tensors, content.version) != self._bound
        self._call = Launches(self.manifest, self._memory, self._room, steps, tensors, self._outlets)
        self._call.spans = [] if self.is_timed else None
        flags = self._call.run(is_fresh)
        gpu.wait(gpu.stream)
        self.seconds = sum(gpu.seconds_between(*span) for span in self._call.spans or ())
        if self._written:
            self._memory.leave(tensors, self._written)
        self._bound = (tensors, content.version)  # what runs once does not depend on what the program writes
        stores = self.manifest.checked_stores
        broken = [(stores[k], step) for raised, step in flags for k in np.flatnonzero(raised)]
        return results_of(self._outlets, tuple(dict.fromkeys(broken)))

    def call(
        self, inputs: Mapping[str, Array], batch: int = 1, tensors: Tensors | None = None, *, seed: int = 0
    ) -> dict[str, Array]:
        """One step on whole arrays: batch inputs have `batch` rows each, static inputs their own shape."""
        turned = [(slot.name, slot.batch_axis) for slot in self.manifest.inputs if slot.batch_axis]
        inputs = {**inputs, **{name: np.moveaxis(inputs[name], axis, 0) for name, axis in turned}}
        results = self.run(Steps(tensors or self._none, inputs, np.arange(batch), batch, seed=seed))
        found: dict[str, Array] = {}
        for slot in self.manifest.results:
            is_scalar = slot.name in results.scalars
            scalar = results.scalars[slot.name][0].astype(numpy_dtype(slot.dtype)) if is_scalar else None
            found[slot.name] = results.arrays[slot.name] if scalar is None else scalar
        return found

    def _leave_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.close()
        if self._memory.user is room:
            self._memory.user = None
