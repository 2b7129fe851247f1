"""LangChain: a retriever and a document compressor (extra `langchain`)."""

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from pydantic import ConfigDict, Field

from colbert_research.integrations.metadata import metadata_of


class LateInteractionRetriever(BaseRetriever):  # type: ignore[misc]
    """The best `k` documents of a `Retriever` (or of what `RAGPretrainedModel.as_langchain_retriever` puts in its place).

    A `Document` has the id under which it is stored, and the metadata of `metadata_of`. `ids`, `filter`: as in
    `Retriever.search`. All of them may be given anew with a question: `invoke(text, k=3)`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    retriever: Any
    k: int = Field(10, ge=1)
    ids: Sequence[str] | None = None
    filter: Any = None
    first_rank: int = 1

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
        ids: Sequence[str] | None = None,
        filter: Any = None,
    ) -> list[Document]:
        ids, filter = self.ids if ids is None else ids, self.filter if filter is None else filter
        asked = {} if filter is None else {"filter": filter}
        hits = self.retriever.search(query, self.k if k is None else k, ids, **asked)
        return [
            Document(id=hit.document_id, page_content=hit.text, metadata=metadata_of(hit, first_rank=self.first_rank))
            for hit in hits
        ]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **asked: Any
    ) -> list[Document]:
        found: list[Document] = await run_in_executor(None, self._get_relevant_documents, query, **asked)
        return found


class LateInteractionCompressor(BaseDocumentCompressor):  # type: ignore[misc]
    """The best `k` of some documents, all where there are fewer, with their `relevance_score` in the metadata.

    `model`: a `RAGPretrainedModel`, whose `rerank` scores them.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Any
    k: int = Field(5, ge=1)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The documents by score descending; those that were given are not changed."""
        best = self.model.rerank(query, [document.page_content for document in documents], k=self.k)
        return [
            documents[each["result_index"]].model_copy(
                update={"metadata": {**documents[each["result_index"]].metadata, "relevance_score": each["score"]}}
            )
            for each in best
        ]
