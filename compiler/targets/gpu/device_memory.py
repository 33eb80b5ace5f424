"""The memory of the device: arenas of programs, copies of the persistent tensors, and data that stays as it is."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial

from compiler.errors.diagnostics import DeviceError, ResourceError, size
from compiler.support.arrays import Array
from compiler.support.record import mutable_record
from compiler.targets.gpu.driver import GO_ON, OUT_OF_MEMORY, CudaError
from compiler.targets.gpu.hardware import DeviceBlock, Gpu
from compiler.targets.memory import SLACK, TensorContent, TensorStore

_MUCH = 10  # where others hold more than one part in so many of the device, a message says so


@mutable_record
class _Copy:
    """A tensor on the device, with the version of the tensors of which it has the content; -1 is that of none."""

    block: DeviceBlock
    bytes: int
    version: int


class DeviceMemory:
    """The memory of a GPU, as the programs of this process share it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.user: object = None  # the program whose values the workspace has
        self.workspace: DeviceBlock | None = None
        self._data: dict[tuple[int, int], tuple[weakref.ref[Array], DeviceBlock]] = {}
        self._tensors: weakref.WeakKeyDictionary[TensorContent, dict[int, _Copy]] = weakref.WeakKeyDictionary()

    def close(self) -> None:
        """Give everything back."""
        blocks = [block for _, block in self._data.values()]
        blocks += [copy.block for copies in self._tensors.values() for copy in copies.values()]
        for block in (*blocks, *filter(None, (self.workspace,))):
            block.close()
        self._data.clear()
        self._tensors.clear()
        self.workspace, self.user = None, None

    # blocks

    def block(self, bytes_: int, what: str, needed: Mapping[str, int], fix: str) -> DeviceBlock:
        """So many bytes, and as many behind them as kernels read and never use; zeros.

        Raises ResourceError where there are not so many; `needed` says for what, and `fix` what to do.
        """
        found = self._tried(bytes_ + SLACK)
        if found is None:
            self._drop_data()
            found = self._tried(bytes_ + SLACK)
        if found is None:
            raise self._too_little(bytes_, what, needed, fix)
        self.gpu.clear(found.value, found.size, self.gpu.stream)
        return found

    def _tried(self, bytes_: int) -> DeviceBlock | None:
        try:
            return self.gpu.block(bytes_)
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            return None

    def _too_little(self, bytes_: int, what: str, needed: Mapping[str, int], fix: str) -> ResourceError:
        state = self.gpu.memory()
        others = state.total - state.free - self.gpu.context.held_bytes
        if others * _MUCH > state.total:
            fix = (
                f"another process holds {size(others)} of its {size(state.total)}: `nvidia-smi` lists it; end it, or "
                f"choose another GPU by CUDA_VISIBLE_DEVICES; or {fix}"
            )
        parts = needed or {what: bytes_}
        return ResourceError(f"{what} on the GPU {self.gpu.name}", parts, state.free, fix)

    def reserve_workspace(self, bytes_: int, what: str, needed: Mapping[str, int], fix: str) -> DeviceBlock:
        """Room for the values of rows, which programs use in turn; a larger one replaces that before."""
        if self.workspace is None or self.workspace.size < bytes_ + SLACK:
            if self.workspace is not None:
                self.gpu.wait(self.gpu.stream)
                self.workspace.close()
            self.workspace, self.user = None, None
            self.workspace = self.block(bytes_, what, needed, fix)
        return self.workspace

    # data that stays as it is

    def data(self, array: Array, start: int, bytes_: int) -> DeviceBlock | None:
        """The copy of `bytes_` from `start` on, which do not change while the array is there; None where none fits."""
        key = (start, bytes_)
        known = self._data.get(key)
        if known is not None and known[0]() is not None:
            return known[1]
        block = self._tried(bytes_ + SLACK)
        if block is None:
            return None
        if bytes_:
            self.gpu.copy_in(block.value, start, bytes_, self.gpu.stream)
        self._data[key] = (weakref.ref(array, lambda _: self._data.pop(key, None)), block)
        return block

    def _drop_data(self) -> None:
        self.gpu.wait(self.gpu.stream)
        for _, block in list(self._data.values()):
            block.close()
        self._data.clear()

    # tensors

    def bound(self, store: TensorStore, names: Sequence[str]) -> list[int]:
        """The addresses of tensors on the device, with the content that they have."""
        content, copies = store.content, self._tensors.setdefault(store.content, {})
        found: list[int] = []
        for name in names:
            address = store.address(name)
            if address not in copies:
                copies[address] = self._copy_of(store, name, names)
            copy = copies[address]
            is_old = copy.version != content.version or name in store.borrowed
            if is_old and not content.is_away(address):
                self.gpu.upload(copy.block.value, store[name], self.gpu.stream)
            copy.version = content.version
            found.append(copy.block.value)
        return found

    def _copy_of(self, store: TensorStore, name: str, names: Sequence[str]) -> _Copy:
        needed = {"tensors": sum(store[one].nbytes for one in names)}
        bytes_ = store[name].nbytes
        block = self.block(bytes_, "the model", needed, "use a smaller model, or another optimizer")
        return _Copy(block, bytes_, -1)

    def leave(self, store: TensorStore, names: Sequence[str]) -> None:
        """The device has new content of tensors, which comes back when it is asked for; all others are as before."""
        content, copies = store.content, self._tensors[store.content]
        for copy in copies.values():
            copy.version += copy.version == content.version
        content.version += 1
        for address in map(store.address, names):
            content.away[address] = partial(self._bring, copies[address], address)
        content.bring_back([store.address(name) for name in names if store.is_held(name)])

    def _bring(self, copy: _Copy, address: int) -> None:
        self.gpu.context.enter()
        self.gpu.download(address, copy.block.value, copy.bytes, self.gpu.stream)
        self.gpu.wait(self.gpu.stream)

    def lose(self, store: TensorStore, names: Sequence[str]) -> None:
        """The tensors may have any content on the device, and have none here where it has not come back."""
        store.content.lose(map(store.address, names), _raise_lost)
        self.forget(store)

    def forget(self, store: TensorStore) -> None:
        """The copies on the device of what this process has may have any content."""
        for copy in self._tensors.get(store.content, {}).values():
            copy.version = -1


def _raise_lost() -> None:
    raise DeviceError("the values of the tensors are lost: the GPU failed while it changed them", GO_ON)
