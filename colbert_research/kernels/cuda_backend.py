"""Kernels on a CUDA device, for arrays that lie there; NumPy arrays are copied there and the results back.

The operations of `kernels` come here by themselves when what there is most of (documents' values, codes, centroid ids, scores,
lists) are torch tensors or CuPy arrays on a device; results are then of the same framework and stay there. Documents keep
their type (float16, bfloat16 or float32; others become float32) and queries are converted to it. Widths that are not a
multiple of 16 are copied with zeros appended, at every call. Over codes, for centroid interaction and for assignment the
results are those of the backend cpu, bit for bit. `topk` and `union` wait for the device, as the size of their result is found
there; the functions of `cuda.select` and `cuda.union` do not.
"""

from typing import Any
from weakref import WeakKeyDictionary

from colbert_research.kernels.cuda import assign as nearest
from colbert_research.kernels.cuda import codes, dense, interaction, select
from colbert_research.kernels.cuda import union as lists_union
from colbert_research.kernels.cuda.arrays import Array, Place, converted, place_of, to_numpy, type_name, upload, widened
from colbert_research.kernels.cuda.launch import home
from colbert_research.kernels.operands import CodedTokens, Places
from colbert_research.ragged import Ragged

_offsets: WeakKeyDictionary[Ragged | CodedTokens, dict[Place, Array]] = WeakKeyDictionary()


def maxsim(queries: Ragged, documents: Ragged, only: Places = None) -> Any:
    """See `kernels.maxsim`; `(n_queries, n_documents)` float32 of the framework of the documents' values."""
    given, place = _places(documents.values)
    kind = type_name(documents.values) if type_name(documents.values) in dense.TYPES else "float32"
    asked, stored = (_values(ragged, kind, place) for ragged in (queries, documents))
    longest = int(queries.lengths.max(initial=0))
    places = None if only is None else upload(only, place)
    offsets = offsets_at(queries, place), offsets_at(documents, place)
    scores = dense.maxsim(asked, offsets[0], stored, offsets[1], longest_query=longest, only=places)
    return _back(scores, given, place)


def offsets_at(ragged: Ragged | CodedTokens, place: Place) -> Array:
    """The offsets at `place`, copied there once for each `Ragged` or `CodedTokens`."""
    known = _offsets.setdefault(ragged, {})
    if place not in known:
        known[place] = upload(ragged.offsets, place)
    return known[place]


def _values(ragged: Ragged, kind: str, place: Place) -> Array:
    values = converted(ragged.values, kind, place)
    return widened(values, -(-int(values.shape[1]) // 16) * 16, place)


def maxsim_codes(queries: Ragged, tokens: CodedTokens, only: Places = None) -> Any:
    """See `kernels.maxsim_codes`; `(n_queries, n_documents)` float32 of the framework of the codes."""
    given, place = _places(tokens.codes)
    scores = codes.maxsim_codes(
        converted(queries.values, "float32", place),
        offsets_at(queries, place),
        codes.table_at(tokens.table, place),
        converted(tokens.codes, "uint8", place),
        offsets_at(tokens, place),
        longest_query=int(queries.lengths.max(initial=0)),
        centroid_ids=None if tokens.centroid_ids is None else _ids(tokens.centroid_ids, place),
        inverse_norms=None if tokens.inverse_norms is None else converted(tokens.inverse_norms, "float16", place),
        only=None if only is None else upload(only, place),
    )
    return _back(scores, given, place)


def centroid_interaction(scores: Array, tokens: Ragged, kept: Array | None, only: Places = None) -> Any:
    """See `kernels.centroid_interaction`; of the framework of the tokens' centroid ids."""
    given, place = _places(tokens.values)
    found = interaction.centroid_interaction(
        converted(scores, "float32", place),
        _ids(tokens.values, place),
        offsets_at(tokens, place),
        kept=None if kept is None else converted(kept, "bool", place),
        only=None if only is None else upload(only, place),
    )
    return _back(found, given, place)


def dot_products(query: Array, rows: Array) -> Any:
    """See `kernels.dot_products`."""
    given, place = _places(rows)
    return _back(codes.dot_products(converted(query, "float32", place), converted(rows, "float32", place)), given, place)


def topk(scores: Array, k: int) -> Any:
    """See `kernels.topk`."""
    given, place = _places(scores)
    places, found = select.topk(converted(scores, "float32", place)[None], k)
    n = int(found[0])
    if n < 0:
        raise ValueError("a score is not a number (NaN); look for NaN or infinite token vectors")
    return _back(places[0, :n], given, place)


def greatest(scores: Array, n: int) -> Any:
    """See `kernels.greatest`."""
    given, place = _places(scores)
    return _back(select.greatest(converted(scores, "float32", place), n), given, place)


def union(lists: Ragged, chosen: Array, n_documents: int) -> Any:
    """See `kernels.union`."""
    given, place = _places(lists.values)
    documents, asked = converted(lists.values, "int32", place), converted(chosen, "int64", place)
    places, found = lists_union.union(documents, offsets_at(lists, place), asked, n_documents)
    return _back(places[: int(found[0])], given, place)


def assign(vectors: Array, centroids: Array) -> Any:
    """See `kernels.assign`."""
    given, place = _places(vectors)
    return _back(nearest.assign(converted(vectors, "float32", place), converted(centroids, "float32", place)), given, place)


def _places(array: Array) -> tuple[Place, Place]:
    """Where an array lies, and where it is computed on."""
    given = place_of(array)
    return given, given if given.device is not None else home(given)


def _back(result: Array, given: Place, place: Place) -> Any:
    return result if given == place else to_numpy(result)


def _ids(ids: Array, place: Place) -> Array:
    return converted(ids, "uint16" if type_name(ids) == "uint16" else "int32", place)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(f"the backend cuda has no kernel {name!r}; bring the arrays to the CPU (numpy) and use backend='auto'")
