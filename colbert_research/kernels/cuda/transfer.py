"""From the processor's memory to a device while the device computes: pinned memory, two sets of buffers, a stream of copies."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from colbert_research.kernels.cuda.arrays import Array, Place, pointer, upload
from colbert_research.kernels.cuda.launch import current, stream_at

BUFFERS = 2
PIECE = 64 * 2**20  # bytes that are copied together, where nothing has to overlap
Arrays = Mapping[str, NDArray[Any]]


def pinned(shape: tuple[int, ...], kind: DTypeLike, place: Place) -> NDArray[Any]:
    """A new array in the processor's memory that the device at `place` can copy from by itself; contents are undefined."""
    if place.device is None:
        return np.empty(shape, kind)
    from cupyx import empty_pinned  # type: ignore[import-not-found]

    array: NDArray[Any] = empty_pinned(shape, np.dtype(kind))
    return array


def conveyed(sources: Sequence[tuple[int, Arrays]], buffers: Sequence[Mapping[str, Array]], lane: "Lane") -> Iterator[int]:
    """Copy each `(slot, arrays)` to the first rows of `buffers[slot]`; gives its number as soon as what is launched from then
    on finds it there.

    It lies there until the next number is asked for. While work on it runs, the next one is copied, if its slot is another: on
    the device, a copy waits for the work on what lay there before, and work for its copy. The processor waits for neither.
    """
    lane.begin()
    try:
        copied = 0
        for i, (slot, _) in enumerate(sources):
            for ahead in range(copied, min(i + 2, len(sources))):
                target, source = sources[ahead]
                if ahead == i or target != slot:
                    lane.copy(target, source, buffers[target])
                    copied = ahead + 1
            lane.arrived(slot)
            yield i
            lane.done(slot)
    finally:
        lane.finish()


def fill(target: Array, first: int, rows: NDArray[Any], place: Place) -> None:
    """Copy rows to `target` from its row `first` on, a piece at a time."""
    step = max(1, PIECE // max(1, rows[:1].nbytes))
    for low in range(0, len(rows), step):
        piece = rows[low : low + step]
        target[first + low : first + low + len(piece)] = upload(piece, place)


def synchronize(place: Place) -> None:
    """Wait until the device has done what was launched at `place`; nothing to wait for where kernels are emulated."""
    if place.device is not None:
        with current(place):
            stream_at(place).synchronize()


def free_bytes(place: Place) -> int | None:
    """Bytes of the device's memory that nobody uses; None where kernels are emulated."""
    if place.device is None:
        return None
    import cupy

    with current(place):
        return int(cupy.cuda.runtime.memGetInfo()[0])


class Lane(Protocol):
    """Copies into numbered slots. `arrived`: work launched from now on waits for the slot's copy. `done`: the slot's next copy
    waits for the work launched until now. `begin`, `finish`: around the copies of one search."""

    def begin(self) -> None: ...
    def copy(self, slot: int, source: Arrays, target: Mapping[str, Array]) -> None: ...
    def arrived(self, slot: int) -> None: ...
    def done(self, slot: int) -> None: ...
    def finish(self) -> None: ...


class HostLane:
    """Copies at once: what the emulator computes on."""

    def begin(self) -> None:
        pass

    def copy(self, slot: int, source: Arrays, target: Mapping[str, Array]) -> None:
        for name, array in source.items():
            rows = np.asarray(target[name])  # of a torch tensor: the same memory
            rows[: len(array)] = array

    def arrived(self, slot: int) -> None:
        pass

    def done(self, slot: int) -> None:
        pass

    def finish(self) -> None:
        pass


class CudaLane:
    """A stream of copies beside the stream that kernels are launched on, and two events for each slot."""

    def __init__(self, place: Place) -> None:
        import cupy

        self._cupy, self._place = cupy, place
        with current(place):
            self._copies = cupy.cuda.Stream(non_blocking=True)
            self._arrived, self._done = ([cupy.cuda.Event(disable_timing=True) for _ in range(BUFFERS)] for _ in range(2))

    def begin(self) -> None:
        for slot in range(BUFFERS):
            self._copies.wait_event(self._done[slot])  # of the search before, whatever stream it computed on
            self.done(slot)

    def copy(self, slot: int, source: Arrays, target: Mapping[str, Array]) -> None:
        with current(self._place):
            runtime = self._cupy.cuda.runtime
            self._copies.wait_event(self._done[slot])
            for name, array in source.items():
                to, size = pointer(target[name]), array.nbytes
                runtime.memcpyAsync(to, array.ctypes.data, size, runtime.memcpyHostToDevice, self._copies.ptr)
            self._arrived[slot].record(self._copies)

    def arrived(self, slot: int) -> None:
        with current(self._place):
            stream_at(self._place).wait_event(self._arrived[slot])

    def done(self, slot: int) -> None:
        with current(self._place):
            self._done[slot].record(stream_at(self._place))

    def finish(self) -> None:
        self._copies.synchronize()


def lane_to(place: Place) -> Lane:
    """A lane of the device at `place`."""
    return HostLane() if place.device is None else CudaLane(place)
