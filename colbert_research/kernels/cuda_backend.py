"""Kernels on a CUDA device, for `Ragged` whose values lie there; NumPy arrays are copied there and the scores back.

`kernels.maxsim` comes here by itself when the documents' values are torch tensors or CuPy arrays on a device; scores are then
of the same framework and stay there. Documents keep their type (float16, bfloat16 or float32; others become float32) and
queries are converted to it. Widths that are not a multiple of 16 are copied with zeros appended, at every call.
"""

from typing import Any
from weakref import WeakKeyDictionary

from colbert_research.kernels.cuda import dense
from colbert_research.kernels.cuda.arrays import Array, Place, converted, place_of, to_numpy, type_name, upload, widened
from colbert_research.kernels.cuda.launch import home
from colbert_research.kernels.operands import Places
from colbert_research.ragged import Ragged

_offsets: WeakKeyDictionary[Ragged, dict[Place, Array]] = WeakKeyDictionary()


def maxsim(queries: Ragged, documents: Ragged, only: Places = None) -> Any:
    """See `kernels.maxsim`; `(n_queries, n_documents)` float32 of the framework of the documents' values."""
    given = place_of(documents.values)
    place = given if given.device is not None else home(given)
    kind = type_name(documents.values) if type_name(documents.values) in dense.TYPES else "float32"
    asked, stored = (_values(ragged, kind, place) for ragged in (queries, documents))
    longest = int(queries.lengths.max(initial=0))
    places = None if only is None else converted(only, "int64", place)
    offsets = offsets_at(queries, place), offsets_at(documents, place)
    scores = dense.maxsim(asked, offsets[0], stored, offsets[1], longest_query=longest, only=places)
    return scores if given == place else to_numpy(scores)


def offsets_at(ragged: Ragged, place: Place) -> Array:
    """The offsets at `place`, copied there once for each `Ragged`."""
    known = _offsets.setdefault(ragged, {})
    if place not in known:
        known[place] = upload(ragged.offsets, place)
    return known[place]


def _values(ragged: Ragged, kind: str, place: Place) -> Array:
    values = converted(ragged.values, kind, place)
    return widened(values, -(-int(values.shape[1]) // 16) * 16, place)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(f"the backend cuda has no kernel {name!r}; bring the arrays to the CPU (numpy) and use backend='auto'")
