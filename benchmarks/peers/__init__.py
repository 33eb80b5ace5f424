"""The peers that a user would pick instead, each measured in processes of its own."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Peer: TypeAlias = Literal["dlc", "torch", "torch_compile", "torch_max", "jax", "onnxruntime", "openvino"]
PEERS: tuple[Peer, ...] = get_args(Peer)

Figures: TypeAlias = dict[str, float]
