"""Copies on a device that outlive the call which made them, whatever streams use them.

The rule, for arrays of torch and of CuPy alike: the stream on which a copy is made is waited for once, so that every stream
finds it whole, also in a graph that is captured. Whoever launches work on it asks for it by `here`, on the stream of that work.
When it is dropped, the stream on which it was made waits for all others that asked: the allocators give freed memory to that
stream's next work. What the replays of a captured graph read is not known here: keep it for as long as there are replays.
"""

from typing import Any, Generic, TypeVar
from weakref import finalize

from colbert_research.kernels.cuda.arrays import Place
from colbert_research.kernels.cuda.launch import current, stream_at

T = TypeVar("T")


class Kept(Generic[T]):
    """One or several arrays at `place`, copied there on the stream that is current now. Nothing else may hold them."""

    def __init__(self, value: T, place: Place) -> None:
        self._value, self._place = value, place
        if place.device is None:  # emulated: there are no streams
            return
        with current(place):
            self._home = stream_at(place)
            self._home.synchronize()
        self._others: dict[int, Any] = {}
        finalize(self, _hand_back, place, self._home, self._others).atexit = False  # runs before the arrays are freed

    def here(self) -> T:
        """What is kept, for work that is launched on the stream that is current now."""
        if self._place.device is not None:
            stream = stream_at(self._place)
            if stream.ptr != self._home.ptr:
                self._others[stream.ptr] = stream
        return self._value


def _hand_back(place: Place, home: Any, others: dict[int, Any]) -> None:
    """Let what is launched on `home` from now on wait for what was launched on the others until now."""
    with current(place):
        for stream in others.values():
            if not stream.is_capturing():  # what is captured does not run now
                home.wait_event(stream.record())
