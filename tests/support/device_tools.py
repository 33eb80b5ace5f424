"""NVIDIA's assembler and disassembler, which few machines have."""

from __future__ import annotations

import pytest

from compiler.targets.gpu import toolkit

needs_toolkit = pytest.mark.skipif(
    None in map(toolkit.tool, toolkit.PACKAGES), reason="needs ptxas and nvdisasm: the extra gpu-test"
)
