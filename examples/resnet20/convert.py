"""Turns the published CIFAR-10 weights of ResNet-20 into safetensors.

    python convert.py resnet20-12fca82f.th resnet20.safetensors

The weights are those of https://github.com/akamaster/pytorch_resnet_cifar10. Needs PyTorch, to read them.
"""

from __future__ import annotations

import re
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

LAYERS = {"conv1": "conv2d", "bn1": "batch_norm", "conv2": "conv2d_2", "bn2": "batch_norm_2", "linear": "dense"}
TENSORS = {
    ("conv2d", "weight"): "W",
    ("dense", "weight"): "W",
    ("dense", "bias"): "b",
    ("batch_norm", "weight"): "gamma",
    ("batch_norm", "bias"): "beta",
    ("batch_norm", "running_mean"): "running_mean",
    ("batch_norm", "running_var"): "running_var",
}


def path_of(name: str) -> str | None:
    """The path in `model.dl`: `module.layer2.0.bn1.weight` is `x.1.0.residual.y.batch_norm.gamma`."""
    *place, layer, tensor = name.removeprefix("module.").split(".")
    kind = LAYERS[layer]
    found = TENSORS.get((kind.removesuffix("_2"), tensor))
    if found is None:
        return None  # how often a normalisation ran
    if kind == "dense":
        return f"logits.dense.{found}"
    if not place:
        return f"x.{kind}.{found}"
    stage, block = int(re.sub(r"\D", "", place[0])) - 1, place[1]
    return f"x.{stage}.{block}.residual.y.{kind}.{found}"


def laid_out(values: np.ndarray) -> np.ndarray:
    """Convolutions from [out, in, kh, kw] to [kh, kw, in, out], dense layers from [out, in] to [in, out]."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(values.ndim, tuple(range(values.ndim)))
    return np.ascontiguousarray(values.transpose(axes))


def main(source: str, target: str) -> None:
    state = torch.load(source, map_location="cpu", weights_only=True)["state_dict"]
    named = {path_of(name): laid_out(values.numpy()) for name, values in state.items()}
    save_file({path: values for path, values in named.items() if path is not None}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
