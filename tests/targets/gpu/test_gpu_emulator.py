"""The kernels of a GPU, run on this processor: each op, and steps of networks, have the bits of native code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from emulated import graph_of_sample
from nest_reader import read_nest
from op_samples import NATIVE_SAMPLES, Sample, arrays_of, with_extremes
from safetensors.numpy import load_file

from compiler import driver
from compiler.driver import Options
from compiler.machine import Machine
from compiler.nest.printer import print_nest
from compiler.nest.verify import verify_nest
from compiler.ops import OPS
from compiler.programs.executables import executable
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.support.arrays import Array
from compiler.targets.gpu.device import DEVICES, SM_75, SM_80
from compiler.targets.lowered import Lowered
from compiler.targets.registry import kernel_target_of
from runtime.cli.main import main

ROOT = Path(__file__).parents[3]
ZOO = ROOT / "benchmarks/zoo"
EMULATOR = "gpu-emulator"
ROWS = 3


def same(left: Array, right: Array) -> bool:
    """Whether the bits are equal; of NaN, only that it is one."""
    nan = (left != left) & (right != right)
    return left.dtype == right.dtype and np.where(nan, 0, left).tobytes() == np.where(nan, 0, right).tobytes()


@pytest.mark.parametrize("sample", NATIVE_SAMPLES, ids=lambda sample: sample.op.name)
def test_an_op_has_the_bits_of_native_code(sample: Sample) -> None:
    graph = graph_of_sample(sample)
    native, emulated = (executable(graph, Options(threads=1, target=target)) for target in ("native", EMULATOR))
    given = {f"x{i}": array for i, array in enumerate(arrays_of(sample, ROWS))}
    for data in (given, {name: with_extremes(array) for name, array in given.items()}):
        expected, found = native.call(data, ROWS), emulated.call(data, ROWS)
        assert all(same(expected[name], found[name]) for name in expected)


def lowered(model: str, machine: Machine) -> Lowered:
    program = driver.load(ZOO / f"{model}.dl")
    options = driver.options_of(program, Options(batch=16, target="gpu"))
    ready, chosen = prepared(graph_of(program, TRAINING, options), options), kernel_target_of(options)
    return chosen.lower(ready, scheduled(ready, options, machine), machine, options.batch, keeps_nests=True)


@pytest.mark.parametrize("machine", DEVICES.values(), ids=lambda machine: machine.name)
@pytest.mark.parametrize("model", ["mlp_small", "lenet5", "lstm"])
def test_nests_of_threads_are_verified_and_read_as_they_are_printed(model: str, machine: Machine) -> None:
    for nest in lowered(model, machine).nests.values():
        verify_nest(nest)
        printed = print_nest(nest)
        assert print_nest(read_nest(printed, OPS)) == printed


@pytest.mark.parametrize(("machine", "version"), [(SM_75, "6.4"), (SM_80, "7.0")])
def test_ptx_is_of_the_oldest_device_that_runs_it_and_rounds_each_operation(machine: Machine, version: str) -> None:
    target = kernel_target_of(Options(target="gpu"))
    for symbol, text in lowered("mlp_small", machine).texts.items():
        ptx = target.ptx(text, machine)
        assert f".version {version}\n.target {machine.cpu}\n" in ptx
        assert f".visible .entry {symbol}(" in ptx
        for wrong in ("mul.f32", "add.f32", "approx", ".ftz", "ld.b", "st.b"):
            assert wrong not in ptx


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_a_whole_program_is_one_module_of_ptx(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(ROOT / "examples/digits/model.dl")
    assert main(["show", model, "--target", "gpu", "--stage", "ptx", "--mode", mode]) == 0
    shown = capsys.readouterr().out
    assert shown.count(".version") == shown.count(".target") == shown.count(".address_size") == 1
    assert shown.index(".address_size") < shown.index(".entry")
    assert "// model.dl:4" in shown


def test_ptx_says_for_which_devices_it_is_and_is_made_for_others_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(ZOO / "mlp.dl")
    for target, capability, copies in (("gpu", "8.0", True), ("gpu-sm_80", "8.0", True), ("gpu-sm_75", "7.5", False)):
        assert main(["show", model, "--target", target, "--stage", "ptx"]) == 0
        shown = capsys.readouterr().out
        name = f"sm_{capability.replace('.', '')}"
        assert f".target {name}\n" in shown
        assert f"// code for {name}: GPUs of compute capability {capability} or later\n" in shown
        assert ("cp.async.cg.shared.global" in shown) is copies
    assert main(["show", model, "--target", "gpu-sm_90", "--stage", "ptx"]) == 2
    assert "made for sm_75 and sm_80, not for `sm_90`" in capsys.readouterr().err


def test_code_of_a_processor_is_no_ptx(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(ROOT / "examples/xor/model.dl"), "--stage", "ptx"]) == 2
    assert "--target gpu" in capsys.readouterr().err


def test_steps_for_a_device_are_verified(tmp_path: Path) -> None:
    model = str(ROOT / "examples/iris/model.dl")
    assert main(["train", model, "--dry-run", "--verify", "--target", EMULATOR, "--out", str(tmp_path / "run")]) == 0


def test_training_leaves_the_checkpoints_of_native_code(tmp_path: Path) -> None:
    model = str(ROOT / "examples/digits/model.dl")
    for target in ("native", EMULATOR):
        assert main(["train", model, "--epochs", "1", "--target", target, "--out", str(tmp_path / target)]) == 0
    files = sorted(path.relative_to(tmp_path / "native") for path in (tmp_path / "native").rglob("*.safetensors"))
    assert len(files) >= 2
    for file in files:
        expected, found = load_file(tmp_path / "native" / file), load_file(tmp_path / EMULATOR / file)
        assert {name: array.tobytes() for name, array in expected.items()} == {
            name: array.tobytes() for name, array in found.items()
        }
