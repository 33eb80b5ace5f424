"""Machine code of a device, by NVIDIA's assembler where it is installed, and of its kernels on this processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from device_tools import needs_toolkit

from compiler.targets.gpu import toolkit
from compiler.targets.gpu.sass import instructions
from runtime.cli.main import main

ROOT = Path(__file__).parents[3]
XOR = str(ROOT / "examples/xor/model.dl")
DISASSEMBLED = """
k_1:
.text.k_1:
        /*0000*/                   S2R R0, SR_TID.X ;
	//## File "k_1.loops", line 3
.L_x_1:
        /*0010*/              @!P0 FFMA R4, R7.reuse, R0, R9 ;
.L_x_9:
        /*0020*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_rem_u64) ;
	//## File "k_1.loops", line 5
        /*0030*/              @P1  BRA `(.L_x_1) ;
        /*0040*/                   EXIT ;
        .type           $__internal_0_$__cuda_sm20_rem_u64,@function
$__internal_0_$__cuda_sm20_rem_u64:
        /*0050*/                   RET.REL.NODEC R8 `(k_1) ;
"""


def test_instructions_have_offsets_lines_and_the_labels_that_jumps_name() -> None:
    found = [(i.offset, i.text, i.line, i.labels) for i in instructions(DISASSEMBLED)]
    called = "$__internal_0_$__cuda_sm20_rem_u64"
    assert found == [
        (0x00, "S2R\tR0, SR_TID.X", 0, ("k_1",)),
        (0x10, "@!P0 FFMA\tR4, R7.reuse, R0, R9", 3, (".L_x_1",)),
        (0x20, f"CALL.REL.NOINC\t{called}", 3, ()),
        (0x30, "@P1 BRA\t.L_x_1", 5, ()),
        (0x40, "EXIT", 5, ()),
        (0x50, "RET.REL.NODEC\tR8 k_1", 5, (called,)),
    ]


def shown(capsys: pytest.CaptureFixture[str], target: str) -> list[dict[str, Any]]:
    assert main(["show", XOR, "--target", target, "--stage", "asm", "--json"]) == 0
    return [line for kernel in json.loads(capsys.readouterr().out) for line in kernel["code"]]


@needs_toolkit
def test_machine_code_of_a_device_names_the_lines_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    fused = [line for line in shown(capsys, "gpu") if str(line["instruction"]).startswith("FFMA ")]
    assert any(line["sources"] and "fma(" in str(line["statement"]) for line in fused)
    assert main(["show", f"{XOR}:4", "--target", "gpu", "--stage", "asm"]) == 0
    assert "model.dl:4 " in capsys.readouterr().out


def test_code_of_the_emulator_is_that_of_this_processor(capsys: pytest.CaptureFixture[str]) -> None:
    code = shown(capsys, "gpu-emulator")
    assert any(line["sources"] for line in code)
    assert any(label.endswith(".thread") for line in code for label in line["labels"])


def test_without_an_assembler_a_reader_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolkit, "tool", {}.get)
    assert main(["show", XOR, "--target", "gpu", "--stage", "asm"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "python -m pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm" in said
    assert "--stage ptx" in said


def test_an_assembler_that_fails_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = tmp_path / "ptxas"
    fails.write_text("#!/bin/sh\necho 'ptxas fatal: sm_75 is not known' >&2\nexit 255\n")
    fails.chmod(0o755)
    monkeypatch.setattr(toolkit, "tool", {"ptxas": str(fails)}.get)
    assert main(["show", XOR, "--target", "gpu", "--stage", "asm"]) == 2
    assert "sm_75 is not known" in " ".join(capsys.readouterr().err.split())
    fails.unlink()
    assert main(["show", XOR, "--target", "gpu", "--stage", "asm"]) == 2
    assert "does not run" in capsys.readouterr().err
