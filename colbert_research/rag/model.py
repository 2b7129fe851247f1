"""`RAGPretrainedModel`, with the methods, arguments, defaults and return shapes of RAGatouille 0.0.9."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from colbert_research.encoders.base import checked
from colbert_research.rag.encoded import EncodedTexts
from colbert_research.rag.opened import FAST, Opened
from colbert_research.rag.passages import Documents, Splitter, check_same, passages_of, warn_of_cuts
from colbert_research.rag.pretrained import Pretrained, default_name, on_processor, pretrained
from colbert_research.rag.results import Asked, Result, result_of
from colbert_research.rag.store import add, build, check_place, taken_over
from colbert_research.rag.store import opened as opened_at
from colbert_research.search import Hit, Retriever
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    from colbert_research.integrations.langchain import LateInteractionCompressor, LateInteractionRetriever

logger = logging.getLogger("colbert_research")
ROOT, INSIDE = ".ragatouille/", ("colbert", "indexes")


class RAGPretrainedModel:
    """A late-interaction model, the indexes that it builds in one folder, and texts that it keeps in memory.

    Made by `from_pretrained` or `from_index`. `retriever` is the open index with all that can be done with it. Nothing is
    printed: progress is a bar or log lines (`colbert_research.progress`), `verbose` changes nothing.
    """

    def __init__(self, model: Pretrained, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.index_name: str | None = None
        self._opened: dict[str, Opened] = {}
        self._encoded = EncodedTexts(model)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | Any,
        n_gpu: int = -1,
        verbose: int = 1,
        index_root: str | Path | None = None,
    ) -> "RAGPretrainedModel":
        """A late-interaction checkpoint by its name on the Hub or its folder, or any encoder's config.

        `n_gpu=0` keeps it on the processor; else a GPU is used where there is one. `index_root`: where indexes are kept,
        `.ragatouille/` by default. The name of the offline encoder, sentence-transformers/all-MiniLM-L6-v2, is known too.
        The model's files are found now, and loaded when they are first needed. Raises ConfigError for a model that is nowhere
        or was not trained for late interaction.
        """
        encoder = pretrained(pretrained_model_name_or_path)
        folder = Path(ROOT if index_root is None else index_root, *INSIDE).absolute()
        return cls(Pretrained(on_processor(encoder) if n_gpu == 0 else encoder), folder)

    @classmethod
    def from_index(cls, index_path: str | Path, n_gpu: int = -1, verbose: int = 1) -> "RAGPretrainedModel":
        """An index as `index` returned its path, or any index of this package that has a text pipeline, with its encoder.

        One that RAGatouille built is taken over first, once, into a folder beside it: its codes, nothing is encoded again.
        Other indexes beside it are found by their names. Raises IndexMissingError where there is none, ConfigError for an
        index of bare vectors.
        """
        if not isinstance(index_path, str | Path) or not str(index_path):
            raise TypeError(f"expected the path of an index, as `index` returns it; given {index_path!r}")
        path = taken_over(Path(index_path).absolute())
        retriever = opened_at(path)
        encoder = retriever.pipeline.encoder_config
        pipeline = replace(retriever.pipeline, encoder_config=on_processor(encoder) if n_gpu == 0 else encoder)
        made = cls(Pretrained(pipeline.encoder_config, pipeline), path.parent)
        made.index_name, made._opened[path.name] = path.name, Opened(Retriever(retriever.index, pipeline))
        return made

    @property
    def retriever(self) -> Retriever:
        """The retriever of the current index; raises ConfigError where there is none yet."""
        return self._open(None).retriever

    def index(
        self,
        collection: Sequence[str],
        document_ids: Sequence[str] | None = None,
        document_metadatas: Sequence[Mapping[str, Any]] | None = None,
        index_name: str | None = None,
        overwrite_index: bool = True,
        max_document_length: int = 256,
        split_documents: bool = True,
        document_splitter_fn: Splitter | None = None,
        preprocessing_fn: Any = None,
        bsize: int = 32,
        use_faiss: bool = False,
        *,
        codec: Any = None,
    ) -> str:
        """Index documents and return the path of the index, which `from_index` opens.

        Documents are split by sentences into passages of at most `max_document_length` tokens, special tokens included, as the
        encoder's own tokenizer counts them, or by `document_splitter_fn` (see `rag.passages.Splitter`). A small index holds its
        vectors as they are and is searched exactly, a larger one 4-bit residuals (see `store.EXACT_TOKENS`); `codec` says
        otherwise. Without `index_name`, the name used before, or else the model's. `bsize` and `use_faiss` change nothing:
        batches are cut by tokens (`batch_tokens` of the encoder), and centroids are always faiss's k-means, on the processor.
        Raises ValueError or TypeError for documents that cannot be indexed, FileExistsError for a folder that may not be
        replaced; what was there is replaced only when the new index is whole.
        """
        documents = Documents(collection, document_ids, document_metadatas)
        if not documents.ids:
            raise ValueError("there are no documents to index; collection is a list of texts")
        fresh = index_name is None and self.index_name is None
        name = default_name(self.model.encoder) if fresh else self._name(index_name)
        check_place(self.folder / name, overwrite=overwrite_index)
        pipeline = self.model.pipeline(max_document_length)
        passages = passages_of(
            documents,
            pipeline.encoder,
            split_documents=split_documents,
            splitter=document_splitter_fn,
            preprocessing=preprocessing_fn,
            name=name,
            advice="raise max_document_length, or split them",
        )
        index = build(self.folder / name, passages, pipeline, codec=codec, overwrite=overwrite_index)
        self.index_name, self._opened[name] = name, Opened(Retriever(index, pipeline))
        return str(self.folder / name)

    def add_to_index(
        self,
        new_collection: Sequence[str],
        new_document_ids: Sequence[str] | None = None,
        new_document_metadatas: Sequence[Mapping[str, Any]] | None = None,
        index_name: str | None = None,
        split_documents: bool = True,
        document_splitter_fn: Splitter | None = None,
        preprocessing_fn: Any = None,
        bsize: int = 32,
        use_faiss: bool = False,
    ) -> None:
        """Add documents to an index, as `index` would have put them there; see there for what the arguments mean.

        A document that is there already is left out when its text and metadata are the same; another text under a known id is
        a ValueError. An index that is no longer small is compressed.
        """
        opened, name = self._use(index_name), self._name(index_name)
        documents = Documents(new_collection, new_document_ids, new_document_metadatas)
        if known := opened.known(documents.ids):
            for each in known:
                check_same(documents, each, opened.stored(each))
            logger.info("%d of %d documents are in the index already and left out", len(known), len(documents.ids))
            documents = documents.without(set(known))
        if not documents.ids:
            return
        pipeline = opened.retriever.pipeline
        passages = passages_of(
            documents,
            pipeline.encoder,
            split_documents=split_documents,
            splitter=document_splitter_fn,
            preprocessing=preprocessing_fn,
            name=name,
            advice="the length is that which the index was built with",
        )
        index = add(opened.retriever.index, passages, pipeline)
        self._opened[name] = Opened(Retriever(index, pipeline))

    def delete_from_index(self, document_ids: Sequence[str] | str, index_name: str | None = None) -> None:
        """Delete documents with all their passages: those with exactly these ids. Raises KeyError for ids that are unknown."""
        opened, name = self._use(index_name), self._name(index_name)
        wanted = [document_ids] if isinstance(document_ids, str) else list(document_ids)
        passages = [i for ids in opened.passages_of(dict.fromkeys(wanted)) for i in ids]
        if passages:
            index = opened.retriever.index.delete(passages)
            self._opened[name] = Opened(Retriever(index, opened.retriever.pipeline))

    def search(
        self,
        query: str | Sequence[str],
        index_name: str | None = None,
        k: int = 10,
        force_fast: bool = False,
        zero_index_ranks: bool = False,
        doc_ids: Sequence[str] | None = None,
        *,
        filter: Any = None,
    ) -> list[Result] | list[list[Result]]:
        """The best `k` passages for a query, all where there are fewer: `content`, `score`, `rank`, `document_id`, `passage_id`
        and, for a document that has some, `document_metadata`. For a list of queries, a list of such lists.

        `passage_id`: the passage's position in the index. `doc_ids`: the only documents that may be found; `filter`: as in
        `Retriever.search`. `force_fast`: fewer passages are scored on a compressed index; on a small one every search is exact.
        Raises ConfigError without an index, KeyError for unknown documents, ValueError for blank queries and k < 1.
        """
        opened = self._use(index_name)
        found = self.hits(_listed(query), index_name=index_name, k=k, force_fast=force_fast, doc_ids=doc_ids, filter=filter)
        results: list[list[Result]] = [
            [result_of(hit, opened.position(hit.document_id), hit.rank - zero_index_ranks) for hit in hits] for hits in found
        ]
        return _as_asked(query, results)

    def hits(
        self,
        queries: Sequence[str],
        *,
        index_name: str | None = None,
        k: int = 10,
        force_fast: bool = False,
        doc_ids: Sequence[str] | None = None,
        filter: Any = None,
    ) -> list[list[Hit]]:
        """`search` for a list of queries, as `Retriever.search_many` gives it: with titles, metadata and places of passages."""
        opened = self._open(index_name)
        encoder = opened.retriever.pipeline.encoder
        warn_of_cuts(queries, encoder, "query", "raise query_length of the encoder's config, or ask a shorter question")
        given = {} if filter is None else {"filter": filter}
        return opened.search(queries, k, document_ids=doc_ids, strategy=FAST if force_fast else None, **given)

    def rerank(
        self,
        query: str | Sequence[str],
        documents: Sequence[str],
        k: int = 10,
        zero_index_ranks: bool = False,
        bsize: int | Literal["auto"] = "auto",
    ) -> list[Result] | list[list[Result]]:
        """The best `k` of some documents, all where there are fewer: `content`, `score`, `rank` and `result_index`, the place
        among `documents`. For a list of queries, a list of such lists. Nothing is kept. `bsize` changes nothing."""
        texts = EncodedTexts(self.model)
        texts.add(documents)
        return _as_asked(query, texts.best(_listed(query), k, first_rank=1 - zero_index_ranks))

    def encode(
        self,
        documents: Sequence[str],
        bsize: int | Literal["auto"] = "auto",
        document_metadatas: Sequence[Mapping[str, Any]] | None = None,
        verbose: bool = True,
        max_document_length: int | Literal["auto"] = "auto",
    ) -> None:
        """Encode documents and keep them in memory, behind those that are there, for `search_encoded_docs`.

        `max_document_length`: tokens after which a document is cut; `auto` is the model's own length, or the most that it can
        take where a document needs it. `bsize` and `verbose` change nothing.
        """
        self._encoded.add(documents, document_metadatas, max_document_length)

    def search_encoded_docs(
        self, query: str | Sequence[str], k: int = 10, bsize: int = 32
    ) -> list[Result] | list[list[Result]]:
        """The best `k` of the documents that `encode` keeps, as `rerank` gives them, with `document_metadata` where there is
        any. Raises ConfigError where there are none."""
        if not self._encoded.texts:
            raise ConfigError("no documents are encoded; encode(documents) comes first")
        return _as_asked(query, self._encoded.best(_listed(query), k))

    def clear_encoded_docs(self, force: bool = False) -> None:
        """Forget what `encode` keeps, at once. `force` changes nothing: there is no waiting to be skipped."""
        self._encoded = EncodedTexts(self.model)

    def as_langchain_retriever(
        self,
        k: int = 10,
        *,
        index_name: str | None = None,
        force_fast: bool = False,
        zero_index_ranks: bool = False,
        doc_ids: Sequence[str] | None = None,
        filter: Any = None,
    ) -> "LateInteractionRetriever":
        """A LangChain retriever of `search` with these arguments, over the index as it is whenever it is asked."""
        from colbert_research.integrations.langchain import LateInteractionRetriever

        self._open(index_name)
        asked = Asked(self, index_name or self.index_name, force_fast)
        return LateInteractionRetriever(retriever=asked, k=k, ids=doc_ids, filter=filter, first_rank=int(not zero_index_ranks))

    def as_langchain_document_compressor(self, k: int = 5) -> "LateInteractionCompressor":
        """A LangChain document compressor: the best `k` documents by `rerank`, their `relevance_score` in the metadata."""
        from colbert_research.integrations.langchain import LateInteractionCompressor

        return LateInteractionCompressor(model=self, k=k)

    def _name(self, index_name: str | None) -> str:
        name = self.index_name if index_name is None else index_name
        if name is None:
            raise ConfigError("there is no index yet: index(collection) builds one, from_index(path) opens one")
        if not isinstance(name, str) or not name or name.startswith(".") or any(sign in name for sign in "/\\\0:"):
            raise ValueError(f"an index name is the name of a folder, without slashes or a leading dot; given {name!r}")
        return name

    def _open(self, index_name: str | None) -> Opened:
        name = self._name(index_name)
        if name not in self._opened:
            retriever = opened_at(self.folder / name)
            self._opened[name] = Opened(Retriever(retriever.index, self.model.loaded(retriever.pipeline)))
        return self._opened[name]

    def _use(self, index_name: str | None) -> Opened:
        """The index of that name, from now on the one that is meant where none is named."""
        opened = self._open(index_name)
        self.index_name = self._name(index_name)
        return opened


def _listed(query: str | Sequence[str]) -> list[str]:
    return [query] if isinstance(query, str) else checked(query)


def _as_asked(query: str | Sequence[str], found: list[list[Result]]) -> list[Result] | list[list[Result]]:
    """One list for one query, a list of lists for a list of queries, be it of one."""
    return found[0] if isinstance(query, str) else found
