"""Machines by name: what of this processor's own a chosen one keeps, and which cannot be run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.errors.diagnostics import UsageError
from compiler.machine import APPLE_M1, AVX2, AVX512, CHOICES, NEON, Machine
from compiler.targets.cpu.runner import runner_text
from compiler.targets.gpu.device import device_called, device_for
from compiler.targets.llvm import host as machines
from compiler.targets.llvm.host import detect, machine_elsewhere, machine_of
from compiler.targets.llvm.jit import assembly
from compiler.targets.llvm.listing import listing
from compiler.targets.registry import named_target
from compiler.triples import machine_called
from runtime.cli.main import main

ZEN5 = replace(
    AVX512, cpu="znver5", features="+avx512bw,+avx512dq,+avx512f,+avx512vl,+fma,-avx10.1", l1_bytes=48 << 10, l1_ways=12
)
SUM = """
define void @f(ptr %p, <16 x float> %x) nounwind {
  %old = load <16 x float>, ptr %p, align 4
  %sum = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> %x, <16 x float> %old)
  store <16 x float> %sum, ptr %p, align 4
  ret void
}
"""
MODEL = """
model Small {
    input x: f32[batch, 4]
    output y = x |> dense(3)
}
"""


def hosted(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    monkeypatch.setattr(machines, "detect", lambda: host)


def test_without_a_name_it_is_the_one_that_runs() -> None:
    assert machine_of(None) == machine_of(detect().name) == detect()


def test_a_processor_with_avx512_runs_avx2_in_its_own_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted(monkeypatch, ZEN5)
    chosen = machine_of("avx2")
    assert (chosen.name, chosen.vector_bits, chosen.registers, chosen.masks) == ("avx2", 256, 16, False)
    assert (chosen.cpu, chosen.l1_bytes, chosen.l1_ways) == ("znver5", 48 << 10, 12)
    assert "zmm" in assembly(SUM, ZEN5)
    text = assembly(SUM, chosen)
    assert re.search(r"vfmadd\d+ps\s.*%ymm", text)
    assert not re.search(r"%zmm|%ymm(1[6-9]|[23]\d)|%k[0-7]", text)


def test_generic_code_has_the_multiply_adds_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted(monkeypatch, ZEN5)
    assert "vfmadd" in assembly(SUM, machine_of("generic"))
    assert "fmaf" in assembly(SUM, CHOICES["generic"]), "the same bits, by a call for each element"


@pytest.mark.parametrize(
    ("host", "name", "runs"),
    [
        (AVX2, "avx512", "avx2, generic"),
        (ZEN5, "neon", "avx512, avx2, generic"),
        (NEON, "apple-m1", "neon"),
        (APPLE_M1, "avx2", "apple-m1, neon"),
    ],
    ids=lambda argument: getattr(argument, "name", argument),
)
def test_code_that_a_processor_lacks_is_printed_and_not_run(
    host: Machine, name: str, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted(monkeypatch, host)
    assert machine_of(name, runs=False).name == name
    with pytest.raises(UsageError, match=f"cannot run code for `{name}`") as caught:
        machine_of(name)
    assert f"it can for {runs};" in caught.value.fix


def test_an_unknown_machine_has_a_near_name() -> None:
    with pytest.raises(UsageError, match="no target `avx-2`") as caught:
        machine_of("avx-2")
    assert caught.value.fix == "did you mean `avx2`?"


@pytest.mark.parametrize(
    ("shared", "siblings", "kibibytes"), [("0-1", "0-1", 1024), ("0-3", "0", 256), ("0-1,8-9", "0,8", 512)]
)
def test_cores_share_what_they_have_together(
    shared: str, siblings: str, kibibytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processors of one core count once."""
    files = {
        "topology/thread_siblings_list": siblings,
        "cache/index0/level": "2",
        "cache/index0/type": "Unified",
        "cache/index0/size": "1024K",
        "cache/index0/ways_of_associativity": "8",
        "cache/index0/coherency_line_size": "128",
        "cache/index0/shared_cpu_list": shared,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(machines, "PROCESSOR", tmp_path)
    assert detect().l2_bytes == kibibytes << 10


@pytest.mark.parametrize("machine", [NEON, APPLE_M1], ids=lambda machine: machine.name)
def test_the_runner_keeps_subnormals_on_arm_too(machine: Machine) -> None:
    """By a 0 in the register that says how floats are computed, and what stood there behind it."""
    text = assembly(runner_text(machine), machine)
    assert re.search(r"mrs\s+x\d+, FPCR", text, re.IGNORECASE)
    assert re.search(r"msr\s+FPCR, xzr", text, re.IGNORECASE)
    assert re.search(r"msr\s+FPCR, x\d+", text, re.IGNORECASE)
    assert "yield" in text


@pytest.mark.parametrize("machine", CHOICES.values(), ids=lambda machine: machine.name)
def test_code_of_any_machine_is_listed(machine: Machine) -> None:
    """Offsets are known where they can be: instructions of Arm are equally long, and this computer's are assembled."""
    found = listing(SUM, "f", machine)
    assert found[-1].text in ("ret", "retq", "end_function", "bx\tlr")
    if machine.is_arm:
        assert [i.offset for i in found] == list(range(0, 4 * len(found), 4))
    assert (found[-1].offset is None) == (not machine.is_arm and machine.triple != detect().triple)


@pytest.mark.parametrize(
    ("triple", "name", "canonical"),
    [
        ("aarch64-linux-gnu", "neon", "aarch64-unknown-linux-gnu"),
        ("aarch64-linux-android21", "neon", "aarch64-unknown-linux-android21"),
        ("aarch64-none-elf", "neon", "aarch64-unknown-none-elf"),
        ("riscv64-unknown-linux-gnu", "rvv", "riscv64-unknown-linux-gnu"),
        ("x86_64-unknown-linux-musl", "avx2", "x86_64-unknown-linux-musl"),
        ("amd64-pc-windows-msvc", "avx2-windows", "x86_64-pc-windows-msvc"),
        ("x86_64-w64-mingw32", "avx2-windows", "x86_64-pc-windows-gnu"),
        ("arm64-apple-macos", "apple-m1", APPLE_M1.triple),
        ("arm64-apple-macos13.0", "apple-m1", "arm64-apple-macosx13.0"),
        ("thumbv7em-none-eabi", "cortex-m4", "thumbv7em-unknown-none-eabi"),
        ("thumbv7em-none-eabihf", "cortex-m4", "thumbv7em-unknown-none-eabihf"),
        ("wasm32-unknown-unknown", "wasm", "wasm32-unknown-unknown"),
    ],
)
def test_a_triple_is_a_machine_of_its_system(triple: str, name: str, canonical: str) -> None:
    found = machine_called(triple)
    assert found == replace(CHOICES[name], triple=canonical)
    assert assembly(SUM, found), "LLVM knows the triple"


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("vax", "there is no target `vax`", "targets are native, gpu, gpu-emulator, reference, avx512"),
        ("nativ", "there is no target `nativ`", "did you mean `native`?"),
        ("i686-linux-gnu", "there is no target `i686-linux-gnu`", "triples of LLVM begin with x86_64"),
        ("x86_64-apple-macos", "no code of x86_64 is made for that system", "it is made for linux, windows, none"),
        ("aarch64-", "no code of aarch64 is made for that system", "it is made for linux, macos, none"),
        ("x86_64-linux-gnux32", "no code is made for the conventions `gnux32`", "a triple ends with gnu, musl"),
        ("aarch64-linux-gnu_ilp32", "no code is made for the conventions `gnu_ilp32`", "a triple ends with gnu, musl"),
        ("thumbv7em-linux-gnueabihf", "no code of thumbv7em is made for that system", "it is made for none"),
    ],
)
def test_other_words_are_refused(word: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        named_target(word)
    assert hint in raised.value.fix


def test_a_gpu_is_named_with_its_architecture() -> None:
    assert named_target("gpu-sm_75") == ("gpu", "sm_75")
    assert [device_called(name).cpu for name in ("sm_75", "sm_80", None)] == ["sm_75", "sm_80", "sm_80"]
    assert [device_for(of).cpu for of in ((7, 5), (8, 0), (8, 6), (12, 0))] == ["sm_75", "sm_80", "sm_80", "sm_80"]
    with pytest.raises(UsageError, match="made for sm_75 and sm_80"):
        device_called("sm_90")
    with pytest.raises(UsageError, match="not for `sm_99`"):
        named_target("gpu-sm_99")


def test_code_for_elsewhere_has_nothing_of_this_processor() -> None:
    for name, described in CHOICES.items():
        assert machine_elsewhere(name) == described
    assert machine_elsewhere(None) == detect()


def test_commands_take_a_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.dl"
    model.write_text(MODEL)
    lacking = "neon" if detect().name in ("avx512", "avx2", "generic") else "avx512"
    timed = ["bench", str(model), "--mode", "infer", "--seconds", "0.05"]
    assert main([*timed, "--target", lacking]) == 2
    assert f"cannot run code for `{lacking}`" in capsys.readouterr().err
    assert main([*timed, "--target", detect().name, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["machine"], report["processor"], report["cpu"]) == (detect().name, detect().name, detect().cpu)
    assert main(["show", str(model), "--mode", "infer", "--stage", "asm", "--target", lacking]) == 0
    assert capsys.readouterr().out.startswith(f"# code for {lacking} (")
    assert main(["show", str(model), "--mode", "infer", "--stage", "asm", "--target", lacking, "--json"]) == 0
    assert {kernel["machine"] for kernel in json.loads(capsys.readouterr().out)} == {lacking}
    assert main(["show", str(model), "--stage", "grad", "--target", lacking]) == 2
    assert "stage grad is the same for every target" in capsys.readouterr().err


@pytest.mark.skipif(detect().name not in ("avx512", "avx2"), reason="needs AVX2")
def test_bench_says_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.dl"
    model.write_text(MODEL)
    assert main(["bench", str(model), "--mode", "infer", "--seconds", "0.05", "--target", "generic"]) == 0
    assert f"chosen; the processor has {detect().name}" in capsys.readouterr().out
