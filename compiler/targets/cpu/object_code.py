"""Kernel texts to object code: from the cache where it is there, otherwise compiled by workers and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping

from compiler.interface import Options
from compiler.targets.cpu.cache import ObjectCache
from compiler.targets.cpu.codegen_worker import compile_modules
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.runner import runner_text


def object_code(texts: Mapping[str, str], machine: Machine, options: Options) -> list[bytes]:
    """One object for each kernel, and one for the runner."""
    workers = max(1, (os.cpu_count() or 1) - 1)  # this process compiles too
    return compile_modules([*texts.values(), runner_text(machine)], machine, ObjectCache(options.cache), workers)
