"""Re-ranking: another ranking's best documents, scored exactly.

Source: ColBERT (Khattab and Zaharia 2020), section 4.2, over BM25; MacAvaney and Tonellotto 2024 show how good that is.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field

from colbert_research.index import Index, Scope
from colbert_research.search.base import UNSEEN, Found, Opens, Queries
from colbert_research.search.candidates import check_reach, score_all, score_candidates
from colbert_research.search.staged import Staged
from colbert_research.search.trace import Trace


class Rerank(Staged):
    """The best `depth` documents of the `first_stage`, scored exactly.

    A subset is ranked by the first stage among itself. Documents, or a subset, of at most `depth` are scored exactly, without
    a first stage.
    """

    opens: ClassVar[Opens] = {UNSEEN: ("depth",), "first stage": ("depth",)}
    kind: Literal["rerank"] = "rerank"
    depth: int = Field(1000, ge=1)

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"depth": index.n_documents})

    def check_size(self, n_documents: int, k: int) -> None:
        check_reach("depth", self.depth, n_documents, k)

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if scope.size <= self.depth:
            return score_all(index, queries, k, scope, trace)
        candidates = self.first_stage.candidates(index, queries, self.depth, scope, trace)
        return score_candidates(index, queries, k, candidates, trace)
