"""`--target gpu` itself, with a driver that stands for libcuda: PTX of each kernel, kept by text, device and driver."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_device import PtxTarget, transfers_on_this_processor

import gpu
import gpu_peers
from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import UsageError
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from compiler.targets.gpu import opened
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.driver import Driver, begun
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.registry import TARGETS
from runtime.inference.model import runtime_settings

TEXT = """model M {
    input x: f32[batch, 24]
    output y = x |> dense(40) |> layer_norm |> gelu |> dense(7)
}
train M {
    target t: f32[batch, 7]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 16
}
"""


def trained(target: str, cache: Path) -> dict[str, bytes]:
    program = driver.load_text(TEXT, "m.dl")
    options = Options(target, threads=1, cache=cache, batch=16)
    tensors, random = driver.allocate(program, options), np.random.default_rng(0)
    driver.initialise(program, tensors, 3, options)
    data = {name: random.normal(size=(40, width)).astype(np.float32) for name, width in (("x", 24), ("t", 7))}
    step = driver.compile_program(program, TRAINING, options)
    step.run(Steps(tensors, data, np.arange(40), 16, settings=runtime_settings(program)))
    return {name: tensors[name].tobytes() for name in tensors.names()}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PtxTarget]:
    library, transfers = transfers_on_this_processor()

    def make(kernels: PtxTarget | None = None, **words: int) -> PtxTarget:
        fake = FakeCuda(transfers if kernels is None else kernels.fake.kernels, **words)  # type: ignore[arg-type]
        target = PtxTarget(fake)
        target.libraries = [library] if kernels is None else kernels.libraries
        memory = DeviceMemory(Gpu(begun(Driver(fake))))
        monkeypatch.setattr(opened, "device_memory", lambda: memory)
        monkeypatch.setitem(TARGETS, "gpu", lambda: target)
        return target

    return make


def test_a_training_has_the_bits_of_native_code_and_its_code_is_kept(
    used: Callable[..., PtxTarget], tmp_path: Path
) -> None:
    target = used(seed=3)
    wanted = trained("native", tmp_path)
    assert trained("gpu", tmp_path) == wanted
    links = target.fake.calls.count("cuLinkComplete")
    assert links == target.fake.calls.count("cuModuleLoadData") - 1  # the start of the tensors shares its transfers
    again = used(target)
    assert trained("gpu", tmp_path) == wanted
    assert again.fake.calls.count("cuLinkComplete") == 0
    newer = used(target, version=13_000)
    assert trained("gpu", tmp_path) == wanted
    assert newer.fake.calls.count("cuLinkComplete") == links


LARGE = re.sub(r"\b(24|40|7)\b", "64", TEXT)


def linked_for(
    used: Callable[..., PtxTarget], capability: tuple[int, int], cache: Path, machine: str | None = None
) -> set[str]:
    """What the texts are for that the driver of a device links, and whether any copies."""
    target, texts, linked = used(seed=1, capability=capability), list[str](), Gpu.linked

    def kept(gpu: Gpu, ptx: bytes) -> bytes:
        texts.append(ptx.decode())
        return linked(gpu, ptx)

    program, options = driver.load_text(LARGE, "m.dl"), Options("gpu", cache=cache, batch=64, machine=machine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gpu, "linked", kept)
        driver.compile_program(program, TRAINING, options)
    assert target.fake.calls.count("cuLinkComplete") == len(texts)
    found = {line for text in texts for line in text.splitlines() if line.startswith(".target")}
    return found | {"copies" for text in texts if "cp.async" in text}


def test_a_device_is_given_code_for_its_capability_and_one_cache_keeps_both(
    used: Callable[..., PtxTarget], tmp_path: Path
) -> None:
    copies = {".target sm_80", "copies"}
    assert linked_for(used, (7, 5), tmp_path) == {".target sm_75"}
    assert linked_for(used, (8, 0), tmp_path) == copies
    assert linked_for(used, (12, 0), tmp_path) == copies
    assert linked_for(used, (9, 0), tmp_path, "sm_75") == {".target sm_75"}
    for capability in ((7, 5), (8, 0), (12, 0)):
        assert linked_for(used, capability, tmp_path) == set()
    with pytest.raises(UsageError, match=re.escape("has compute capability 7.5 and cannot run code for `sm_80`")):
        linked_for(used, (7, 5), tmp_path, "sm_80")


def test_the_benchmark_measures_what_runs(
    used: Callable[..., PtxTarget], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used(seed=1)
    (tmp_path / "tiny.dl").write_text(TEXT)
    monkeypatch.setattr(gpu, "ZOO", tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "device_memory", opened.device_memory)
    monkeypatch.setattr(gpu, "why_no_gpu", lambda: None)
    for name, value in (("PRODUCTS", (16,)), ("ROWS", 8), ("COLUMNS", 16), ("REPEATS", 1)):
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr("sys.argv", ["gpu.py", "tiny", "missing", "--steps", "1", "--no-peers"])
    assert gpu.main() == 0
    said = capsys.readouterr().out
    assert "Fake 9000, 132 multiprocessors" in said
    assert re.search(r" (\d+) of \1\n", said)
    assert "missing.dl" in said
    assert "layer norm" in said
    assert re.search(r"copy +\d+\n", said)


def test_peers_stand_beside_the_own_times(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [{"peer": "torch eager f32", "name": "mlp", "ms": 3.0}, {"peer": "jax f32", "name": "", "error": "none"}]
    monkeypatch.setattr(gpu, "figures_of_peers", lambda *_: figures)
    gpu.print_peers({"mlp": 2.0}, ["mlp"])
    _, _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["torch", "eager", "f32", "mlp", "3.0000", "1.50"]
    assert second.split() == ["jax", "f32", "none"]


def test_a_peer_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyTorch, and in a Python that has it but no GPU."""
    monkeypatch.setattr(gpu_peers, "PROCESSES", (("torch", "f32"),))
    (figure,) = gpu_peers.figures_of_peers(["mlp_small"], [16])
    assert figure["peer"] == "torch f32"
    assert "PyTorch finds no GPU" in figure["error"] or "No module named" in figure["error"]
