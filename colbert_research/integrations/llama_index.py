"""LlamaIndex: a retriever (extra `llama-index`)."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from colbert_research.integrations.metadata import metadata_of


class LateInteractionRetriever(BaseRetriever):  # type: ignore[misc]
    """The best `k` documents of a `Retriever` as nodes, with the id under which they are stored and `metadata_of` a hit.

    `ids`, `filter`: as in `Retriever.search`.
    """

    def __init__(self, retriever: Any, *, k: int = 10, ids: Sequence[str] | None = None, filter: Any = None) -> None:
        super().__init__()
        self.retriever, self.k, self.ids, self.filter = retriever, k, ids, filter

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        asked = {} if self.filter is None else {"filter": self.filter}
        return [
            NodeWithScore(
                node=TextNode(id_=hit.document_id, text=hit.text, metadata=metadata_of(hit)),
                score=hit.score,
            )
            for hit in self.retriever.search(query_bundle.query_str, self.k, self.ids, **asked)
        ]
