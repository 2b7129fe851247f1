"""Devices: what launches a kernel. A GPU through CuPy, on the stream of the caller's framework; in tests, an emulator.

All Python above this file is the same for both, so every operation's checks, preparation and grid are tested without a GPU.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from time import monotonic
from typing import Any, Protocol

import numpy as np

from colbert_research.kernels.cuda import compile as compiler
from colbert_research.kernels.cuda.arrays import Place, describe, pointer

LOOK = 0.2  # seconds: asking for the times of a few files takes as long as a launch


@dataclass(frozen=True)
class Kernel:
    """One instance of a kernel: its source file in this folder and its name expression, such as `scale<half, 128>`."""

    source: str
    name: str


class Device(Protocol):
    """What launches kernels.

    `multiprocessors`: how many blocks run side by side, at least. `shared_limit`: bytes of dynamic shared memory that a block
    may have. `launch`: `grid` and `block` have up to three sizes; `arguments` are arrays (their address is handed over), None
    (a null pointer) and NumPy scalars whose types are the kernel's parameters'.
    """

    @property
    def multiprocessors(self) -> int: ...
    @property
    def shared_limit(self) -> int: ...
    def launch(
        self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], shared: int, arguments: Sequence[Any]
    ) -> None: ...


_host: Device | None = None


@contextmanager
def emulated(device: Device) -> Iterator[None]:
    """While the block runs, arrays in the processor's memory are computed on by `device`."""
    global _host
    before, _host = _host, device
    try:
        yield
    finally:
        _host = before


def device_of(place: Place) -> Device:
    """The device that computes on arrays at `place`; raises ValueError for arrays in the processor's memory."""
    if place.device is not None:
        return _gpu(place)
    if _host is None:
        raise ValueError(f"the backend cuda takes arrays on a CUDA device; given {describe(place)}. Move them, or use 'auto'")
    return _host


def gpu_is_here() -> bool:
    """Whether CuPy is installed and finds a CUDA device."""
    if find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


def missing() -> str | None:
    """What is missing for computing on a device, as a clause; None where there is one, or kernels are emulated."""
    if _host is not None or gpu_is_here():
        return None
    return "CuPy is not installed" if find_spec("cupy") is None else "CuPy finds no CUDA device"


def home(given: Place) -> Place:
    """Where arrays in the processor's memory are computed on: the first CUDA device, or where they lie, when emulated."""
    if _host is not None:
        return given
    if not gpu_is_here():
        raise RuntimeError(
            "the backend cuda needs a CUDA device and CuPy (pip install 'colbert-research[cuda13]', or cuda12), and does not "
            "find both; use backend 'auto'"
        )
    torch = sys.modules.get("torch")
    return Place("torch" if torch is not None and torch.cuda.is_available() else "cupy", 0)


def stream_at(place: Place) -> Any:
    """The CuPy stream on which kernels for arrays at `place`, on a GPU, are launched now."""
    return _gpu(place).stream()


def current(place: Place) -> Any:
    """While the block runs, the GPU at `place` is the current device: it is that one's default stream which CUDA means."""
    import cupy

    return cupy.cuda.Device(place.device)


def scalars(arguments: Sequence[Any]) -> list[Any]:
    """Arguments with every array and None replaced by its address, as uint64."""
    return [argument if isinstance(argument, np.generic) else np.uint64(pointer(argument)) for argument in arguments]


@dataclass(frozen=True)
class _Stream:
    """A stream of another framework, by the protocol that CUDA libraries share."""

    handle: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


@lru_cache
def _gpu(place: Place) -> "Gpu":
    return Gpu(place)


class Gpu:
    """A CUDA device; kernels are launched on the framework's current stream.

    One is compiled and loaded when it is first launched, and again when its source or a header was edited since: files are
    looked at every `LOOK` seconds.
    """

    def __init__(self, place: Place) -> None:
        import cupy

        self._cupy, self._place, self._device = cupy, place, cupy.cuda.Device(place.device)
        self._sources: dict[str, tuple[compiler.Source, float]] = {}  # and when it was last looked at
        self._functions: dict[tuple[str, str], Any] = {}  # by hash of the source and name expression
        self._streams: dict[int, Any] = {}

    @cached_property
    def architecture(self) -> str:
        capability = str(self._device.compute_capability)
        return compiler.architecture_of((int(capability[:-1]), int(capability[-1])))

    @cached_property
    def multiprocessors(self) -> int:
        return int(self._device.attributes["MultiProcessorCount"])

    @cached_property
    def shared_limit(self) -> int:
        return int(self._device.attributes["MaxSharedMemoryPerBlockOptin"])

    def launch(
        self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], shared: int, arguments: Sequence[Any]
    ) -> None:
        with current(self._place), self.stream():
            function = self._function(kernel)
            if shared > 48 * 1024 and function.max_dynamic_shared_size_bytes < shared:
                function.max_dynamic_shared_size_bytes = shared  # beyond 48 KiB, a kernel has to ask
            function(grid, block, tuple(scalars(arguments)), shared_mem=shared)

    def _function(self, kernel: Kernel) -> Any:
        source, looked = self._sources.get(kernel.source, (None, 0.0))
        if source is None or monotonic() >= looked + LOOK:
            looked = monotonic()
            source = compiler.Source.read(kernel.source) if source is None or source.changed else source
            self._sources[kernel.source] = source, looked
        key = source.digest, kernel.name
        if key not in self._functions:
            binary = compiler.compiled(source.text, [kernel.name], self.architecture)
            self._functions[key] = self._cupy.RawModule(path=str(binary.path)).get_function(binary.names[kernel.name])
        return self._functions[key]

    def stream(self) -> Any:
        """The stream that the caller's framework computes on now."""
        if self._place.framework != "torch":
            return self._cupy.cuda.get_current_stream(self._place.device)
        import torch

        # the public torch.cuda.current_stream() costs microseconds, as much as a launch
        raw = int(torch._C._cuda_getCurrentRawStream(self._place.device or 0))
        if raw not in self._streams:
            streams = self._cupy.cuda
            known = hasattr(streams.Stream, "from_external")  # since CuPy 14, where the older way is deprecated
            made = streams.Stream.from_external(_Stream(raw)) if known else streams.ExternalStream(raw, self._place.device)
            self._streams[raw] = made
        return self._streams[raw]


def grid_of(arrays: int, block: int, device: Device, *, waves: int) -> int:
    """Blocks for `arrays` pieces of work, `block` at a time, at most `waves` for each multiprocessor and at least one."""
    return max(1, min(-(-arrays // block), waves * device.multiprocessors))
