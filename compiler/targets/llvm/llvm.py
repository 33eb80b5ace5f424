"""The few functions of LLVM that this target calls, bound straight to llvmlite's shared library.

`import llvmlite.binding` builds classes for all of LLVM and costs more than loading a cached program, so the library is
opened with ctypes. pyproject pins llvmlite to one minor version: these C symbols are its private interface.
Calls here hold no lock: every module has its own LLVM context, which makes compiling in several threads sound.

Worker processes start with this file, so it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import sys
from _thread import allocate_lock
from collections.abc import Sequence
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint, c_uint8, c_uint64, c_void_p
from importlib.machinery import PathFinder

_OBJECT_IMAGE, _JIT_LIBRARY = 2, 3  # the kinds of `_LinkElement`
OPTIMISATION_LEVEL = 2  # at level 0 the code generator falls back to FastISel and spills everything
_PTX = "nvptx"  # begins the triples of machines whose code is text, which their driver assembles
_COROUTINE = "presplitcoroutine"  # marks a function that is one
_SETTINGS = (
    # An instruction whose place LLVM has lost, such as one moved out of a loop, must not count for the line before it.
    b"-use-unknown-locations=Enable",
    # Addresses are written as they are to be computed. The pass that looks for better ones takes 40 % of LLVM's time.
    b"-disable-lsr",
)

_SIGNATURES: tuple[tuple[str, object, tuple[object, ...]], ...] = (
    ("GetVersionInfo", c_uint, ()),
    ("InitializeNativeTarget", c_int, ()),
    ("InitializeNativeAsmPrinter", c_int, ()),
    ("InitializeNativeAsmParser", c_int, ()),
    ("InitializeAllTargetInfos", None, ()),
    ("InitializeAllTargets", None, ()),
    ("InitializeAllTargetMCs", None, ()),
    ("InitializeAllAsmPrinters", None, ()),
    ("SetCommandLine", None, (c_char_p, c_char_p)),
    ("GetHostCPUName", None, (POINTER(c_void_p),)),
    ("GetHostCPUFeatures", c_int, (POINTER(c_void_p),)),
    ("GetProcessTriple", None, (POINTER(c_void_p),)),
    ("DisposeString", None, (c_void_p,)),
    ("ContextCreate", c_void_p, ()),
    ("ContextDispose", None, (c_void_p,)),
    ("ParseAssembly", c_void_p, (c_void_p, c_char_p, POINTER(c_void_p))),
    ("VerifyModule", c_bool, (c_void_p, POINTER(c_void_p))),
    ("DisposeModule", None, (c_void_p,)),
    ("GetTargetFromTriple", c_void_p, (c_char_p, POINTER(c_void_p))),
    (
        "CreateTargetMachine",
        c_void_p,
        (c_void_p, c_char_p, c_char_p, c_char_p, c_int, c_char_p, c_char_p, c_int, c_int, c_char_p),
    ),
    ("DisposeTargetMachine", None, (c_void_p,)),
    ("TargetMachineEmitToMemory", c_void_p, (c_void_p, c_void_p, c_int, POINTER(c_void_p))),
    ("GetBufferStart", c_void_p, (c_void_p,)),
    ("GetBufferSize", c_size_t, (c_void_p,)),
    ("DisposeMemoryBuffer", None, (c_void_p,)),
    ("CreateTargetMachineData", c_void_p, (c_void_p,)),
    ("CopyStringRepOfTargetData", None, (c_void_p, POINTER(c_void_p))),
    ("DisposeTargetData", None, (c_void_p,)),
    ("SetDataLayout", None, (c_void_p, c_char_p)),
    ("CreatePipelineTuningOptions", c_void_p, ()),
    ("DisposePipelineTuningOptions", None, (c_void_p,)),
    ("CreatePassBuilder", c_void_p, (c_void_p, c_void_p)),
    ("DisposePassBuilder", None, (c_void_p,)),
    ("buildPerModuleDefaultPipeline", c_void_p, (c_void_p, c_int)),
    ("RunNewModulePassManager", None, (c_void_p, c_void_p, c_void_p)),
    ("DisposeNewModulePassManger", None, (c_void_p,)),
    ("CreateLLJITCompiler", c_void_p, (c_void_p, c_bool, c_bool, POINTER(c_void_p))),
    ("LLJITDispose", None, (c_void_p,)),
    (
        "LLJIT_Link",
        c_void_p,
        (c_void_p, c_char_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, POINTER(c_void_p)),
    ),
    ("LLJIT_Dylib_Tracker_Dispose", c_bool, (c_void_p, POINTER(c_void_p))),
)


class _LinkElement(ctypes.Structure):
    _fields_ = (("kind", c_uint8), ("value", c_char_p), ("length", c_size_t))


class _SymbolAddress(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("address", c_uint64))


class LlvmError(Exception):
    """A fault that LLVM finds in text of ours."""


# What ctypes makes of a library refers to itself: opened anew for each program, it would wait for the garbage
# collector, which comes late.
_libraries: dict[str, ctypes.CDLL] = {}
_initialised: set[tuple[str, ...]] = set()
_initialising = allocate_lock()


def _opened(path: str) -> ctypes.CDLL:
    """The library at `path` with the types of its functions, opened once. Raises LlvmError, OSError."""
    if path not in _libraries:
        library = ctypes.CDLL(path)
        try:
            for name, result, arguments in _SIGNATURES:
                function = getattr(library, f"LLVMPY_{name}")
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            raise LlvmError(f"this llvmlite is not version 0.50, which dlc is made for: {error}") from error
        _libraries[path] = library
    return _libraries[path]


class Llvm:
    """The LLVM library. Making another is cheap, so nobody need share one."""

    def __init__(self, path: str = "") -> None:
        self._library = _opened(path or library_path())

    def _call(self, name: str, *arguments: object) -> int:
        return getattr(self._library, f"LLVMPY_{name}")(*arguments)

    def _text(self, pointer: c_void_p) -> str:
        """The C string at `pointer`, which is then freed; empty for a null pointer."""
        if not pointer.value:
            return ""
        text = ctypes.string_at(pointer.value).decode("utf-8", "replace")
        self._call("DisposeString", pointer)
        return text

    def _checked(self, name: str, *arguments: object) -> int:
        """Call a function whose last argument receives an error text; a null result is an error."""
        error = c_void_p()
        result = self._call(name, *arguments, byref(error))
        message = self._text(error)
        if not result:
            raise LlvmError(f"{name} failed: {message}")
        return result

    def _written_text(self, name: str) -> str:
        text = c_void_p()
        self._call(name, byref(text))
        return self._text(text)

    def version(self) -> str:
        packed = self._call("GetVersionInfo")
        return ".".join(str(packed >> shift & 0xFF) for shift in (16, 8, 0))

    def host(self) -> tuple[str, str, str]:
        """The triple, CPU name and feature string of this process's machine."""
        return (
            self._written_text("GetProcessTriple"),
            self._written_text("GetHostCPUName"),
            self._written_text("GetHostCPUFeatures"),
        )

    def initialise(self, triple: str) -> None:
        """Make the code generator for a triple usable: the host's, or those of all architectures, for another.

        Without the assembly parser of the host, inline assembly aborts the process.
        """
        names = ("AllTargetInfos", "AllTargets", "AllTargetMCs", "AllAsmPrinters")
        if triple == self._written_text("GetProcessTriple"):
            names = ("NativeTarget", "NativeAsmPrinter", "NativeAsmParser")
        with _initialising:  # settings are global: another thread may generate code by the ones that are there
            if names in _initialised:
                return
            for name in names:
                self._call(f"Initialize{name}")
            for setting in () if _initialised else _SETTINGS:
                self._call("SetCommandLine", b"dlc", setting)
            _initialised.add(names)

    def emit(self, ir: str, triple: str, cpu: str, features: str, *, as_object: bool, verify: bool) -> bytes:
        """The object file (or else the assembly text) of a module given as text."""
        machine = self.target_machine(triple, cpu, features)
        try:
            return self.emit_for(machine, triple, ir, as_object=as_object, verify=verify)
        finally:
            self._call("DisposeTargetMachine", machine)

    def emit_for(self, machine: int, triple: str, ir: str, *, as_object: bool, verify: bool) -> bytes:
        """As `emit`, for a target machine, whose making takes as long as the code of a small module."""
        context = self._call("ContextCreate")
        try:
            module = self._parse(context, f'target triple = "{triple}"\n{ir}')
            try:
                if verify:
                    self._verify(module)
                if _COROUTINE in ir:
                    self._split_coroutines(machine, module)
                return self._generate(machine, module, as_object and not triple.startswith(_PTX))
            finally:
                self._call("DisposeModule", module)
        finally:
            self._call("ContextDispose", context)

    def _split_coroutines(self, machine: int, module: int) -> None:
        """Make functions that are suspended into such as can go on; only passes on the module do that."""
        self._lay_out(machine, module)
        options = self._call("CreatePipelineTuningOptions")
        builder = self._call("CreatePassBuilder", machine, options)
        passes = self._call("buildPerModuleDefaultPipeline", builder, 1)
        self._call("RunNewModulePassManager", passes, module, builder)
        self._call("DisposeNewModulePassManger", passes)
        self._call("DisposePassBuilder", builder)
        self._call("DisposePipelineTuningOptions", options)

    def _lay_out(self, machine: int, module: int) -> None:
        """Let passes know how large values are in memory, which they would guess otherwise."""
        layout, text = self._call("CreateTargetMachineData", machine), c_void_p()
        self._call("CopyStringRepOfTargetData", layout, byref(text))
        self._call("SetDataLayout", module, self._text(text).encode())
        self._call("DisposeTargetData", layout)

    def _parse(self, context: int, ir: str) -> int:
        error = c_void_p()
        module = self._call("ParseAssembly", context, ir.encode(), byref(error))
        message = self._text(error)
        if message or not module:
            raise LlvmError(f"the module does not parse: {message}")
        return module

    def _verify(self, module: int) -> None:
        error = c_void_p()
        broken = self._call("VerifyModule", module, byref(error))
        message = self._text(error)
        if broken:
            raise LlvmError(f"the module does not verify: {message}")

    def target_machine(self, triple: str, cpu: str, features: str, level: int = OPTIMISATION_LEVEL) -> int:
        """A target machine, for position-independent code but on WebAssembly; the caller disposes of it."""
        model = b"static" if triple.startswith("wasm") else b"pic"
        target = self._checked("GetTargetFromTriple", triple.encode())
        names = (triple.encode(), cpu.encode(), features.encode())
        machine = self._call("CreateTargetMachine", target, *names, level, model, b"small", 0, 0, b"")
        if not machine:
            raise LlvmError(f"no target machine for {triple}, {cpu}")
        return machine

    def _generate(self, machine: int, module: int, as_object: bool) -> bytes:
        buffer = self._checked("TargetMachineEmitToMemory", machine, module, int(as_object))
        try:
            return ctypes.string_at(self._call("GetBufferStart", buffer), self._call("GetBufferSize", buffer))
        finally:
            self._call("DisposeMemoryBuffer", buffer)

    def create_jit(self, triple: str, cpu: str, features: str) -> int:
        """An empty LLJIT; the caller disposes of it."""
        machine = self.target_machine(triple, cpu, features)  # LLJIT copies what it needs of it
        try:
            # JITLink keeps the sections of an object within reach of each other; the older linker does not promise it.
            return self._checked("CreateLLJITCompiler", machine, False, True)
        finally:
            self._call("DisposeTargetMachine", machine)

    def dispose_jit(self, jit: int) -> None:
        self._call("LLJITDispose", jit)

    def link(
        self, jit: int, name: str, objects: Sequence[bytes], symbols: Sequence[str]
    ) -> tuple[int, tuple[int, ...]]:
        """Load `objects` as a library called `name`, which must be new to this LLJIT, and find `symbols` in it.

        Gives the tracker, which owns the memory of the code, and the address of each symbol.
        """
        elements = (_LinkElement * (len(objects) + 1))()
        for element, image in zip(elements, objects, strict=False):
            element.kind, element.value, element.length = _OBJECT_IMAGE, image, len(image)
        # An unnamed library is the running process: the code generator may call memset and memcpy.
        elements[len(objects)].kind, elements[len(objects)].value = _JIT_LIBRARY, b""
        exports = (_SymbolAddress * len(symbols))()
        for export, symbol in zip(exports, symbols, strict=True):
            export.name = symbol.encode()
        tracker = self._checked(
            "LLJIT_Link", jit, name.encode(), elements, len(elements), None, 0, exports, len(exports)
        )
        return tracker, tuple(export.address for export in exports)

    def unload(self, tracker: int) -> None:
        error = c_void_p()
        self._call("LLJIT_Dylib_Tracker_Dispose", tracker, byref(error))
        self._text(error)


def library_path() -> str:
    """Where llvmlite keeps its shared library; llvmlite itself is not imported."""
    found = PathFinder.find_spec("llvmlite")
    if found is None or not found.submodule_search_locations:
        raise LlvmError("the package llvmlite is not installed; install dlc's requirements")
    name = {"darwin": "libllvmlite.dylib", "win32": "llvmlite.dll"}.get(sys.platform, "libllvmlite.so")
    return f"{found.submodule_search_locations[0]}/binding/{name}"
