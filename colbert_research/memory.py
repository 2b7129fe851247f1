"""The largest memory that a block of this process held, and how much there is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from colbert_research.threads import control_groups

PROCESS, MODEL = 0.4e9, 2.2e9
"""Bytes of a process with its libraries; of one with a model of the size of BERT and a batch."""
INTERVAL = 0.02  # seconds between looks, where the system does not keep the maximum itself
_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Peak:
    """`bytes`: the largest resident size while the block ran, what was there before included."""

    bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure a block: by the kernel's own high-water mark, set back at the start (Linux); elsewhere by looking often."""
    peak = Peak()
    if _set_back():
        yield peak
        peak.bytes = _high_water()
        return
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, stop), daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def available_memory() -> int:
    """Bytes that new processes may take: what the system has without swapping, or less where a control group limits it."""
    import psutil

    found = [psutil.virtual_memory().available]
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    for limit, used, stat in control_groups("memory", ("memory.max", "memory.current", "memory.stat"), version_1):
        with suppress(ValueError):  # "max", which is none
            entries = dict(line.split() for line in stat.splitlines())
            files = int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))  # given back when asked for
            found.append(int(limit) - int(used) + files)
    return max(0, min(found))


def _set_back() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return _STATUS.is_file()


def _high_water() -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _watch(peak: Peak, stop: threading.Event) -> None:
    import psutil

    process = psutil.Process()
    while True:
        peak.bytes = max(peak.bytes, int(process.memory_info().rss))
        if stop.wait(INTERVAL):
            return
