"""The counters and times of a server, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # one more series for each, with the time of its first value
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.answers = Counter("dlc_responses", "responses by status", ["status"], registry=registry)
        self.rows = Counter("dlc_rows", "rows that were predicted", registry=registry)
        self.seconds = Histogram(
            "dlc_inference_seconds",
            "from the body of a request to its outputs, of those answered by 200",
            buckets=_SECONDS,
            registry=registry,
        )
        self.computing = Histogram(
            "dlc_computing_seconds", "the computation of a batch", buckets=_SECONDS, registry=registry
        )
        self.batch_rows = Histogram("dlc_batch_rows", "rows of a batch", buckets=_ROWS, registry=registry)
        self.pending = Gauge("dlc_pending_requests", "requests that wait for a batch", registry=registry)
        self.connections = Gauge("dlc_connections", "open connections", registry=registry)
        self.cut_off = Counter("dlc_connections_refused", "connections ended by a limit", ["limit"], registry=registry)
        self.reloads = Counter("dlc_reloads", "models that took the place of another", ["result"], registry=registry)
        self._model = Gauge("dlc_model_info", "the model that is served", ["model", "version"], registry=registry)
        self._of_status = {status: self.answers.labels(str(status)) for status in (200, 400, 422, 429)}

    def answered(self, status: int) -> None:
        counter = self._of_status.get(status)
        (self.answers.labels(str(status)) if counter is None else counter).inc()

    def serves(self, model: str, version: str) -> None:
        self._model.clear()
        self._model.labels(model, version).set(1)

    def text(self) -> bytes:
        return generate_latest(self._registry)
