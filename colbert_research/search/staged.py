"""What strategies that begin with a first stage share: they need what it needs."""

from colbert_research.config import component
from colbert_research.index import DerivedStructure, Index
from colbert_research.search.base import SearchStrategy
from colbert_research.search.first_stages import FIRST_STAGES


class Staged(SearchStrategy):
    """Base of the strategies with a `first_stage`."""

    kind: str
    first_stage: component("first_stage", FIRST_STAGES, default="bm25") = "bm25"  # type: ignore[valid-type]

    def _structures(self) -> tuple[DerivedStructure, ...]:
        structures: tuple[DerivedStructure, ...] = self.first_stage.structures()
        return structures

    def needs_texts(self) -> bool:
        return bool(self.first_stage.needs_texts())

    def needs_ids(self) -> bool:
        return bool(self.first_stage.needs_ids())

    def needs_centroids(self) -> bool:
        return bool(self.first_stage.needs_centroids())

    def what_needs_centroids(self) -> str:
        stage = f"search.first_stage.kind={self.first_stage.kind}"
        return stage + " without search.first_stage.atoms" * ("atoms" in type(self.first_stage).model_fields)

    def check_here(self) -> None:
        self.first_stage.check_here()

    def check(self, index: Index, k: int) -> None:
        self.first_stage.check(index)
