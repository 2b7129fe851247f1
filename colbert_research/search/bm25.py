"""BM25 over the words of an index's documents, by bm25s: each document's score for each word is computed when it is built.

Source: Robertson and Zaragoza 2009; the variant is Lucene's (Kamphuis et al. 2020), in bm25s's form (Lu 2024).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.index import Auxiliary, Index

DOCUMENTS_READ = 4096


class Bm25Settings(Config):
    """`k1`, `b` as in Anserini's baselines; words are lower-cased runs of two or more letters or digits, not stemmed."""

    k1: float = Field(0.9, ge=0)
    b: float = Field(0.4, ge=0, le=1)
    stopwords: Literal["english", "none"] = "english"

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text, in order."""
        stopwords = "english" if self.stopwords == "english" else []
        words: list[list[str]] = _bm25s().tokenize(list(texts), stopwords=stopwords, return_ids=False, show_progress=False)
        return words


class Bm25Index(Bm25Settings, Auxiliary):
    """The scores of documents for words. Memory while building: the word ids of all documents."""

    kind: Literal["bm25"] = "bm25"

    def build(self, index: Index) -> Mapping[str, NDArray[Any]]:
        vocabulary: dict[str, int] = {}
        documents = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in words]
            for texts in document_texts(index)
            for words in self.words(texts)
        ]
        if not vocabulary:
            raise ValueError("no document of the index has a word, so BM25 can find nothing; choose another first stage")
        scorer = _bm25s().BM25(k1=self.k1, b=self.b, method="lucene")
        scorer.index((documents, vocabulary), create_empty_token=False, show_progress=False)
        return {
            "scores": np.asarray(scorer.scores["data"], np.float32),
            "documents": np.asarray(scorer.scores["indices"], np.int32),
            "offsets": np.asarray(scorer.scores["indptr"], np.int64),
            "vocabulary": np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
        }

    def open(self, index: Index, arrays: Mapping[str, NDArray[Any]]) -> "Bm25":
        words = arrays["vocabulary"].tobytes().decode().split("\n")
        vocabulary = {word: i for i, word in enumerate(words)}
        settings = Bm25Settings(**{name: getattr(self, name) for name in Bm25Settings.model_fields})
        return Bm25(settings, vocabulary, arrays["offsets"], arrays["documents"], arrays["scores"], index.n_documents)


@dataclass(frozen=True, eq=False)
class Bm25:
    """For word `i`: `documents[offsets[i]:offsets[i + 1]]` rise, and `scores` there are what the word adds to each of them."""

    settings: Bm25Settings
    vocabulary: Mapping[str, int]
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    scores: NDArray[np.float32]
    n_documents: int

    def of(self, text: str) -> NDArray[np.float32]:
        """The score of each document for a text, `(n_documents,)` float32; minus infinity where they share no word.

        A word that occurs twice in the text counts twice.
        """
        ids = [self.vocabulary[word] for word in self.settings.words([text])[0] if word in self.vocabulary]
        totals = np.zeros(self.n_documents, np.float32)
        for word, count in zip(*np.unique(np.array(ids, np.int64), return_counts=True), strict=True):
            listed = slice(self.offsets[word], self.offsets[word + 1])
            totals[self.documents[listed]] += np.float32(count) * self.scores[listed]
        totals[totals == 0] = -np.inf
        return totals


def document_texts(index: Index) -> Iterator[list[str]]:
    """The documents' texts, title and a space first where there is a title, in pieces of some thousands."""
    for segment in index.segments:
        for start in range(0, len(segment), DOCUMENTS_READ):
            documents = segment.documents.read(range(start, min(start + DOCUMENTS_READ, len(segment))))
            yield [f"{d.title} {d.text}".strip() for d in documents]


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise ImportError('BM25 needs the package bm25s; install it with pip install "colbert-research[bm25]"') from None
    return bm25s
