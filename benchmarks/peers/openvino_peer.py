"""OpenVINO on a model that PyTorch has exported."""

from __future__ import annotations

import sys
from pathlib import Path

from catalogue import Entry
from clock import peak_memory_mb, since_process_start, time_latency
from peers import Figures, exported

# Importing OpenVINO would write to the home folder and report the run over the network while it is timed.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402


def infer(entry: Entry, batch: int, threads: int, seconds: float, path: Path) -> Figures:
    """Times one forward pass to the logits, which must be those of PyTorch. Inputs stay bound, outputs are not copied.

    Left alone, OpenVINO computes in bf16 on processors that have it.
    """
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    feed = exported.feed(entry, batch)  # kept here: the request does not keep the arrays bound to it
    for name, array in feed.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    logits = request.infer(share_outputs=True)[0]
    first = since_process_start()
    exported.check(logits, path)
    figures = time_latency(lambda: request.infer(share_outputs=True), seconds)
    return {"first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}
