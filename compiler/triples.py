"""Words of a user to machines: their names, and triples of LLVM, such as `aarch64-linux-gnu` for NEON and Linux."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.machine import APPLE_M1, AVX2, AVX2_WINDOWS, CHOICES, CORTEX_M4, NEON, RVV, WASM, Machine

_NAMES = {"amd64": "x86_64", "arm64": "aarch64", "armv7em": "thumbv7em"}
_ENVIRONMENTS = re.compile(r"gnu|musl|android\d*|msvc|eabi|eabihf|elf")
_SYSTEMS = (
    ("linux", re.compile(r"linux\d*")),
    ("windows", re.compile(r"windows|win32|mingw32")),
    ("macos", re.compile(r"(?:macosx?|darwin)([\d.]*)")),
    ("wasm", re.compile(r"wasi(p\d)?|emscripten")),
    ("none", re.compile(r"none|elf|eabi|eabihf")),
)
# By architecture, the systems whose objects are made: the machine, and its triple, where `{}` is the environment.
_MACHINES: Mapping[str, Mapping[str, tuple[Machine, str]]] = {
    "x86_64": {
        "linux": (AVX2, "x86_64-unknown-linux-{}"),
        "windows": (AVX2_WINDOWS, "x86_64-pc-windows-{}"),
        "none": (AVX2, "x86_64-unknown-none-{}"),
    },
    "aarch64": {
        "linux": (NEON, "aarch64-unknown-linux-{}"),
        "macos": (APPLE_M1, "arm64-apple-macosx{}"),
        "none": (NEON, "aarch64-unknown-none-{}"),
    },
    "riscv64": {"linux": (RVV, "riscv64-unknown-linux-{}"), "none": (RVV, "riscv64-unknown-none-{}")},
    "thumbv7em": {"none": (CORTEX_M4, "thumbv7em-unknown-none-{}")},
    "wasm32": {"wasm": (WASM, WASM.triple), "none": (WASM, WASM.triple)},
}
_USUAL = {"linux": "gnu", "windows": "msvc", "none": "elf"}


def machine_called(name: str, others: Iterable[str] = ()) -> Machine:
    """The machine of CHOICES, or that of a triple, as any processor has it.

    A triple stands for those of its processors that have fused multiply-adds and vectors: AVX2 of x86-64, V of riscv64.
    Raises UsageError, whose hint names `others` too.
    """
    if name in CHOICES:
        return CHOICES[name]
    architecture, *rest = name.lower().split("-")
    architecture = _NAMES.get(architecture, architecture)
    if rest and architecture in _MACHINES:
        return _of_triple(name, architecture, rest)
    known = (*others, *CHOICES)
    hint = did_you_mean(name, known) or f"targets are {', '.join(known)}, and triples such as aarch64-linux-gnu"
    if rest and not did_you_mean(name, known):
        hint = f"triples of LLVM begin with {', '.join(_MACHINES)} here"
    raise UsageError(f"there is no target `{name}`", hint)


def _of_triple(text: str, architecture: str, rest: Sequence[str]) -> Machine:
    systems = _MACHINES[architecture]
    system, version = _system_of(rest) if list(rest) != ["unknown", "unknown"] else ("none", "")
    if system not in systems:
        raise UsageError(
            f"there is no target `{text}`: no code of {architecture} is made for that system",
            f"it is made for {', '.join(systems)}",
        )
    machine, triple = systems[system]
    if system == "macos":
        return replace(machine, triple=triple.format(version)) if version else machine
    environment = _environment_of(text, rest, system)
    if architecture == "thumbv7em" and environment == "elf":
        environment = "eabihf"
    return replace(machine, triple=triple.format(environment))


def _system_of(parts: Sequence[str]) -> tuple[str, str]:
    """The system that a part names, the more telling ones first, and the version behind the name."""
    for system, pattern in _SYSTEMS:
        for part in parts:
            if found := pattern.fullmatch(part):
                return system, found[1] if pattern.groups else ""
    return "", ""


def _environment_of(text: str, parts: Sequence[str], system: str) -> str:
    """Of a system, whose conventions hold: the last part that names some.

    Raises UsageError where the last part of several names other conventions, such as the 32-bit pointers of `gnux32`.
    """
    named = [part for part in parts if _ENVIRONMENTS.fullmatch(part)]
    is_known = named[-1:] == list(parts[-1:]) or _system_of(parts[-1:])[0] or parts[-1] == "unknown"
    if len(parts) > 1 and not is_known:
        raise UsageError(
            f"there is no target `{text}`: no code is made for the conventions `{parts[-1]}`",
            "a triple ends with gnu, musl, android, msvc, eabi, eabihf, elf or a system",
        )
    if not named and "mingw32" in parts:
        return "gnu"
    return named[-1] if named else _USUAL.get(system, "")
