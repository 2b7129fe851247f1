"""PLAID as three engines run it, under their own names for the knobs; each says which `Plaid` it means.

What an engine derives from k or from another knob is derived here too, and nothing is remembered between searches.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from colbert_research.config import Threshold
from colbert_research.index import Index, Scope
from colbert_research.search.base import UNSEEN, Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import centroids_of, check_cells
from colbert_research.search.plaid import Plaid
from colbert_research.search.trace import Trace


class Dialect(SearchStrategy):
    """A strategy that is a `Plaid` whose settings depend on k.

    `cells`, `documents`: the names of its settings for the cells of a query token, and for the documents of which it scores a
    quarter exactly.
    """

    kind: str
    cells: ClassVar[str]
    documents: ClassVar[str]

    @abstractmethod
    def plaid(self, k: int) -> Plaid:
        """What this engine does for the best `k`."""

    def needs_centroids(self) -> bool:
        return True

    def _most(self, index: Index) -> Mapping[str, int]:
        return {} if getattr(self, self.cells) is None else {self.cells: len(centroids_of(index, self.kind))}

    def check(self, index: Index, k: int) -> None:
        plaid, n_centroids = self.plaid(k), len(centroids_of(index, self.kind))
        if getattr(self, self.cells) is not None:  # else it follows k, as far as there are cells
            check_cells(self.cells, plaid.ncells, n_centroids)

    def check_size(self, n_documents: int, k: int) -> None:
        plaid, wanted = self.plaid(k), min(k, n_documents)
        if wanted > plaid.n_exact:
            raise ValueError(
                f"k={k} results cannot come from a quarter of {self.documents}={plaid.ndocs} documents, which is scored "
                f"exactly; raise search.{self.documents} to at least {4 * wanted} or lower k"
            )

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        plaid, n_centroids = self.plaid(k), len(centroids_of(index, self.kind))
        if plaid.ncells > n_centroids:
            plaid = plaid.model_copy(update={"ncells": n_centroids})
        return plaid._search(index, queries, k, scope, trace)


class StanfordPlaid(Dialect):
    """Stanford's engine (ColBERT 0.2): settings left out follow k, and the last stage scores `ndocs / 4` documents.

    k <= 10: ncells 1, threshold 0.5, ndocs 256; k <= 100: 2, 0.45, 1024; else 4, 0.4, max(4 k, 4096). There the first query
    fixes them for the life of a searcher; here each search follows its own k.
    """

    opens: ClassVar[Opens] = {
        UNSEEN: ("ncells",),
        "pruned interaction": ("centroid_score_threshold", "ndocs"),
        "interaction": ("ndocs",),
    }
    cells, documents = "ncells", "ndocs"
    kind: Literal["stanford_plaid"] = "stanford_plaid"
    ncells: int | None = Field(None, ge=1)
    centroid_score_threshold: float | None = None
    ndocs: int | None = Field(None, ge=4)

    def plaid(self, k: int) -> Plaid:
        if k <= 10:
            ncells, threshold, ndocs = 1, 0.5, 256
        elif k <= 100:
            ncells, threshold, ndocs = 2, 0.45, 1024
        else:
            ncells, threshold, ndocs = 4, 0.4, max(4 * k, 4096)
        ndocs = ndocs if self.ndocs is None else self.ndocs
        value = threshold if self.centroid_score_threshold is None else self.centroid_score_threshold
        return Plaid(
            ncells=self.ncells or ncells, centroid_score_threshold=Threshold(value=value), ndocs=ndocs, n_exact=ndocs // 4
        )

    def exhaustive_equivalent(self, index: Index) -> Self:
        opened = Plaid().exhaustive_equivalent(index)
        lowest = -float(np.finfo(np.float32).max)
        update = {"ncells": opened.ncells, "centroid_score_threshold": lowest, "ndocs": 4 * opened.ndocs}
        return self.model_copy(update=update)


class FastPlaid(Dialect):
    """fast-plaid: no thresholds; centroid interaction keeps `n_full_scores`, of which a quarter is scored exactly."""

    opens: ClassVar[Opens] = {UNSEEN: ("n_ivf_probe",), "interaction": ("n_full_scores",)}
    cells, documents = "n_ivf_probe", "n_full_scores"
    kind: Literal["fast_plaid"] = "fast_plaid"
    n_ivf_probe: int = Field(8, ge=1)
    n_full_scores: int = Field(4096, ge=4)

    def plaid(self, k: int) -> Plaid:
        return Plaid(ncells=self.n_ivf_probe, ndocs=self.n_full_scores, n_exact=self.n_full_scores // 4)

    def exhaustive_equivalent(self, index: Index) -> Self:
        opened = Plaid().exhaustive_equivalent(index)
        return self.model_copy(update={"n_ivf_probe": opened.ncells, "n_full_scores": 4 * opened.ndocs})


class NextPlaid(Dialect):
    """next-plaid: like fast-plaid, but cells below `centroid_score_threshold` are not opened, and at least k are scored."""

    opens: ClassVar[Opens] = {
        UNSEEN: ("n_ivf_probe",),
        "probe": ("centroid_score_threshold",),
        "interaction": ("n_full_scores",),
    }
    cells, documents = "n_ivf_probe", "n_full_scores"
    kind: Literal["next_plaid"] = "next_plaid"
    n_ivf_probe: int = Field(8, ge=1)
    n_full_scores: int = Field(4096, ge=1)
    centroid_score_threshold: float | None = 0.4

    def plaid(self, k: int) -> Plaid:
        value = self.centroid_score_threshold
        n_exact = max(self.n_full_scores // 4, k)
        return Plaid(
            ncells=self.n_ivf_probe,
            cell_score_threshold=None if value is None else Threshold(value=value),
            ndocs=max(self.n_full_scores, n_exact),
            n_exact=n_exact,
        )

    def exhaustive_equivalent(self, index: Index) -> Self:
        opened = Plaid().exhaustive_equivalent(index)
        update = {"n_ivf_probe": opened.ncells, "n_full_scores": 4 * opened.ndocs, "centroid_score_threshold": None}
        return self.model_copy(update=update)
