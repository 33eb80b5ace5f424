"""One job in a process of its own: a peer, a mode and a model to figures, printed as a line of JSON.

Peers are imported only here and only when chosen, since their import is part of what is measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from catalogue import CATALOGUE
from peers import Figures


def run(peer: str, mode: str, model: str, batch: int, threads: int, seconds: float, folder: Path) -> Figures:
    mode_of_torch = {"torch_compile": "default", "torch_max": "max-autotune"}.get(peer)
    match peer, mode:
        case "peak", _:
            from peers import peak_peer

            return peak_peer.peak(threads, seconds)
        case "torch" | "torch_compile" | "torch_max", "train":
            from peers import torch_peer

            return torch_peer.train(CATALOGUE[model], threads, seconds, mode_of_torch)
        case "torch" | "torch_compile", "infer":
            from peers import torch_peer

            return torch_peer.infer(CATALOGUE[model], batch, threads, seconds, mode_of_torch is not None)
        case "torch", "gemm":
            from peers import torch_peer

            return torch_peer.multiply(int(model), threads, seconds)
        case "torch", "export":
            from peers import torch_peer

            torch_peer.export(CATALOGUE[model], batch, folder / f"{model}.{batch}.onnx")
            return {}
        case "jax", "train":
            from peers import jax_peer

            return jax_peer.train(CATALOGUE[model], threads, seconds)
        case "jax", "infer":
            from peers import jax_peer

            return jax_peer.infer(CATALOGUE[model], batch, threads, seconds)
        case "onnxruntime", "infer":
            from peers import onnxruntime_peer

            return onnxruntime_peer.infer(CATALOGUE[model], batch, threads, seconds, folder / f"{model}.{batch}.onnx")
        case "openvino", "infer":
            from peers import openvino_peer

            return openvino_peer.infer(CATALOGUE[model], batch, threads, seconds, folder / f"{model}.{batch}.onnx")
        case _:
            raise ValueError(f"{peer} has no mode {mode}")


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    figures = run(
        job["peer"], job["mode"], job["model"], job["batch"], job["threads"], job["seconds"], Path(job["folder"])
    )
    print(json.dumps(figures))
