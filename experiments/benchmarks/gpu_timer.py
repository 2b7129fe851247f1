"""How long a call takes on a GPU: in a captured graph, without one, and for the host."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

Timer = Callable[[Sequence[Callable[[], Any]]], dict[str, float]]


def on_cuda(calls: Sequence[Callable[[], Any]], repeats: int = 20) -> dict[str, float]:
    """Medians for one call: `ms` in a graph of all calls (none where an engine cannot be captured), `eager_ms`, `host_us`."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for call in calls:
        call()
    host = (time.perf_counter() - started) / len(calls)
    found = {"eager_ms": _median(lambda: [call() for call in calls], repeats) / len(calls), "host_us": host * 1e6}
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = [call() for call in calls]
    except RuntimeError:
        return found
    found["ms"] = _median(graph.replay, repeats) / len(kept)
    return found


def _median(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def ms_of(timed: dict[str, float]) -> float:
    """Milliseconds of a call, without the host where it could be captured."""
    return timed.get("ms", timed["eager_ms"])
