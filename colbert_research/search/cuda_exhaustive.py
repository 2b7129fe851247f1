"""Exhaustive search on a CUDA device: every document scored where its codes lie; only the best come back."""

from contextlib import closing
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.codecs import TableCodec
from colbert_research.index import Index, Scope
from colbert_research.kernels.cuda.arrays import upload
from colbert_research.kernels.cuda.topk import BINS
from colbert_research.ragged import Ragged
from colbert_research.search.base import Found, Queries, SearchStrategy
from colbert_research.search.on_device import DeviceIndex, check_device, device_index
from colbert_research.search.shards import Shard
from colbert_research.search.stages import merge_best
from colbert_research.search.trace import Trace


class CudaExhaustive(SearchStrategy):
    """What `exhaustive` finds. Over codes with a table or centroids alone, scores have the same bits; over exact vectors they
    differ by the rounding of the device's products (`kernels/cuda/dense.py`), and queries are rounded to the vectors' type.

    `memory_gb`: how much of the device's memory may be used, in 10^9 bytes; None: nine tenths of what is free when the index
    is first searched. The index is copied there once and stays for as long as it is open. One that does not fit is copied to
    pinned memory instead, and from there to the device at every search, shard by shard, each while the one before is scored.

    `lifts`: the type of the products of queries with centroids, of which every token reads one for each query token. "float16"
    halves those reads, which are most of the work where codes have few bits, and moves scores by no more than
    `kernels.cuda.codes.maxsim_codes` states, so that rankings may differ from those of `exhaustive`.
    """

    kind: Literal["cuda_exhaustive"] = "cuda_exhaustive"
    memory_gb: float | None = Field(None, gt=0)
    lifts: Literal["float32", "float16"] = "float32"

    def widest(self, index: Index) -> Self:
        return self.model_copy(update={"lifts": "float32"})

    def check(self, index: Index, k: int) -> None:
        check_device(self.kind, "exhaustive")
        if self.lifts != "float32" and not isinstance(index.codec, TableCodec):
            raise ValueError(
                f"search.lifts={self.lifts} is for codes that are scored with a table, and those of "
                f"{type(index.codec).__name__} have none; leave it out, or choose codec.kind=residual, product or "
                "residual_product"
            )

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if not len(queries):
            return []
        there = device_index(index, self.memory_gb)
        parts: list[list[Found]] = [[] for _ in range(len(queries))]
        with closing(there.shards.visited(scope)) as visited:
            for shard, places in visited:
                self._score(there, shard, places, queries.vectors, k, trace, parts)
        with trace.stage("topk"):
            return [merge_best(part, k) for part in parts]

    def _score(
        self,
        there: DeviceIndex,
        shard: Shard,
        places: NDArray[np.int64] | None,
        queries: Ragged,
        k: int,
        trace: Trace,
        parts: list[list[Found]],
    ) -> None:
        """Append the best of a shard, or of the documents at some places there, to each query's parts."""
        lengths = np.diff(shard.offsets) if places is None else np.diff(shard.offsets)[places]
        only = None if places is None else upload(places, there.place)
        block = max(1, there.scores_held // max(BINS, len(lengths)))  # of scores, and of their counts
        for start in range(0, len(queries), block):
            asked = queries.slice(start, start + block)
            with there.stage(trace, "score") as count:
                scores = there.score(shard, asked, only, lifts=self.lifts)
                tokens = len(asked) * int(lengths.sum())
                count.documents += len(asked) * len(lengths)
                count.tokens += tokens
                count.bytes += tokens * there.bytes_per_token
            with there.stage(trace, "topk"):
                found = there.found(only, scores, k, start=shard.start)
            for part, own in zip(parts[start : start + block], found, strict=True):
                part.append(own)
