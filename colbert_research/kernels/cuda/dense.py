"""MaxSim over packed token vectors on a device, from arrays to arrays: no copy of them, no wait for the device.

Types float16, bfloat16 and float32; widths that are multiples of 16. Products are exact for the 2 byte types and summed in
float32 by the tensor cores; float32 is multiplied in three parts. The error of a dot product of vectors q and d is at most
`2 dim 2^-23 |q| |d|` and `(3 dim + 6) 2^-23 |q| |d|` respectively; a score is the sum of its maxima in float32.

Offsets stay on the device and are not read here. What they may hold wrongly does no harm: an item's rows are cut to those that
there are, and a place in `only` that names no document scores as a document without tokens.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, Place, check, common_place, empty, type_name
from colbert_research.kernels.cuda.launch import Device, Kernel, device_of, grid_of
from colbert_research.kernels.cuda.tally import Tally
from colbert_research.kernels.cuda.tally import arguments as tallied

TYPES = {"float16": "half", "bfloat16": "bfloat", "float32": "float"}
BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
GROUP = 32  # query tokens that a warp scores at once
WARPS = 8
BATCH_DIMS = (48, 64, 96, 128)
BATCH_FROM = 4
"""From so many groups of query tokens on it pays to stream documents through shared memory (by arithmetic, not measured)."""
BATCH_MOST = 64  # documents of one of its blocks

KERNELS = (
    *(Kernel("dense.cu", f"maxsim<{t}, {a}>") for t, a in product(TYPES.values(), ("false", "true"))),
    *(
        Kernel("batch.cu", f"maxsim_batch<{t}, {dim}, {a}>")
        for t, dim, a in product(("half", "bfloat"), BATCH_DIMS, ("false", "true"))
    ),
    Kernel("batch.cu", "sum_groups"),
    *(Kernel("backward.cu", f"gradient_of_{side}<{t}>") for side, t in product(("queries", "documents"), TYPES.values())),
)


def maxsim(
    queries: Array,
    query_offsets: Array,
    documents: Array,
    document_offsets: Array,
    *,
    longest_query: int,
    only: Array | None = None,
    tally: Tally | None = None,
) -> Array:
    """MaxSim of every query with every document: `(n_queries, n_documents)` float32, of the arguments' framework.

    `queries`, `documents`: `(rows, dim)`, of one type, each starting at a multiple of 16 bytes. Offsets `(n + 1,)` int64 on the
    same device. `longest_query`: the number of tokens that the longest query has at most; a longer one scores NaN or as it
    should. `only` `(n,)` int64: positions of the documents to score. A query without tokens scores 0; a document without tokens
    minus infinity. Scores are counted in `tally`, for `tally.best`. Raises TypeError and ValueError, before anything is
    launched. Source: ColBERT (Khattab and Zaharia 2020), section 3.3, equation 3.
    """
    given = _checked(queries, query_offsets, documents, document_offsets, only=only)
    return _forward(given, longest_query, None, tally)


def maxsim_argmax(
    queries: Array, query_offsets: Array, documents: Array, document_offsets: Array, *, longest_query: int
) -> tuple[Array, Array]:
    """As `maxsim`, and which token was best: `(n_documents, query rows)` int32, counted from the document's first.

    The first of equal tokens; -1 where a document has none, or no product above minus infinity.
    """
    given = _checked(queries, query_offsets, documents, document_offsets)
    argmax = empty((given.n, len(queries)), "int32", given.place)
    return _forward(given, longest_query, argmax), argmax


def maxsim_gradients(
    grad: Array, argmax: Array, queries: Array, query_offsets: Array, documents: Array, document_offsets: Array
) -> tuple[Array, Array]:
    """Gradients of queries and documents, of their types, from that of the scores `(n_queries, n_documents)` float32.

    Sums are in float32 and always in the same order. A document without tokens contributes nothing.
    """
    given = _checked(queries, query_offsets, documents, document_offsets, grad=grad, argmax=argmax)
    check(grad, "grad", types=("float32",), ndim=2)
    check(argmax, "argmax", types=("int32",), ndim=2)
    shapes = {"grad": (given.n_queries, given.n), "argmax": (given.n, len(queries))}
    for name, array in (("grad", grad), ("argmax", argmax)):
        if tuple(array.shape) != shapes[name]:
            raise ValueError(f"{name} must have shape {shapes[name]}, of maxsim_argmax's results; given {tuple(array.shape)}")
    device, kind = device_of(given.place), TYPES[given.type]
    of_queries, of_documents = (empty(tuple(a.shape), given.type, given.place) for a in (queries, documents))
    if given.n_queries == 0 or given.n == 0:
        of_queries[...] = 0
        of_documents[...] = 0
        return of_queries, of_documents
    owner = empty((len(queries),), "int32", given.place)
    rows, n, n_rows, dim = np.int64(len(queries)), np.int64(given.n), np.int64(len(documents)), np.int32(given.dim)
    if len(queries):
        arguments = [grad, argmax, query_offsets, np.int64(given.n_queries), rows]
        arguments += [documents, document_offsets, n, n_rows, dim, of_queries, owner]
        kernel = Kernel("backward.cu", f"gradient_of_queries<{kind}>")
        blocks = grid_of(len(queries), 1, device, waves=64)
        device.launch(kernel, (blocks,), (WARPS * 32,), WARPS * 128 * 4, arguments)
    if len(documents):
        arguments = [grad, argmax, queries, owner, rows, document_offsets, n, n_rows, dim, of_documents]
        kernel = Kernel("backward.cu", f"gradient_of_documents<{kind}>")
        device.launch(kernel, (grid_of(len(documents), WARPS, device, waves=64),), (WARPS * 32,), 0, arguments)
    return of_queries, of_documents


@dataclass(frozen=True)
class _Given:
    """Checked arguments; `n`: documents to score."""

    queries: Array
    query_offsets: Array
    documents: Array
    offsets: Array
    only: Array | None
    place: Place
    type: str
    dim: int

    @property
    def n_queries(self) -> int:
        return len(self.query_offsets) - 1

    @property
    def n(self) -> int:
        return len(self.offsets) - 1 if self.only is None else len(self.only)

    def row_arguments(self) -> tuple[list[Any], list[Any]]:
        asked = [self.queries, self.query_offsets, np.int64(self.n_queries), np.int64(len(self.queries))]
        scored = [self.documents, self.offsets, np.int64(len(self.offsets) - 1), np.int64(len(self.documents))]
        return asked, [*scored, self.only, np.int64(self.n)]


def _checked(
    queries: Array,
    query_offsets: Array,
    documents: Array,
    document_offsets: Array,
    *,
    only: Array | None = None,
    **others: Array,
) -> _Given:
    place = common_place(
        queries=queries,
        query_offsets=query_offsets,
        documents=documents,
        document_offsets=document_offsets,
        only=only,
        **others,
    )
    check(queries, "queries", types=tuple(TYPES), ndim=2, alignment=16)
    check(documents, "documents", types=tuple(TYPES), ndim=2, alignment=16)
    for name, offsets in (("query_offsets", query_offsets), ("document_offsets", document_offsets)):
        check(offsets, name, types=("int64",), ndim=1)
        if len(offsets) == 0:
            raise ValueError(f"{name} must have one number more than there are items, at least one; given none")
    if only is not None:
        check(only, "only", types=("int64",), ndim=1)
    if type_name(queries) != type_name(documents):
        raise TypeError(f"queries and documents must be of one type; given {type_name(queries)} and {type_name(documents)}")
    dim = int(documents.shape[1])
    if int(queries.shape[1]) != dim:
        raise ValueError(f"queries have {queries.shape[1]} dimensions and documents {dim}; encode both with one encoder")
    if dim == 0 or dim % 16:
        raise ValueError(f"the width must be a multiple of 16; given {dim}. Append zeros to queries and documents")
    if len(queries) >= 2**31 or len(query_offsets) > 2**26:
        raise ValueError(f"too many query tokens ({len(queries)}) or queries ({len(query_offsets) - 1}); score them in parts")
    return _Given(queries, query_offsets, documents, document_offsets, only, place, type_name(documents), dim)


def _forward(given: _Given, longest_query: int, argmax: Array | None, tally: Tally | None = None) -> Array:
    if longest_query < 0:
        raise ValueError(f"longest_query must not be negative; given {longest_query}")
    groups = max(1, -(-longest_query // GROUP))
    scores = empty((given.n_queries, given.n), "float32", given.place)
    if given.n_queries == 0 or given.n == 0:
        return scores
    device = device_of(given.place)
    if given.n_queries * groups >= BATCH_FROM and given.dim in BATCH_DIMS and given.type != "float32":
        _many(device, given, groups, scores, argmax, tally)
    else:
        _few(device, given, groups, scores, argmax, tally)
    return scores


def _few(device: Device, given: _Given, groups: int, scores: Array, argmax: Array | None, tally: Tally | None) -> None:
    """A stream of documents for each query."""
    row_bytes = given.dim * BYTES[given.type]
    group_bytes = GROUP * ((row_bytes + 63) // 128 * 128 + 64)
    maxima = WARPS * GROUP * 8  # of a long document's parts
    held = min(groups, (device.shared_limit - maxima) // group_bytes)
    if held < 1:
        room = (device.shared_limit - maxima) // GROUP // BYTES[given.type] // 16 * 16
        raise ValueError(f"{given.dim} dimensions of {given.type} are too many; this device has room for about {room}")
    name = f"maxsim<{TYPES[given.type]}, {'false' if argmax is None else 'true'}>"
    grid = (grid_of(given.n, WARPS, device, waves=16), min(given.n_queries, 65535))
    asked, scored = given.row_arguments()
    arguments = [*asked, *scored, np.int32(given.dim), np.int32(held), scores, argmax, *tallied(tally)]
    device.launch(Kernel("dense.cu", name), grid, (WARPS * 32,), held * group_bytes + maxima, arguments)


def _many(device: Device, given: _Given, groups: int, scores: Array, argmax: Array | None, tally: Tally | None) -> None:
    """One stream of documents for every eight groups of query tokens."""
    n_groups = given.n_queries * groups
    parts = scores if groups == 1 else empty((n_groups, given.n), "float32", given.place)
    sets = -(-n_groups // WARPS)
    blocks = 8 * 2 * device.multiprocessors  # eight waves of two blocks a multiprocessor even out documents of many lengths
    per_block = min(max(-(-given.n * sets // blocks), 1), BATCH_MOST)
    name = f"maxsim_batch<{TYPES[given.type]}, {given.dim}, {'false' if argmax is None else 'true'}>"
    ring = 3 * 64 * (-(-given.dim * 2 // 64) * 64)
    asked, scored = given.row_arguments()
    arguments = [*asked, np.int32(groups), *scored, np.int32(per_block), parts, argmax]
    arguments += tallied(tally if groups == 1 else None)
    grid = (sets * -(-given.n // per_block),)
    device.launch(Kernel("batch.cu", name), grid, (WARPS * 32,), ring + BATCH_MOST * 12 + WARPS * 24, arguments)
    if groups > 1:
        sums = [parts, scores, np.int64(given.n_queries), np.int32(groups), np.int64(given.n), *tallied(tally)]
        device.launch(
            Kernel("batch.cu", "sum_groups"), (grid_of(scores.shape[0] * given.n, 256, device, waves=8),), (256,), 0, sums
        )
