"""How long a call takes on a GPU: in a captured graph, without one, and for the host."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch


class Timer(Protocol):
    """Medians for one of some calls, and which of them is meant: see `on_cuda`."""

    def __call__(self, calls: Sequence[Callable[[], Any]], *, waits: bool = False) -> dict[str, Any]: ...


def on_cuda(calls: Sequence[Callable[[], Any]], repeats: int = 20, *, waits: bool = False) -> dict[str, Any]:
    """Medians for one call: `ms` in a graph of all calls, `eager_ms` without one, `host_us` until it returns.

    `timed` tells which of the two `ms_of` takes: "graph", or "eager" where there is no `ms`, and then `not_captured` tells why.
    `waits`: the calls wait for the device, so that no graph is tried. They run on a stream of their own, which is left again
    also where a capture fails: what is captured must not copy from memory that is not pinned, nor allocate but through torch.
    """
    before, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for call in calls:
            call()
        eager = _median(lambda: [call() for call in calls], repeats) / len(calls)
        found: dict[str, Any] = {"eager_ms": eager, "host_us": _host(calls, repeats)}
        if waits:
            found |= {"timed": "eager", "not_captured": "its calls wait for the device"}
        else:
            found |= _captured(calls, stream, repeats)
    before.wait_stream(stream)
    return found


def _captured(calls: Sequence[Callable[[], Any]], stream: torch.cuda.Stream, repeats: int) -> dict[str, Any]:
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            kept = [call() for call in calls]
    except RuntimeError as error:
        torch.cuda.synchronize()
        why = error.__context__ or error  # the end of a capture that failed fails, too
        return {"timed": "eager", "not_captured": f"{type(why).__name__}: {str(why).splitlines()[0]}"}
    return {"timed": "graph", "ms": _median(graph.replay, repeats) / len(kept)}


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


def _host(calls: Sequence[Callable[[], Any]], repeats: int) -> float:
    """Microseconds until one of the calls returns, of a device that has nothing else to do."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for call in calls:
            call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / len(calls) * 1e6


def ms_of(timed: dict[str, Any]) -> float:
    """Milliseconds of a call, without the host where it could be captured."""
    return timed["ms"] if timed["timed"] == "graph" else timed["eager_ms"]
