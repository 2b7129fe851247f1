"""Search on a GPU, for gpu.py: every code of a large collection, and an index by strategies of the device and the processor."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_build import build_in_parts
from gpu_timer import Timer, ms_of

from colbert_research import kernels
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.data.synthetic import Synthetic
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda.arrays import to_numpy
from colbert_research.kernels.operands import CodedTokens, ResidualTable
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import CudaExhaustive, CudaPlaid, Exhaustive, Plaid, SearchStrategy, Trace

PIECE = 2**24  # numbers that are drawn together
SAMPLE = 64  # documents that are scored on the processor too
MOST_FOR_PEERS = 50_000_000  # tokens; more take other engines minutes


@dataclass(frozen=True)
class Codes:
    """One query with `tokens` residual codes, made on the device and nowhere else, to the best `k` documents."""

    name: str
    tokens: int
    bits: int
    dim: int = 128
    document_tokens: int = 128
    query_tokens: int = 32
    centroids: int = 65_536
    k: int = 1000
    centroid_scores: str = "float32"

    @property
    def bytes(self) -> int:
        """Of codes, centroid ids and inverse norms, read once."""
        return self.tokens * (self.dim * self.bits // 8 + 4)

    @property
    def flop(self) -> int:
        return 2 * self.query_tokens * self.tokens * self.dim

    def measure(self, limits: dict[str, Any], timer: Timer, device: str) -> Iterator[dict[str, Any]]:
        """A line for each engine: the time from the query's vectors, on the device, to the best documents there; what the
        processor says to ours."""
        tokens, query = self._drawn(device)
        asked = query.map(lambda vectors: torch.from_numpy(vectors).to(device))  # a graph cannot copy from pageable memory

        def call() -> tuple[Any, Any]:
            tally = cuda_backend.tally_for(asked, tokens.codes)
            scores = cuda_backend.maxsim_codes(asked, tokens, centroid_scores=self.centroid_scores, tally=tally)
            return scores[0], cuda_backend.best(scores, tally, self.k)[0][0]

        scores, best = (to_numpy(array) for array in call())
        few = self._few(tokens)
        proven = {
            "error": float(np.abs(scores[:SAMPLE] - kernels.maxsim_codes(query, few, backend="reference")[0]).max()),
            "same_scores": bool(np.array_equal(scores[:SAMPLE], kernels.maxsim_codes(query, few, backend="cpu")[0])),
            "same_best": bool(np.array_equal(best, kernels.topk(scores, self.k))),
        }
        yield {**self._line("ours", timer([call]), limits), **proven}
        peer_takes_it = device.startswith("cuda") and self.tokens <= MOST_FOR_PEERS and self.centroid_scores == "float32"
        if peer_takes_it and find_spec("late_interaction_kernels"):
            yield self._line("late-interaction-kernels", timer([self._peer(tokens, query)]), limits)

    def _line(self, engine: str, timed: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
        ms, documents = ms_of(timed), -(-self.tokens // self.document_tokens)
        floor = max(self.bytes / limits["copy_gb_s"] / 1e6, self.flop / limits["product_tflop_s"] / 1e9)
        return {
            **asdict(self), "case": self.name, "engine": engine, "queries": 1, "documents": documents, **timed,
            "bytes": self.bytes, "flop": self.flop, "floor_ms": floor, "of_floor": floor / ms,
            "gb_s": self.bytes / ms / 1e6, "tflop_s": self.flop / ms / 1e9, "tokens_s": self.tokens / ms * 1e3,
        }  # fmt: skip

    def _peer(self, tokens: CodedTokens, query: Ragged) -> Callable[[], Any]:
        """The same codes and centroids by the fused kernel of late-interaction-kernels, then torch's top k.

        Its levels have no scales and its norms come from the vectors, so its scores are others; its work is the same.
        """
        score = import_module("late_interaction_kernels.plaid").maxsim_residual_varlen
        there, table = tokens.codes.device, tokens.table
        assert isinstance(table, ResidualTable)
        asked = torch.from_numpy(query.values).half().to(there)
        offsets = torch.from_numpy(tokens.offsets).int().to(there)
        centroids, levels = (torch.from_numpy(array).to(there) for array in (table.centroids, table.levels))
        ids = tokens.centroid_ids.long()
        given = (asked, ids, tokens.codes, offsets, centroids.half(), levels, self.bits)
        return lambda: score(*given, max_seqlen_d=self.document_tokens).topk(self.k)

    def _drawn(self, device: str) -> tuple[CodedTokens, Ragged]:
        """Uniform codes and centroid ids, inverse norms near one; a query of unit vectors."""
        generator, rng = torch.Generator(device).manual_seed(7), np.random.default_rng(7)

        def drawn(shape: tuple[int, ...], kind: torch.dtype, below: int) -> torch.Tensor:
            array = torch.empty(shape, dtype=kind, device=device)
            for part in array.view(-1).split(PIECE):
                part.copy_(torch.randint(below, part.shape, device=device, generator=generator, dtype=torch.int32))
            return array

        norms = torch.empty(self.tokens, dtype=torch.float16, device=device)
        for part in norms.split(PIECE):
            part.copy_(0.9 + 0.2 * torch.rand(part.shape, device=device, generator=generator))
        vectors = rng.standard_normal((self.centroids + self.query_tokens, self.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scales = rng.uniform(0.02, 0.06, self.dim).astype(np.float32)
        levels = (np.arange(2**self.bits) - (2**self.bits - 1) / 2).astype(np.float32)
        lengths = np.full(-(-self.tokens // self.document_tokens), self.document_tokens)
        lengths[-1] -= lengths.sum() - self.tokens
        tokens = CodedTokens(
            ResidualTable(scales, levels, vectors[: self.centroids]),
            drawn((self.tokens, self.dim * self.bits // 8), torch.uint8, 256),
            offsets_of(lengths),
            drawn((self.tokens,), torch.uint16, self.centroids),
            norms,
        )
        return tokens, Ragged(vectors[self.centroids :], offsets_of([self.query_tokens]))

    def _few(self, tokens: CodedTokens) -> CodedTokens:
        """The first documents, in the processor's memory."""
        offsets = tokens.offsets[: SAMPLE + 1]
        arrays = (tokens.codes, tokens.centroid_ids, tokens.inverse_norms)
        codes, ids, norms = (to_numpy(array[: int(offsets[-1])]) for array in arrays if array is not None)
        return CodedTokens(tokens.table, codes, offsets, ids, norms)


