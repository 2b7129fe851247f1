"""Kernels on a CUDA device, for `Ragged` whose values lie there; NumPy arrays are copied there and the scores back.

The operations of `kernels` come here by themselves when what there is most of (documents' values, codes, centroid ids, scores,
lists) are torch tensors or CuPy arrays on a device; results are then of the same framework and stay there. Documents keep
their type (float16, bfloat16 or float32; others become float32) and queries are converted to it. Widths that are not a
multiple of 16 are copied with zeros appended, at every call.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from colbert_research.kernels.cuda import codes, dense, interaction, products
from colbert_research.kernels.cuda import tally as tallies
from colbert_research.kernels.cuda import topk as select
from colbert_research.kernels.cuda.arrays import (
    Array,
    Place,
    converted,
    full,
    marked,
    numbers,
    place_of,
    rank_among,
    to_numpy,
    type_name,
    upload,
    widened,
)
from colbert_research.kernels.cuda.kept import Kept
from colbert_research.kernels.cuda.launch import home
from colbert_research.kernels.cuda.tally import Tally
from colbert_research.kernels.operands import CodedTokens, Selection
from colbert_research.ragged import Ragged

PIECE = 2**24  # rows of inverted lists that are looked up together

_offsets: WeakKeyDictionary[Ragged | CodedTokens, dict[Place, Kept[Array]]] = WeakKeyDictionary()


def maxsim(queries: Ragged, documents: Ragged, only: Selection = None, *, tally: Tally | None = None) -> Any:
    """See `kernels.maxsim`; `(n_queries, n_documents)` float32 of the framework of the documents' values."""
    given = place_of(documents.values)
    place = given if given.device is not None else home(given)
    kind = type_name(documents.values) if type_name(documents.values) in dense.TYPES else "float32"
    asked, stored = (_values(ragged, kind, place) for ragged in (queries, documents))
    longest = int(queries.lengths.max(initial=0))
    positions = None if only is None else converted(only, "int64", place)
    offsets = offsets_at(queries, place), offsets_at(documents, place)
    scores = dense.maxsim(asked, offsets[0], stored, offsets[1], longest_query=longest, only=positions, tally=tally)
    return scores if given == place else to_numpy(scores)


def offsets_at(ragged: Ragged | CodedTokens, place: Place) -> Array:
    """The offsets at `place`, for work on the current stream (`Kept`), copied there once for each `Ragged` or `CodedTokens`."""
    known = _offsets.setdefault(ragged, {})
    if place not in known:
        known[place] = Kept(upload(ragged.offsets, place), place)
    return known[place].here()


