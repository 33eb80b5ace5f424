"""PyTorch: eager with its fused optimizers, or compiled by inductor, which may try kernels against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from catalogue import TIMING_RATE, Array, Entry, Optimizer, make_batch
from clock import peak_memory_mb, since_process_start, time_latency, time_throughput
from peers import Figures
from torch_zoo import MODULES


def optimizer_for(module: nn.Module, settings: Optimizer, rate: float) -> torch.optim.Optimizer:
    """The optimizer of the catalogue, in PyTorch's fused form."""
    betas = (settings.beta1, settings.beta2)
    match settings.kind:
        case "sgd":
            return torch.optim.SGD(
                module.parameters(), rate, settings.momentum, weight_decay=settings.decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(module.parameters(), rate, betas, settings.epsilon, fused=True)
        case "adamw":
            parameters = list(module.parameters())
            groups = [
                {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.decay},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ]
            return torch.optim.AdamW(groups, rate, betas, settings.epsilon, fused=True)
        case other:
            raise ValueError(f"no optimizer {other}")


def train(entry: Entry, threads: int, seconds: float, mode: str | None) -> Figures:
    """Times a training step: forward, loss, backward, update. `mode` is that of the compiler; None is eager."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = MODULES[entry.name]().float().train()
    optimizer = optimizer_for(module, entry.optimizer, TIMING_RATE)
    inputs, target = tensors_of(entry, entry.batch)

    def loss_of() -> torch.Tensor:
        logits = module(*inputs)
        return functional.cross_entropy(logits.flatten(0, -2), target.flatten())

    loss_of = loss_of if mode is None else torch.compile(loss_of, mode=mode)

    def step() -> None:
        loss_of().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    first = since_process_start()
    figures = time_throughput(step, lambda: None, seconds)
    return {"parameters": _count(module), "first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}


def infer(entry: Entry, batch: int, threads: int, seconds: float, compiled: bool) -> Figures:
    """Times one forward pass to the logits."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = MODULES[entry.name]().float().eval()
    inputs, _ = tensors_of(entry, batch)
    with torch.no_grad() if compiled else torch.inference_mode():
        if compiled:
            torch._inductor.config.freezing = True
        forward = torch.compile(module) if compiled else module
        forward(*inputs)
        first = since_process_start()
        figures = time_latency(lambda: forward(*inputs), seconds)
    return {"parameters": _count(module), "first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}


def multiply(size: int, threads: int, seconds: float) -> Figures:
    """Times the product of two square f32 matrices (MKL)."""
    torch.set_num_threads(threads)
    left, right, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    torch.mm(left, right, out=out)
    first = since_process_start()
    figures = time_latency(lambda: torch.mm(left, right, out=out), seconds)
    return {"first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}


def export(entry: Entry, batch: int, path: Path) -> None:
    """Writes the model as ONNX with a fixed batch, and the logits that it must give beside it."""
    torch.manual_seed(0)
    module = MODULES[entry.name]().float().eval()
    inputs, _ = tensors_of(entry, batch)
    names = [f"input{index}" for index in range(len(inputs))]
    torch.onnx.export(module, tuple(inputs), path, input_names=names, dynamo=True, external_data=False, verbose=False)
    with torch.inference_mode():
        np.save(path.with_suffix(".npy"), module(*inputs).numpy())


def tensors_of(entry: Entry, batch: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    def tensor(array: Array) -> torch.Tensor:
        made = torch.from_numpy(array)
        return made if made.is_floating_point() else made.long()

    inputs, target = make_batch(entry, batch)
    return [tensor(array) for array in inputs], tensor(target)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
