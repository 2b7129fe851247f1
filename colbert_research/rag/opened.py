"""An open index of passages, asked by documents."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from colbert_research.data.passages import parsed, source_of
from colbert_research.data.splitting import Passage
from colbert_research.search import Auto, Hit, Retriever, SearchStrategy

FAST = Auto(exhaustive_tokens=0, ncells=1, n_exact=256)
"""What `force_fast` means on a compressed index: one cell a query token; 256 passages scored in full, or 4 k if more."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A retriever whose index holds passages, `doc#0`, `doc#1`, … of documents, or documents that were stored whole."""

    retriever: Retriever

    def search(
        self,
        texts: Sequence[str],
        k: int,
        *,
        document_ids: Iterable[str] | None = None,
        strategy: SearchStrategy | None = None,
        **restriction: Any,
    ) -> list[list[Hit]]:
        """The best `k` passages for each text, among those of some documents where `document_ids` is given."""
        retriever = self.retriever
        if strategy is not None:
            retriever = Retriever(retriever.index, retriever.pipeline, strategy)
        ids = None if document_ids is None else [i for d in self.passages_of(document_ids) for i in d]
        return retriever.search_many(texts, k, ids, **restriction)

    def passages_of(self, document_ids: Iterable[str]) -> list[list[str]]:
        """The ids of the passages of each document, in their order. Raises KeyError that names documents that are not there,
        TypeError for what is no list of strings."""
        if isinstance(document_ids, str):
            raise TypeError(f"expected a list of document ids; given one string, {document_ids!r:.60}. Put it in a list")
        wanted = list(document_ids)
        if strange := [each for each in wanted if not isinstance(each, str)]:
            raise TypeError(f"document ids are strings; given {strange[0]!r:.60}")
        found = [self._passages.get(each, []) for each in wanted]
        sources = self._sources([i for ids in found for i in ids])
        kept = [[i for i in ids if sources[i] == each] for each, ids in zip(wanted, found, strict=True)]
        if unknown := [each for each, ids in zip(wanted, kept, strict=True) if not ids]:
            raise KeyError(f"{len(unknown)} documents are not in {self.retriever.index.path}, such as {unknown[:3]}")
        return kept

    def known(self, document_ids: Iterable[str]) -> list[str]:
        """Those of some documents that are in the index."""
        there = [each for each in document_ids if each in self._passages]
        sources = self._sources([i for each in there for i in self._passages[each]])
        return [each for each in there if any(sources[i] == each for i in self._passages[each])]

    def stored(self, document_id: str) -> list[tuple[Passage, Mapping[str, Any]]]:
        """The passages of a document as they are stored, and its metadata."""
        (ids,) = self.passages_of([document_id])
        documents = self.retriever.index.documents(ids)
        sources = [source_of(each.id, each.metadata) for each in documents]
        return [(Passage(d.text, s.start, s.end), s.metadata) for d, s in zip(documents, sources, strict=True)]

    def position(self, passage_id: str) -> int:
        """The position of a passage in the index."""
        return int(self.retriever.index.positions([passage_id])[0])

    @cached_property
    def _passages(self) -> dict[str, list[str]]:
        """By document, what may be its passages by their names."""
        found: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for stored in self.retriever.index.document_ids:
            document, number = parsed(stored)
            found[stored].append((-1, stored))
            if number is not None:
                found[document].append((number, stored))
        return {document: [stored for _, stored in sorted(parts)] for document, parts in found.items()}

    def _sources(self, stored: Sequence[str]) -> dict[str, str]:
        """The document of each of some stored ids, as its metadata says."""
        return {each.id: source_of(each.id, each.metadata).document_id for each in self.retriever.index.documents(stored)}
