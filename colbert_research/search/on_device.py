"""The steps of a search on a CUDA device: documents, products and scores are arrays there until the best are brought back."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs import TableCodec
from colbert_research.codecs.exact import ExactCodec
from colbert_research.index import Scope
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda.arrays import Array, ascending, column_maxima, copied, empty, to_numpy, upload
from colbert_research.kernels.cuda.tally import Tally, best, tally_for
from colbert_research.kernels.cuda.topk import BINS, MOST
from colbert_research.kernels.cuda.transfer import synchronize
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ragged import Ragged
from colbert_research.search.device_copy import DeviceCopy
from colbert_research.search.found import Found
from colbert_research.search.probe import nearest_cells
from colbert_research.search.shards import Shard, widened
from colbert_research.search.trace import Stage, Trace

CHOSEN_THERE = MOST  # of a row; more are chosen on the processor


@dataclass(frozen=True, eq=False)
class ShardDocuments:
    """Documents of a shard on the device: those at ascending `local` positions `(n,)` int64, also there, or all (None)."""

    shard: Shard
    local: Array | None

    def __len__(self) -> int:
        return len(self.shard) if self.local is None else len(self.local)

    def at(self, chosen: Array) -> Array:
        """The positions in the shard of some of these documents."""
        return chosen if self.local is None else self.local[chosen]


@dataclass(frozen=True, eq=False)
class DeviceScores:
    """Scores `(n_queries, n)` float32 on the device, and the counts of them by which the best are chosen there."""

    values: Array
    tally: Tally


@dataclass(frozen=True, eq=False)
class DeviceEngine:
    """See `Engine`. `centroid_scores`: as of `cuda.codes.maxsim_codes`, for codes with a table."""

    there: DeviceCopy
    centroid_scores: str = "float32"

    @contextmanager
    def stage(self, trace: Trace, name: str) -> Iterator[Stage]:
        with trace.stage(name) as stage:
            yield stage
            synchronize(self.there.place)

    def keep(self, trace: Trace, stage: str, documents: ShardDocuments, scores: DeviceScores | None = None) -> None:
        if trace.kept is not None:
            local = np.arange(len(documents)) if documents.local is None else to_numpy(documents.local)
            trace.keep(stage, local + documents.shard.start, None if scores is None else to_numpy(scores.values[0]))

    def parts(self, scope: Scope) -> Generator[ShardDocuments, None, None]:
        with closing(self.there.shards.visited(scope)) as visited:
            for shard, local in visited:
                yield ShardDocuments(shard, None if local is None else upload(local, self.there.place))

    def queries_at_once(self, documents: ShardDocuments) -> int:
        return max(1, self.there.scores_held // max(BINS, len(documents)))  # of scores, and of their counts

    def products(self, query: NDArray[np.float32]) -> Array:
        return cuda_backend.dot_products(upload(np.asarray(query, np.float32), self.there.place), self.there.centroids)

    def highest(self, products: Array) -> NDArray[np.float32]:
        return to_numpy(column_maxima(products))

    def cells(self, products: Array, n: int) -> NDArray[np.int64]:
        none = self.there.empty_cells
        if n > CHOSEN_THERE:
            found = np.unique(nearest_cells(to_numpy(products), n, none))
            return found[found >= 0]
        if len(none):
            products = copied(products)
            products[:, upload(none, self.there.place)] = -np.inf
        return np.setdiff1d(to_numpy(cuda_backend.greatest(products, n)), none)

    def candidates(self, cells: NDArray[np.int64], scope: Scope) -> ShardDocuments:
        found = cuda_backend.union(self.there.inverted, cells, self.there.n_documents)
        if not scope.is_all:
            found = upload(scope.intersect(to_numpy(found)), self.there.place)
        return ShardDocuments(self.there.resident, found)

    def interaction(
        self,
        products: Array,
        documents: ShardDocuments,
        trace: Trace,
        *,
        stage: str,
        kept: NDArray[np.bool_] | None = None,
    ) -> DeviceScores:
        there, ids = None if kept is None else upload(kept, self.there.place), documents.shard.centroid_ids
        with self.stage(trace, stage) as count:
            tally = tally_for(1, len(products), self.there.place)
            scores = cuda_backend.centroid_interaction(products, ids, there, documents.local, tally=tally)
            count.tokens_read(self._tokens_of(documents), self.there.codec.layout["centroid_ids"][0].itemsize)
            count.documents += len(documents)
        found = DeviceScores(scores[None], tally)
        self.keep(trace, stage, documents, found)
        return found

    def narrow(self, documents: ShardDocuments, scores: DeviceScores, size: int) -> ShardDocuments:
        ((chosen, _),) = self._best(scores, size)
        return ShardDocuments(documents.shard, documents.at(ascending(chosen)))

    def score(self, queries: Ragged, documents: ShardDocuments, trace: Trace, *, stage: str) -> DeviceScores:
        with self.stage(trace, stage) as count:
            scores = self._maxsim(queries, documents)
            count.tokens_read(len(queries) * self._tokens_of(documents), self.there.bytes_per_token)
            count.documents += len(queries) * len(documents)
        self.keep(trace, stage, documents, scores)
        return scores

    def best(self, documents: ShardDocuments, scores: DeviceScores, k: int) -> list[Found]:
        start = documents.shard.start
        return [(to_numpy(documents.at(chosen)) + start, to_numpy(own)) for chosen, own in self._best(scores, k)]

    def _maxsim(self, queries: Ragged, documents: ShardDocuments) -> DeviceScores:
        codec, tokens, only = self.there.codec, documents.shard.tokens, documents.local
        tally = tally_for(len(queries), int(queries.lengths.max(initial=0)), self.there.place)
        if isinstance(codec, TableCodec):
            assert isinstance(tokens, CodedTokens)
            rotated = queries.map(codec.rotated)
            return DeviceScores(
                cuda_backend.maxsim_codes(rotated, tokens, only, centroid_scores=self.centroid_scores, tally=tally), tally
            )
        assert isinstance(tokens, Ragged)
        if isinstance(codec, ExactCodec):
            asked = queries.map(lambda rows: widened(rows, tokens.dim))
            return DeviceScores(cuda_backend.maxsim(asked, tokens, only, tally=tally), tally)
        scores = empty((len(queries), len(documents)), "float32", self.there.place)
        for i, query in enumerate(queries):  # every token is a centroid
            counts = tally.of_query(i)
            scores[i] = cuda_backend.centroid_interaction(self.products(query), tokens, None, only, tally=counts)
        return DeviceScores(scores, tally)

    def _best(self, scores: DeviceScores, k: int) -> list[tuple[Array, Array]]:
        """For each row of scores, positions and scores of its `k` best: score descending, then position ascending."""
        if min(k, int(scores.values.shape[1])) > CHOSEN_THERE:
            chosen = [upload(kernels.topk(to_numpy(row), k), self.there.place) for row in scores.values]
            return [(local, row[local]) for local, row in zip(chosen, scores.values, strict=True)]
        local, values, state = best(scores.values, scores.tally, k)
        counts, nans = to_numpy(state).T
        if nans.any():
            raise ValueError(f"{nans.sum()} scores are not numbers (NaN); look for NaN or infinite token vectors")
        return [(row[:count], own[:count]) for row, own, count in zip(local, values, counts.tolist(), strict=True)]

    def _tokens_of(self, documents: ShardDocuments) -> int:
        """How many tokens documents have together."""
        if documents.local is None:
            return int(documents.shard.offsets[-1])
        offsets = cuda_backend.offsets_at(documents.shard.tokens, self.there.place)
        return int((offsets[documents.local + 1] - offsets[documents.local]).sum())
