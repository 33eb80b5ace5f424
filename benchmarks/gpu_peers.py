"""Training steps and products of PyTorch or JAX on a GPU, in a process of their own, beside those that `gpu.py` times.

    python benchmarks/gpu_peers.py torch f32 --models mlp lenet5 --sizes 512 1024 [--device cpu]

A process prepares all of its steps, compiling them, says `ready`, and waits for a line before it uses the device; each
figure is a line of JSON: `peer`, `name`, and either `ms` or an `error`. PyTorch steps run as one CUDA graph, both eager
and compiled; its products are those of cuBLAS. `--device cpu` tries all of it without a GPU, and without graphs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from catalogue import CATALOGUE, TIMING_RATE

HERE = Path(__file__).parent
PROCESSES = (("torch", "f32"), ("torch", "tf32"), ("torch", "bf16"), ("jax", "f32"), ("jax", "tf32"))
SAMPLES, SAMPLE_SECONDS = 5, 0.02
Figure: TypeAlias = "dict[str, Any]"
Step: TypeAlias = "Callable[[], object]"
Prepared: TypeAlias = "tuple[str, str, Step]"  # peer and name


# in the process of the benchmark


def figures_of_peers(models: Sequence[str], sizes: Sequence[int], device: str = "cuda") -> Iterator[Figure]:
    """The figures of all peers: they prepare side by side, and use the device one after the other."""
    words = ["--models", *models, "--sizes", *map(str, sizes), "--device", device]
    started: list[tuple[str, subprocess.Popen[str]]] = []
    for peer, precision in PROCESSES:
        command = [sys.executable, str(HERE / "gpu_peers.py"), peer, precision, *words]
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, text=True)
        started.append((f"{peer} {precision}", process))
    early = [_until_ready(process) for _, process in started]
    for (name, process), before in zip(started, early, strict=True):
        yield from before
        output, _ = process.communicate("go\n" if process.poll() is None else None)
        yield from map(json.loads, filter(None, output.splitlines()))
        if process.returncode:
            yield {"peer": name, "name": "", "error": f"ended with exit status {process.returncode}"}


def _until_ready(process: subprocess.Popen[str]) -> list[Figure]:
    """The lines before `ready`: what could not be prepared."""
    found: list[Figure] = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready":
            break
        found.append(json.loads(line))
    return found


# in a process of a peer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["torch", "jax"])
    parser.add_argument("precision", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--models", nargs="*", default=["mlp_small"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[])
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    of_peer = _of_torch if given.peer == "torch" else _of_jax
    prepared: list[Prepared] = []
    timed: Callable[[Step], float] = _by_clock
    try:
        makers, timed = of_peer(given.precision, given.models, given.sizes, given.device)
    except (ImportError, RuntimeError) as error:
        _say({"peer": f"{given.peer} {given.precision}", "name": "", "error": _first_line(error)})
        makers = []
    for peer, name, make in makers:
        try:
            step = make()
            step()
            prepared.append((peer, name, step))
        except Exception as error:  # a model that a peer cannot take keeps no other from being measured
            _say({"peer": peer, "name": name, "error": _first_line(error)})
    print("ready", flush=True)
    sys.stdin.readline()
    for peer, name, step in prepared:
        _say({"peer": peer, "name": name, "ms": timed(step) * 1e3})
    return 0


def _say(figure: Figure) -> None:
    print(json.dumps(figure), flush=True)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]


Maker: TypeAlias = "tuple[str, str, Callable[[], Step]]"
Made: TypeAlias = "tuple[list[Maker], Callable[[Step], float]]"  # with how to time a step


def _repeated(sample: Callable[[int], float]) -> float:
    """The median seconds of a step, where `sample` times so many of them."""
    each = max(sample(3) / 3, 1e-7)
    count = max(1, round(SAMPLE_SECONDS / each))
    return median(sample(count) / count for _ in range(SAMPLES))


def _by_clock(step: Step, wait: Callable[[], object] = lambda: None) -> float:
    def sample(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        return time.perf_counter() - start

    return _repeated(sample)


def _of_torch(precision: str, models: Sequence[str], sizes: Sequence[int], device: str) -> Made:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    torch.set_float32_matmul_precision("highest" if precision == "f32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "f32"
    kinds = ((f"torch eager {precision}", False), (f"torch compiled {precision}", True))
    made: list[Maker] = [
        (peer, name, partial(_torch_training, name, precision, device, is_compiled))
        for name in models
        for peer, is_compiled in kinds
    ]
    made += [(f"cuBLAS {precision}", str(size), partial(_torch_product, size, precision, device)) for size in sizes]
    return made, _by_events if device == "cuda" else _by_clock


def _torch_training(name: str, precision: str, device: str, is_compiled: bool) -> Step:
    import torch
    from torch.nn import functional

    from peers.torch_peer import optimizer_for, tensors_of
    from torch_zoo import MODULES

    torch.manual_seed(0)
    entry = CATALOGUE[name]
    module = MODULES[name]().float().train().to(device)
    optimizer = optimizer_for(module, entry.optimizer, TIMING_RATE)
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = device == "cuda"
    inputs, target = tensors_of(entry, entry.batch)
    inputs, target = [each.to(device) for each in inputs], target.to(device)

    def loss_of() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits = module(*inputs)
        return functional.cross_entropy(logits.float().flatten(0, -2), target.flatten())

    loss = torch.compile(loss_of) if is_compiled else loss_of

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return _graphed(step, device)


def _torch_product(size: int, precision: str, device: str) -> Step:
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return _graphed(lambda: torch.mm(left, right, out=out), device)


def _graphed(step: Callable[[], object], device: str) -> Step:
    """The step as a CUDA graph, which holds what it reads."""
    import torch

    if device != "cuda":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _by_events(step: Step) -> float:
    import torch

    def sample(count: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return _repeated(sample)


def _of_jax(precision: str, models: Sequence[str], sizes: Sequence[int], device: str) -> Made:
    import os

    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # other processes need the memory, too
    import jax
    import jax.numpy as jnp
    import numpy as np

    from catalogue import make_batch
    from jax_zoo import MODELS
    from peers.jax_peer import initial_moments, training_step

    if device == "cuda" and jax.default_backend() != "gpu":
        raise RuntimeError("JAX finds no GPU")
    jax.config.update("jax_default_matmul_precision", "highest" if precision == "f32" else "tensorfloat32")
    newest: list[Any] = [None]  # what the device still computes

    def training(name: str) -> Step:
        entry = CATALOGUE[name]
        parameters, states = MODELS[name].initial(np.random.default_rng(0))
        inputs, target = make_batch(entry, entry.batch)
        given = [jnp.asarray(array) for array in inputs], jnp.asarray(target)
        step, kept = (
            training_step(entry, TIMING_RATE),
            [parameters, states, initial_moments(entry.optimizer, parameters)],
        )

        def one() -> None:
            *kept[:], newest[0] = step(*kept, *given)

        return one

    made: list[Maker] = [(f"jax {precision}", name, partial(training, name)) for name in models]
    return made, lambda step: _by_clock(step, lambda: jax.block_until_ready(newest[0]))


if __name__ == "__main__":
    sys.exit(main())
