"""What counts for a query token of which a document has no retrieved token. `IMPUTATIONS` is the table of the rules.

Sources: XTR (Lee et al. 2023), section 3.2 and table 5; WARP (Scheerer et al. 2025), WARPSELECT.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.index import Index

BEST_CELLS = 256  # among which the one that reaches t' is looked for first


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What one query's probes found.

    `maxima` `(n_documents, n_query_tokens)` float32: best retrieved scores, minus infinity where a document has none.
    `centroid_scores` `(n_query_tokens, K)`; `cell_sizes` `(K,)`: tokens of each cell of the index, or for a rule without
    `all_cells` of at least the probed ones. `k`: results asked for.
    `token_scores()`: `(n_tokens, n_query_tokens)` float32, each retrieved token's own, minus infinity where it was not probed;
    it is computed when it is called, and holds 4 bytes for each entry, query tokens rounded up to 16.
    """

    maxima: NDArray[np.float32]
    centroid_scores: NDArray[np.float32]
    cell_sizes: NDArray[np.int64]
    k: int
    token_scores: Callable[[], NDArray[np.float32]]


class Imputation(Config, ABC):
    """A rule; it leaves a matrix without missing entries as it is."""

    kind: str
    all_cells: ClassVar[bool] = False
    """Whether the rule looks at cells that were not probed."""

    @abstractmethod
    def filled(self, retrieved: Retrieved) -> NDArray[np.float32]:
        """`maxima` with a score for each missing entry; a row of minus infinity for a document that is not found after all."""

    def exhaustive_equivalent(self, index: Index) -> Self:
        """The rule with which every token of a document that was probed counts."""
        return self


class NoImputation(Imputation):
    """Nothing: a document's score is n / Z times the sum over the Z of n query tokens for which it has retrieved tokens.

    So a missing entry is the mean of the document's others. XTR trains with this; in its table 5 it ranks worst.
    """

    kind: Literal["none"] = "none"

    def filled(self, retrieved: Retrieved) -> NDArray[np.float32]:
        missing = np.isneginf(retrieved.maxima)
        found = (~missing).sum(axis=1)
        means = np.where(missing, 0, retrieved.maxima).sum(axis=1, dtype=np.float64) / np.maximum(found, 1)
        return np.where(missing, means.astype(np.float32)[:, None], retrieved.maxima)


class ConstantImputation(Imputation):
    """The same `value` for every query token."""

    kind: Literal["constant"] = "constant"
    value: float = Field(0.0, allow_inf_nan=False)

    def filled(self, retrieved: Retrieved) -> NDArray[np.float32]:
        return _fill(retrieved.maxima, np.float32(self.value))


class MeanImputation(Imputation):
    """The mean of the query token's best scores over the documents that have one; 0 where no document has."""

    kind: Literal["mean"] = "mean"

    def filled(self, retrieved: Retrieved) -> NDArray[np.float32]:
        found = np.isfinite(retrieved.maxima)
        sums = np.where(found, retrieved.maxima, 0).sum(axis=0, dtype=np.float64)
        return _fill(retrieved.maxima, (sums / np.maximum(found.sum(axis=0), 1)).astype(np.float32))


class TopKImputation(Imputation):
    """XTR: only the query token's best `k_tokens` (k') retrieved tokens count, and the least of their scores is imputed.

    Tokens tied with the last one count too; with fewer retrieved tokens all count; 0 is imputed where none is retrieved. The
    paper takes k' = 40 000 on MS MARCO.
    """

    kind: Literal["top_k"] = "top_k"
    k_tokens: int = Field(ge=1, description="k'")

    def filled(self, retrieved: Retrieved) -> NDArray[np.float32]:
        least = np.array([self._least(column) for column in retrieved.token_scores().T], np.float32)
        kept = np.where(retrieved.maxima >= least, retrieved.maxima, np.float32(-np.inf))
        filled = _fill(kept, np.where(np.isneginf(least), np.float32(0), least))
        filled[np.isneginf(kept).all(axis=1)] = -np.inf
        return filled

    def _least(self, scores: NDArray[np.float32]) -> np.float32:
        scores = scores[~np.isneginf(scores)]
        if not len(scores):
            return np.float32(-np.inf)
        place = max(0, len(scores) - self.k_tokens)
        least: np.float32 = np.partition(scores, place)[place]
        return least

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"k_tokens": index.n_tokens})


class WarpSelect(Imputation):
    """WARP: the score of the centroid at which the sizes of a query token's best cells add up to more than `t_prime` (t').

    Left out, t' follows WARP's engine: the square root of 8 times the number of tokens, rounded down to a multiple of 1000
    (here at least 1000: the engine's rule gives 0 below 125 000 tokens); with more than 2^16 centroids 50 000, or 100 000 where
    k is above 100. Where all cells together are not more than t', it is the least score of a centroid.
    """

    kind: Literal["warpselect"] = "warpselect"
    all_cells: ClassVar[bool] = True
    t_prime: int | None = Field(None, ge=1, description="t'")

    def tokens(self, n_tokens: int, n_centroids: int, k: int) -> int:
        """t' for an index and k."""
        if self.t_prime is not None:
            return self.t_prime
        if n_centroids > 2**16:
            return 50_000 if k <= 100 else 100_000
        return max(1000, int(np.sqrt(8 * n_tokens) // 1000) * 1000)

    def filled(self, retrieved: Retrieved) -> NDArray[np.float32]:
        sizes = retrieved.cell_sizes
        wanted = self.tokens(int(sizes.sum()), len(sizes), retrieved.k)
        imputed = [_score_reaching(scores, sizes, wanted) for scores in retrieved.centroid_scores]
        return _fill(retrieved.maxima, np.array(imputed, np.float32))


IMPUTATIONS: dict[str, type[Config]] = {
    "none": NoImputation,
    "constant": ConstantImputation,
    "mean": MeanImputation,
    "top_k": TopKImputation,
    "warpselect": WarpSelect,
}


def _fill(maxima: NDArray[np.float32], imputed: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    return np.where(np.isneginf(maxima), imputed, maxima)


def _score_reaching(scores: NDArray[np.float32], sizes: NDArray[np.int64], wanted: int) -> np.float32:
    """The first of the descending scores at which the sizes of the cells add up to more than `wanted`; else the least."""
    for count in (BEST_CELLS, len(scores)):
        best = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
        best = best[np.argsort(-scores[best], kind="stable")]
        place = int(np.searchsorted(np.cumsum(sizes[best]), wanted, side="right"))
        if place < len(best):
            break
    found: np.float32 = scores[best[min(place, len(best) - 1)]]
    return found
