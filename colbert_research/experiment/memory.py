"""The largest memory that a block of this process held."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