@dataclass(frozen=True)
class Strategies:
    """An index of `tokens` synthetic token vectors, searched by strategies of the device and by the processor's, query by
    query."""

    name: str
    tokens: int
    n_queries: int = 50
    dim: int = 128
    k: int = 100
    ndocs: int = 1024
    n_exact: int = 256
    streamed_gb: float = 0.04

    def measure(self, limits: dict[str, Any], timer: Timer, device: str) -> Iterator[dict[str, Any]]:
        """A line for each strategy: the median of its queries' times, and how its ranking differs from the processor's."""
        config = Synthetic(tokens=self.tokens, dim=self.dim)
        plaid = {"ncells": 4, "ndocs": self.ndocs, "n_exact": self.n_exact}
        exhaustive = Exhaustive()
        pairs: list[tuple[str, SearchStrategy, SearchStrategy]] = [
            ("exhaustive", exhaustive, exhaustive),
            ("plaid", Plaid(**plaid), Plaid(**plaid)),
            ("cuda_exhaustive", CudaExhaustive(), exhaustive),
            ("cuda_exhaustive centroid_scores=float16", CudaExhaustive(centroid_scores="float16"), exhaustive),
            ("cuda_plaid", CudaPlaid(**plaid), Plaid(**plaid)),
            (f"cuda_exhaustive memory_gb={self.streamed_gb}", CudaExhaustive(memory_gb=self.streamed_gb), exhaustive),
        ]
        with tempfile.TemporaryDirectory(prefix="gpu-search-") as temporary:
            vectors, _ = config.write(Path(temporary) / "vectors", dtype="float16")
            (queries, _), _ = config.queries(min(self.n_queries, config.n_documents))
            collection = Collection.from_texts([""] * config.n_documents)
            index, _ = build_in_parts(Path(temporary) / "index", collection, vectors, ResidualConfig(nbits=4))
            for name, strategy, host in pairs:
                yield self._line(name, strategy, host, index, queries)

    def _line(self, name: str, strategy: SearchStrategy, host: SearchStrategy, index: Any, queries: Ragged) -> dict[str, Any]:
        found, trace = strategy.search(index, queries, self.k), Trace()  # the index is copied there
        times = []
        for i in range(len(queries)):
            start = time.perf_counter()
            strategy.search(index, queries.slice(i, i + 1), self.k, trace=trace)
            times.append((time.perf_counter() - start) * 1e3)
        expected = host.search(index, queries, self.k)
        work = [stage for stage_name, stage in trace.work().items() if stage_name in ("score", "exact")]
        tokens, size = (sum(stage[key] for stage in work) / len(queries) for key in ("tokens", "bytes"))
        ms = statistics.median(times)
        flop = 2 * float(np.mean(queries.lengths)) * tokens * self.dim
        same = np.array_equal(found.positions, expected.positions) and np.array_equal(found.scores, expected.scores)
        return {
            "case": self.name, "engine": name, "queries": len(queries), "documents": index.n_documents, "dim": self.dim,
            "k": self.k, "timed": "eager", "not_captured": "a search waits for the device", "eager_ms": ms,
            "p95_ms": float(np.percentile(times, 95)), "bytes": size, "flop": flop,
            "gb_s": size / ms / 1e6, "tflop_s": flop / ms / 1e9, "tokens_s": tokens / ms * 1e3, "same_ranking": bool(same),
        }  # fmt: skip


SEARCHES: tuple[Codes | Strategies, ...] = (
    Codes("1 x 6e8 tokens, 2 bits", 600_000_000, 2),
    Codes("1 x 100k x 128, 2 bits", 12_800_000, 2),
    Codes("1 x 100k x 128, 2 bits, float16 centroid_scores", 12_800_000, 2, centroid_scores="float16"),
    Codes("1 x 100k x 128, 4 bits", 12_800_000, 4),
    Strategies("index of 1e6 tokens", 1_000_000),
)
