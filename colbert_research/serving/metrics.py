"""What a server counts, in Prometheus' form."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colbert_research.serving.current import Current

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999999)
NOT_HERE = "other"
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
"""The type of what `Metrics.text` gives."""


class Metrics:
    """Counters of one server; those of its process beside them, where the system tells them.

    All names begin with `colbert_research_`, but for the process's own, which have the names that Prometheus gives them.
    """

    def __init__(self, current: Current) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests that were answered, by path and status", "path", "status")
        self.seconds = Histogram(
            "colbert_research_request_seconds",
            "Seconds from a request to the end of its response",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queries = self._counter("queries", "Queries that were searched for")
        self.found = self._counter("hits", "Documents that were found, of all queries together")
        self.share = Histogram(
            "colbert_research_answered_share",
            "Share of the index's documents that were looked for, of each search; 1 but for shards that did not answer",
            buckets=SHARES,
            registry=self.registry,
        )
        self.in_flight = self._gauge("in_flight", "Searches that run or wait")
        self._gauge("documents", "Documents of the index").set_function(lambda: current.retriever.index.n_documents)
        self._gauge("generation", "Generation of the index").set_function(lambda: current.retriever.index.generation)
        self._gauge("behind", "1 where the newest generation cannot be opened").set_function(lambda: bool(current.fault))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"colbert_research_{name}", told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str) -> Gauge:
        return Gauge(f"colbert_research_{name}", told, registry=self.registry)


class Metered:
    """An application whose requests are counted. `paths`: those that are told apart; any other is one of `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else NOT_HERE
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)
