"""`Engine`: the steps of which searches over one index consist, wherever they compute. Strategies are written with these."""

from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from colbert_research.index import Scope
from colbert_research.ragged import Ragged
from colbert_research.search.found import Found
from colbert_research.search.trace import Stage, Trace

SCORES_HELD = 2**27
"""float32 scores of one block of queries: 512 MiB."""

Documents = Any
"""Some documents of the index, in the order of their positions, as an engine holds them; `len` tells how many."""
Products = Any
"""Dot products of one query's tokens with all centroids: `(n_query_tokens, K)` float32, where the engine computes."""
Scores = Any
"""Scores of some queries with some documents, `(n_queries, n_documents)` float32, as an engine holds them."""


class Engine(Protocol):
    """Computes on one index: `HostEngine` on the processor, `DeviceEngine` on a CUDA device.

    What one step gives stays where the engine computes until `cells`, `highest` or `best` bring numbers back. Scores and
    counts of work are the same on every engine; only scores over exact vectors differ, by the rounding of their products.
    Where `trace` is given, the step is timed, counted and kept as part of `stage`.
    """

    def stage(self, trace: Trace, name: str) -> AbstractContextManager[Stage]:
        """As `Trace.stage`; it ends when the engine has done what it was asked for."""

    def keep(self, trace: Trace, stage: str, documents: Documents, scores: Scores | None = None) -> None:
        """As `Trace.keep`, which costs nothing where nothing is to be kept."""

    def parts(self, scope: Scope) -> Generator[Documents, None, None]:
        """All documents that may be found, in parts, the first positions first.

        A part can be scored until the next is asked for; close the generator, so that other searches get their turn.
        """

    def queries_at_once(self, documents: Documents) -> int:
        """How many queries can be scored with some documents together, at least one."""

    def products(self, query: NDArray[np.float32]) -> Products:
        """Dot products of a query's tokens `(n_query_tokens, dim)` with the centroids of the index."""

    def highest(self, products: Products) -> NDArray[np.float32]:
        """The greatest product of each centroid with any of the query's tokens: `(K,)`."""

    def cells(self, products: Products, n: int) -> NDArray[np.int64]:
        """The centroids that are among the `n` nearest of any query token, ascending."""

    def candidates(self, cells: NDArray[np.int64], scope: Scope) -> Documents:
        """The documents that may be found and have a token in any of the cells (PLAID, section 4.1)."""

    def interaction(
        self, products: Products, documents: Documents, trace: Trace, *, stage: str, kept: NDArray[np.bool_] | None = None
    ) -> Scores:
        """Centroid interaction of one query with some documents (PLAID, section 4.2): one row of scores.

        `kept` `(K,)`: tokens of other centroids are left out (section 4.3).
        """

    def narrow(self, documents: Documents, scores: Scores, size: int) -> Documents:
        """The `size` documents with the best scores, of which there is one row; ties by position."""

    def score(self, queries: Ragged, documents: Documents, trace: Trace, *, stage: str) -> Scores:
        """MaxSim of queries with some documents, on the codes of the index."""

    def best(self, documents: Documents, scores: Scores, k: int) -> list[Found]:
        """For each row of scores, the `k` best documents, the best first, ties by position."""
