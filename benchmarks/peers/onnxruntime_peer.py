"""ONNX Runtime on a model that PyTorch has exported."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from catalogue import Entry
from clock import peak_memory_mb, since_process_start, time_latency
from peers import Figures, exported

WARNINGS_OFF = 3


def infer(entry: Entry, batch: int, threads: int, seconds: float, path: Path) -> Figures:
    """Times one forward pass to the logits, which must be those of PyTorch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = WARNINGS_OFF
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = exported.feed(entry, batch)
    logits = session.run(None, feed)[0]
    first = since_process_start()
    exported.check(logits, path)
    figures = time_latency(lambda: session.run(None, feed), seconds)
    return {"first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}
