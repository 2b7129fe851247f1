"""MaxSim over codes on a device, from arrays to arrays: scores are those of the backend cpu, bit for bit, and not decoded for.

The formula and its bound are those of `cpu/prepare.py`: integer products of rounded queries with the bytes of codes, then a few
float32 operations, each rounded once, in one order. A query is rounded and multiplied with all centroids on the device, too.
Scores depend neither on the other documents, nor on the other queries, nor on the device.

Offsets, centroid ids and `only` stay on the device and are not read here. What they may hold wrongly does no harm: rows are cut
to those that there are, an id past the last centroid counts as the last, and a place that names no document scores as a
document without tokens.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from colbert_research.kernels.cuda.arrays import Array, Place, check, common_place, empty, upload
from colbert_research.kernels.cuda.decoder import Decoder, Layout, decoder_of
from colbert_research.kernels.cuda.kept import Kept
from colbert_research.kernels.cuda.launch import Device, Kernel, device_of, grid_of
from colbert_research.kernels.cuda.tally import Tally
from colbert_research.kernels.cuda.tally import arguments as tallied
from colbert_research.kernels.operands import ProductTable, ResidualTable

WARPS = 8
EACH = 4  # centroids that a warp multiplies at once
PART_BYTES = 64 * 33 * 4  # dimensions of 32 query tokens in shared memory
TABLE_BYTES = 2**28
"""At most so much memory for products of queries with centroids at once, as long as one query's fit; queries come in parts."""

CENTROID_SCORES = {"float32": "float", "float16": "half"}
"""Types of a query's products with the centroids."""

ROUND = Kernel("prepare.cu", "round_queries")
SCORE_CENTROIDS = {name: Kernel("prepare.cu", f"score_centroids<{kind}>") for name, kind in CENTROID_SCORES.items()}


def _kernel(layout: Layout, halves: int, centroid_scores: str = "float32") -> Kernel:
    return Kernel("codes.cu", f"maxsim_codes<{layout}, {halves}, {CENTROID_SCORES[centroid_scores]}>")


