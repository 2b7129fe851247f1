"""Arrays of NumPy, torch and CuPy as the kernels see them: a pointer, a type, a place. No copies, no framework imported."""

import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Framework = Literal["numpy", "torch", "cupy"]
Array = Any
"""A NumPy or CuPy array, or a torch tensor."""


@dataclass(frozen=True)
class Place:
    """Where an array lies: its framework, and the number of its CUDA device or None for the processor's memory."""

    framework: Framework
    device: int | None


def framework_of(array: Array) -> Framework:
    """Raises TypeError for what is no array."""
    if isinstance(array, np.ndarray):
        return "numpy"
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(array, torch.Tensor):
        return "torch"
    if cupy is not None and isinstance(array, cupy.ndarray):
        return "cupy"
    raise TypeError(f"expected a NumPy or CuPy array or a torch tensor; given {type(array).__module__}.{type(array).__name__}")


def place_of(array: Array) -> Place:
    framework = framework_of(array)
    if framework == "cupy":
        return Place("cupy", int(array.device.id))
    if framework == "torch" and array.device.type not in ("cpu", "cuda"):
        raise ValueError(f"the backend cuda takes tensors on CUDA devices; given one on {array.device}")
    if framework == "torch" and array.device.type == "cuda":
        return Place("torch", int(array.device.index or 0))
    return Place(framework, None)


def common_place(**arrays: Array | None) -> Place:
    """The place of all arrays (None is left out); raises ValueError naming two that differ."""
    devices = {name: place_of(array) for name, array in arrays.items() if array is not None}
    first, *others = devices.items()
    for name, place in others:
        if place != first[1]:
            raise ValueError(
                f"{first[0]} lies in {describe(first[1])} and {name} in {describe(place)}; bring both to one device"
            )
    return first[1]


def describe(place: Place) -> str:
    return f"{place.framework} on " + ("the CPU" if place.device is None else f"CUDA device {place.device}")


def type_name(array: Array) -> str:
    """The element type: `float32`, `float16`, `bfloat16`, `int64` ..."""
    return str(array.dtype).removeprefix("torch.")


def pointer(array: Array | None) -> int:
    """The address of the first element; 0 for None."""
    if array is None:
        return 0
    if framework_of(array) == "torch":
        return int(array.data_ptr())
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def check(array: Array, name: str, *, types: tuple[str, ...], ndim: int, alignment: int = 1) -> None:
    """Raises TypeError or ValueError, naming the array, for another type, number of axes, layout or alignment."""
    framework = framework_of(array)
    if type_name(array) not in types:
        raise TypeError(f"{name} must be {' or '.join(types)}; given {type_name(array)}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes; given shape {tuple(array.shape)}")
    contiguous = array.is_contiguous() if framework == "torch" else array.flags.c_contiguous
    if not contiguous:
        raise ValueError(f"{name} must be contiguous (rows one after another); call .contiguous() or numpy.ascontiguousarray")
    if pointer(array) % alignment:
        raise ValueError(f"{name} must start at a multiple of {alignment} bytes; copy it (.clone() or .copy())")


def empty(shape: tuple[int, ...], kind: str, place: Place) -> Array:
    """A new array of the place's framework, so that its memory comes from the caller's allocator; contents are undefined."""
    if place.framework == "torch":
        import torch

        device = "cpu" if place.device is None else f"cuda:{place.device}"
        return torch.empty(shape, dtype=getattr(torch, kind), device=device)
    if place.framework == "cupy":
        import cupy

        with cupy.cuda.Device(place.device):
            return cupy.empty(shape, kind)
    return np.empty(shape, kind)


def full(shape: tuple[int, ...], kind: str, place: Place, value: int) -> Array:
    """A new array that holds `value` everywhere, by one operation (assigning to all of a tensor takes two)."""
    array = empty(shape, kind, place)
    (array.fill_ if place.framework == "torch" else array.fill)(value)
    return array


def upload(array: np.ndarray[Any, Any], place: Place) -> Array:
    """A NumPy array at `place`; the very array, where that is NumPy."""
    if place.framework == "torch":
        import torch

        tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))  # torch warns of memory that is read-only
        return tensor if place.device is None else tensor.to(f"cuda:{place.device}")
    if place.framework == "cupy":
        import cupy

        with cupy.cuda.Device(place.device):
            return cupy.asarray(array)
    return array


def converted(array: Array, kind: str, place: Place) -> Array:
    """The array as contiguous `kind` at `place`; itself, where it is that already.

    Raises ValueError for an array on a device other than the place's: copies between devices are the caller's to ask for.
    """
    given = place_of(array)
    if given.device is not None and given != place:
        raise ValueError(f"an array lies in {describe(given)} and others in {describe(place)}; bring both to one device")
    if given.framework == "torch":
        import torch

        array = array.to(getattr(torch, kind)).contiguous()
        if given == place:
            return array
        if place.framework == "torch":
            return array.to(f"cuda:{place.device}" if place.device is not None else "cpu")
        if kind == "bfloat16":
            raise ValueError(f"{place.framework} has no bfloat16; give {describe(place)} arrays of float16 or float32")
        array = array.numpy()
    if place.framework == "torch" and kind == "bfloat16":  # NumPy has no such type
        return converted(upload(np.ascontiguousarray(array, np.float32), place), kind, place)
    contiguous = array.astype(kind, order="C", copy=False)
    return contiguous if given == place else upload(contiguous, place)


def widened(array: Array, width: int, place: Place) -> Array:
    """Rows `(n, dim)` with zeros appended up to `width`; the array itself, where it has that width."""
    if array.shape[1] == width:
        return array
    wide = empty((len(array), width), type_name(array), place)
    wide[:, array.shape[1] :] = 0
    wide[:, : array.shape[1]] = array
    return wide


def copied(array: Array) -> Array:
    """A copy where the array lies."""
    return array.clone() if framework_of(array) == "torch" else array.copy()


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """A copy in the processor's memory."""
    copies = {"torch": lambda: array.cpu().numpy(), "cupy": lambda: array.get(), "numpy": lambda: array.copy()}
    found: np.ndarray[Any, Any] = copies[framework_of(array)]()
    return found


def column_maxima(array: Array) -> Array:
    """The greatest of each column of `(n, width)`, n at least 1: `(width,)`."""
    return array.amax(0) if framework_of(array) == "torch" else array.max(axis=0)


def numbers(low: int, high: int, place: Place) -> Array:
    """The numbers from `low` to `high` (exclusive): int64."""
    if place.framework == "torch":
        import torch

        return torch.arange(low, high, device="cpu" if place.device is None else f"cuda:{place.device}")
    if place.framework == "cupy":
        import cupy

        with cupy.cuda.Device(place.device):
            return cupy.arange(low, high)
    return np.arange(low, high)


def rank_among(others: Array, values: Array) -> Array:
    """How many of `others` `(n,)`, which ascend, are not above each of `values`: int64."""
    return sys.modules[framework_of(others)].searchsorted(others, values, side="right")


def marked(marks: Array) -> Array:
    """The positions of what is True in `(n,)` bool, ascending: int64. Waits for the device."""
    return marks.nonzero()[:, 0] if framework_of(marks) == "torch" else marks.nonzero()[0]


def ascending(array: Array) -> Array:
    """`(n,)` numbers in ascending order."""
    if framework_of(array) == "torch":
        return array.sort().values
    return sys.modules[framework_of(array)].sort(array)