def _values(ragged: Ragged, kind: str, place: Place) -> Array:
    values = converted(ragged.values, kind, place)
    return widened(values, -(-int(values.shape[1]) // 16) * 16, place)


def maxsim_codes(
    queries: Ragged,
    tokens: CodedTokens,
    only: Selection = None,
    *,
    centroid_scores: str = "float32",
    tally: Tally | None = None,
) -> Any:
    """See `kernels.maxsim_codes`; `(n_queries, n_documents)` float32 of the framework of the codes, with the bits of `cpu`.

    `centroid_scores`: "float16" is faster for codes of few bits, and less exact; see `cuda.codes.maxsim_codes`.
    """
    place, ids, norms = _place_for(tokens.codes), tokens.centroid_ids, tokens.inverse_norms
    scores = codes.maxsim_codes(
        converted(queries.values, "float32", place),
        offsets_at(queries, place),
        codes.table_at(tokens.table, place),
        converted(tokens.codes, "uint8", place),
        offsets_at(tokens, place),
        longest_query=int(queries.lengths.max(initial=0)),
        centroid_ids=None if ids is None else converted(ids, "uint16" if type_name(ids) == "uint16" else "int32", place),
        inverse_norms=None if norms is None else converted(norms, "float16", place),
        only=None if only is None else converted(only, "int64", place),
        centroid_scores=centroid_scores,
        tally=tally,
    )
    return _brought_back(scores, place, tokens.codes)


def tally_for(queries: Ragged, values: Any) -> Tally:
    """Counts for the scores of these queries, to be filled while documents with `values` are scored, and then for `best`."""
    return tallies.tally_for(len(queries), int(queries.lengths.max(initial=0)), _place_for(values))


def best(scores: Any, tally: Tally, k: int) -> tuple[Any, Any, Any]:
    """The `k` best of each query of scores that the kernels counted in `tally`: see `cuda.tally.best`."""
    return tallies.best(scores, tally, k)


def topk(scores: Any, k: int) -> Any:
    """See `kernels.topk`; at most `cuda.topk.MOST`."""
    place = _place_for(scores)
    return _brought_back(select.topk(converted(scores, "float32", place), k), place, scores)


def greatest(scores: Any, n: int) -> Any:
    """See `kernels.greatest`; at most `cuda.topk.MOST`."""
    place = _place_for(scores)
    return _brought_back(select.greatest(converted(scores, "float32", place), n), place, scores)


def centroid_interaction(
    scores: Any, tokens: Ragged, kept: Any = None, only: Selection = None, *, tally: Tally | None = None
) -> Any:
    """See `kernels.centroid_interaction`; the bits of the backend `cpu`."""
    place = _place_for(tokens.values, scores)
    kind = type_name(tokens.values) if type_name(tokens.values) in interaction.IDS else "int32"
    totals = interaction.centroid_interaction(
        converted(scores, "float32", place),
        converted(tokens.values, kind, place),
        offsets_at(tokens, place),
        kept=None if kept is None else converted(kept, "bool", place),
        only=None if only is None else converted(only, "int64", place),
        tally=tally,
    )
    return _brought_back(totals, place, tokens.values, scores)


def union(lists: Ragged, chosen: Any, n_documents: int) -> Any:
    """See `kernels.union`, by a mark for each document; waits for the device.

    A chosen list that there is not is empty, and documents outside 0 to `n_documents` are left out.
    """
    place = _place_for(lists.values, chosen)
    values, asked = converted(lists.values, "int32", place), np.unique(to_numpy(chosen))
    asked = asked[(asked >= 0) & (asked < len(lists))]
    starts, lengths = lists.offsets[asked], lists.lengths[asked]
    ends = np.cumsum(lengths)
    n_rows, behind = int(lengths.sum()), upload(ends, place)
    shifts = upload(starts - (ends - lengths), place)  # from the place of a row among those asked for to its own
    marks = full((n_documents + 2,), "bool", place, 0)  # one before the first and one after the last, for those left out
    for low in range(0, n_rows, PIECE):
        rows = numbers(low, min(low + PIECE, n_rows), place)
        documents = values[rows + shifts[rank_among(behind, rows)]]
        marks[documents.clip(-1, n_documents) + 1] = True
    return _brought_back(marked(marks[1:-1]), place, lists.values, chosen)


def dot_products(query: Any, rows: Any) -> Any:
    """See `kernels.dot_products`; the bits of the backend `cpu`."""
    place = _place_for(rows, query)
    found = products.dot_products(converted(query, "float32", place), converted(rows, "float32", place))
    return _brought_back(found, place, rows, query)


def assign(vectors: Any, centroids: Any) -> Any:
    """See `kernels.assign`; the ids of the backend `cpu`."""
    place = _place_for(vectors, centroids)
    found = products.assign(converted(vectors, "float32", place), converted(centroids, "float32", place))
    return _brought_back(found, place, vectors, centroids)


def _place_for(*arrays: Array) -> Place:
    """The device on which one of the arrays lies, the first such; else where the first is computed on."""
    devices = [place_of(array) for array in arrays]
    return next((place for place in devices if place.device is not None), None) or home(devices[0])


def _brought_back(result: Array, place: Place, *arrays: Array) -> Array:
    """The result; in the processor's memory, where none of the arrays that were given lies at `place`."""
    return result if place in [place_of(array) for array in arrays] else to_numpy(result)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(f"the backend cuda has no kernel {name!r}; bring the arrays to the CPU (numpy) and use backend='auto'")
