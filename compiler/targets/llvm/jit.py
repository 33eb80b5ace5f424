"""LLVM modules as text to object code, and object code to callable addresses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import Machine
from compiler.targets.llvm.llvm import Llvm, LlvmError

# what else decides an object
_CODE_GENERATION = "level 2, no strength reduction of loops, position-independent, small, lines only where known"


def llvm_version() -> str:
    return Llvm().version()


def object_key(ir: str, machine: Machine, llvm_version: str) -> str:
    """The name of the object code that a module becomes."""
    parts = (_CODE_GENERATION, llvm_version, machine.triple, machine.cpu, machine.features, ir)
    return sha256("\0".join(parts).encode()).hexdigest()


def compile_module(ir: str, machine: Machine, *, verify: bool = False) -> bytes:
    """The object code of a module. It runs no pass on the IR: kernels arrive in their final shape.

    A module that the parser accepts but that is wrong may abort the process unless `verify` is set.
    """
    return _emit(ir, machine, as_object=True, verify=verify)


def assembly(ir: str, machine: Machine, *, verify: bool = True) -> str:
    """The assembly text of a module."""
    return _emit(ir, machine, as_object=False, verify=verify).decode()


def _emit(ir: str, machine: Machine, *, as_object: bool, verify: bool) -> bytes:
    try:
        llvm = Llvm()
        llvm.initialise(machine.triple)
        target = (machine.triple, machine.cpu, machine.features)
        return llvm.emit(ir, *target, as_object=as_object, verify=verify)
    except LlvmError as error:
        raise CompilerBug("llvm", str(error), dump=ir) from error


class Library:
    """Object code loaded into this process; it is unloaded when the library is closed or collected.

    Only the machine that runs may be given. Addresses stay valid as long as the library is referenced. Symbols that it
    lacks are looked up in the library `beside` it.
    """

    def __init__(
        self, objects: Sequence[bytes], symbols: Sequence[str], machine: Machine, beside: Library | None = None
    ) -> None:
        self._jit, self._linked, self._beside = 0, 0, beside
        self._trackers: list[int] = []
        self._addresses: dict[str, int] = {}
        try:
            self._llvm = Llvm()
            self._llvm.initialise(machine.triple)
            self._jit = self._llvm.create_jit(machine.triple, machine.cpu, machine.features)
        except LlvmError as error:
            raise CompilerBug("jit", str(error)) from error
        self.add(objects, symbols)

    def add(self, objects: Sequence[bytes], symbols: Sequence[str]) -> None:
        """Load further objects and find `symbols` in them."""
        self._linked += 1  # LLJIT never forgets a library's name, also that of a library it refused
        try:
            tracker, addresses = self._llvm.link(self._jit, f"dlc{self._linked}", objects, symbols)
        except LlvmError as error:
            raise CompilerBug("jit", str(error)) from error
        self._trackers.append(tracker)
        self._addresses.update(zip(symbols, addresses, strict=True))

    def address(self, symbol: str) -> int:
        if symbol in self._addresses:
            return self._addresses[symbol]
        if self._beside is None:
            raise CompilerBug("jit", f"no loaded object exports '{symbol}'")
        return self._beside.address(symbol)

    def close(self) -> None:
        """Unload everything; no address may be called after it."""
        jit, self._jit = self._jit, 0
        trackers, self._trackers = self._trackers, []
        self._addresses = {}
        for tracker in trackers:
            self._llvm.unload(tracker)
        if jit:
            self._llvm.dispose_jit(jit)

    def __del__(self) -> None:
        # While the interpreter ends, other threads may still run the code.
        if not sys.is_finalizing():
            self.close()