def _packed(bits: int, dim: int) -> Layout:
    return Layout("PACKED", bits, -(-dim * bits // 8))


KERNELS = (
    ROUND,
    *SCORE_CENTROIDS.values(),
    *(_kernel(_packed(bits, 128), 2) for bits in (1, 2, 4)),
    _kernel(_packed(2, 128), 1),
    _kernel(_packed(2, 128), 2, "float16"),
    *(_kernel(_packed(bits, dim), 2) for bits, dim in ((1, 48), (4, 96), (2, 384))),
    *(_kernel(Layout(kind, 8, 128), 2) for kind in ("LOOKED_UP", "COPIED")),
    *(_kernel(Layout("CODEWORDS", sub, m), 2) for m, sub in ((32, 4), (64, 6))),
)
"""Instances that are tested; others, of other widths, are compiled when they are first asked for."""


@dataclass(frozen=True, eq=False)
class DeviceTable:
    """A codec's state at a place: what its codes and its queries are decoded and rounded with, and its centroids or None."""

    decoder: Decoder
    place: Place
    bytes: Array
    lowest: Array
    step: Array
    operand_dims: Array
    centroids: Array | None

    @property
    def n_centroids(self) -> int:
        return 1 if self.centroids is None else len(self.centroids)


_tables: WeakKeyDictionary[ResidualTable | ProductTable, dict[Place, Kept[DeviceTable]]] = WeakKeyDictionary()


def table_at(table: ResidualTable | ProductTable, place: Place) -> DeviceTable:
    """A codec's state at a place, for work on the current stream (see `Kept`); copied there once."""
    known = _tables.setdefault(table, {})
    if place not in known:
        decoder = decoder_of(table)
        centroids = None
        if table.centroids is not None:
            centroids = upload(np.ascontiguousarray(table.centroids, np.float32), place)
        copied = DeviceTable(
            decoder,
            place,
            bytes=upload(decoder.bytes, place),
            lowest=upload(decoder.lowest, place),
            step=upload(decoder.step, place),
            operand_dims=upload(decoder.layout.operand_dims(decoder.dim), place),
            centroids=centroids,
        )
        known[place] = Kept(copied, place)
    return known[place].here()


def maxsim_codes(
    queries: Array,
    query_offsets: Array,
    table: DeviceTable,
    codes: Array,
    offsets: Array,
    *,
    longest_query: int,
    centroid_ids: Array | None = None,
    inverse_norms: Array | None = None,
    only: Array | None = None,
    centroid_scores: str = "float32",
    tally: Tally | None = None,
) -> Array:
    """MaxSim of every query with every document: `(n_queries, n_documents)` float32, of the arguments' framework.

    `queries` `(rows, dim)` float32; `codes` `(n, width)` uint8, as `CodedTokens` has them; offsets `(n + 1,)` int64;
    `centroid_ids` `(n,)` uint16 or int32, where the table has centroids; `inverse_norms` `(n,)` float16 or None; all at one
    place. `longest_query`: the number of tokens that the longest query has at most; a longer one is cut to a multiple of 32.
    `only` `(n,)` int64: positions of the documents to score. A query without tokens scores 0; a document without tokens minus
    infinity; a query that is not finite scores NaN. Scores are counted in `tally`, for `tally.best`. Raises TypeError and
    ValueError, before anything is launched.

    `centroid_scores`: the type of the query-centroid scores, of which each token reads one per query token. "float16" halves
    what is read for codes of few bits from the second level of cache, and moves a score by at most the sum over its query
    tokens of 2^-11 times their greatest |q . centroid + q . lowest| (below 65504) times the greatest inverse norm.
    """
    if centroid_scores not in CENTROID_SCORES:
        raise ValueError(f"centroid_scores must be one of {', '.join(CENTROID_SCORES)}; given {centroid_scores!r}")
    place = common_place(
        queries=queries, query_offsets=query_offsets, table=table.bytes, codes=codes, offsets=offsets,
        centroid_ids=centroid_ids, inverse_norms=inverse_norms, only=only,
    )  # fmt: skip
    given = _Given(table, queries, query_offsets, codes, offsets, centroid_ids, inverse_norms, only)
    device = device_of(place)
    given.check(device)
    if longest_query < 0:
        raise ValueError(f"longest_query must not be negative; given {longest_query}")
    halves = 1 if longest_query <= 16 else 2
    groups = max(1, -(-longest_query // (16 * halves)))
    scores = empty((given.n_queries, given.n), "float32", place)
    at_once = max(1, TABLE_BYTES // (4 * 16 * halves * groups * table.n_centroids))
    if given.n:
        for first in range(0, given.n_queries, at_once):
            part = slice(first, min(first + at_once, given.n_queries))
            asked = query_offsets[part.start : part.stop + 1]
            _score(device, given, asked, groups, halves, centroid_scores, scores[part], tallied(tally, part))
    return scores


@dataclass(frozen=True)
class _Given:
    """Arguments; `n`: documents to score."""

    table: DeviceTable
    queries: Array
    query_offsets: Array
    codes: Array
    offsets: Array
    ids: Array | None
    norms: Array | None
    only: Array | None

    @property
    def n_queries(self) -> int:
        return len(self.query_offsets) - 1

    @property
    def n(self) -> int:
        return len(self.offsets) - 1 if self.only is None else len(self.only)

    def check(self, device: Device) -> None:
        decoder = self.table.decoder
        check(self.queries, "queries", types=("float32",), ndim=2)
        check(self.codes, "codes", types=("uint8",), ndim=2, alignment=decoder.layout.piece)
        for name, offsets in (("query_offsets", self.query_offsets), ("offsets", self.offsets)):
            check(offsets, name, types=("int64",), ndim=1)
            if len(offsets) == 0:
                raise ValueError(f"{name} must have one number more than there are items, at least one; given none")
        if self.only is not None:
            check(self.only, "only", types=("int64",), ndim=1)
        if int(self.queries.shape[1]) != decoder.dim:
            raise ValueError(
                f"queries have {self.queries.shape[1]} dimensions and codes {decoder.dim}; encode both with one encoder"
            )
        if int(self.codes.shape[1]) != decoder.layout.width:
            raise ValueError(f"codes of this table have {decoder.layout.width} bytes per token; given {self.codes.shape[1]}")
        if (self.ids is None) != (self.table.centroids is None):
            has = "no centroids" if self.table.centroids is None else f"{self.table.n_centroids} centroids"
            raise ValueError(
                f"the table has {has} and centroid_ids are {'not ' if self.ids is None else ''}given; give both or none"
            )
        per_token = (("centroid_ids", self.ids, ("uint16", "int32")), ("inverse_norms", self.norms, ("float16",)))
        for name, array, types in per_token:
            if array is not None:
                check(array, name, types=types, ndim=1)
                if len(array) != len(self.codes):
                    raise ValueError(f"{name} must be one for each of the {len(self.codes)} tokens; given {len(array)}")
        if self.ids is not None and self.table.n_centroids == 0:
            raise ValueError("the table has no centroid that centroid_ids could name; fit the codec again")
        if len(self.queries) >= 2**31 or len(self.query_offsets) > 2**26:
            raise ValueError(f"too many query tokens ({len(self.queries)}) or queries ({self.n_queries}); score them in parts")
        if decoder.shared_bytes + 1024 > device.shared_limit:
            raise ValueError(
                f"codewords of {decoder.dim} dimensions take {decoder.shared_bytes} bytes of shared memory and this device has "
                f"{device.shared_limit}; reduce to {(device.shared_limit - 1024) // 256} dimensions"
            )


def _score(
    device: Device,
    given: _Given,
    query_offsets: Array,
    groups: int,
    halves: int,
    centroid_scores: str,
    scores: Array,
    tally: list[Any],
) -> None:
    """Scores `(n_queries, n)` of some queries: they are rounded, multiplied with the centroids, and scored."""
    table, place, layout = given.table, given.table.place, given.table.decoder.layout
    n_queries, rows, n_centroids = len(query_offsets) - 1, groups * 16 * halves, table.n_centroids
    asked = [query_offsets, np.int64(n_queries), np.int64(len(given.queries))]
    dim, shape = np.int32(table.decoder.dim), [np.int32(groups), np.int32(halves)]
    weights = empty((n_queries, groups, layout.products, halves, 128), "int32", place)
    factors, base = empty((n_queries, rows), "float32", place), empty((n_queries, rows), "float32", place)
    products = empty((n_queries, groups, n_centroids, 16 * halves), centroid_scores, place)
    block = (WARPS * 32,)

    arguments: list[Any] = [given.queries, *asked, dim, table.lowest, table.step, table.operand_dims]
    arguments += [np.int32(layout.products), *shape, weights, factors, base]
    device.launch(ROUND, (n_queries,), block, 0, arguments)

    grid = (grid_of(n_centroids, WARPS * EACH, device, waves=16), min(n_queries * groups, 65535))
    arguments = [given.queries, *asked, dim, table.centroids, np.int64(n_centroids), base, *shape, products]
    device.launch(SCORE_CENTROIDS[centroid_scores], grid, block, PART_BYTES, arguments)

    id_bytes = 0 if given.ids is None else given.ids.itemsize
    arguments = [*asked, given.codes, given.ids, np.int32(id_bytes), given.norms, given.offsets]
    arguments += [np.int64(len(given.offsets) - 1), np.int64(len(given.codes)), given.only, np.int64(given.n)]
    arguments += [table.bytes, np.int32(table.decoder.shared_bytes), weights, factors, products]
    arguments += [np.int64(n_centroids), np.int32(groups), scores, *tally]
    waves = 4 if layout.kind == "CODEWORDS" else 16  # each block copies the codewords
    grid = (grid_of(given.n, WARPS, device, waves=waves), min(n_queries, 65535))
    shared = table.decoder.shared_bytes + WARPS * 16 * halves * 4
    device.launch(_kernel(layout, halves, centroid_scores), grid, block, shared, arguments)
