"""BM25 over the words of an index's documents: what each word adds to a document's score is computed when it is asked for.

Source: Robertson and Zaragoza 2009; the variant is Lucene's (Kamphuis et al. 2020), with the arithmetic of bm25s (Lu 2024).
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.config import Config
from colbert_research.ragged import offsets_of
from colbert_research.search.word_counts import Stopwords, WordCounts, WordLists, split

POSTINGS_SCORED = 2**20  # together


class Bm25Settings(Config):
    """`k1`, `b` as in Anserini's baselines; words are lower-cased runs of two or more letters or digits, not stemmed."""

    k1: float = Field(0.9, ge=0)
    b: float = Field(0.4, ge=0, le=1)
    stopwords: Stopwords = "english"

    def counts(self) -> WordCounts:
        """The structure that the scores are computed from; it does not depend on `k1` and `b`."""
        return WordCounts(stopwords=self.stopwords)

    def scores_of(self, lists: WordLists, deleted: NDArray[np.int64] | None = None) -> "Bm25":
        """The scores of documents for words; those at `deleted` positions count for no frequency and no mean length, always the
        same for the same `lists`. Raises ValueError where no document has a word."""
        scores = lists.scores.get(self)
        if scores is None:
            scores = self._scores(lists, np.empty(0, np.int64) if deleted is None else deleted)
            lists.scores.clear()
            lists.scores[self] = scores
        return Bm25(self.stopwords, lists.vocabulary, lists.offsets, lists.documents, scores, len(lists.lengths))

    def _scores(self, lists: WordLists, deleted: NDArray[np.int64]) -> NDArray[np.float32]:
        """`(n_postings,)`: idf = ln(1 + (n - df + 0.5) / (df + 0.5)), times tf / (tf + k1 (1 - b + b length / mean length))."""
        n, frequencies = len(lists.lengths) - len(deleted), np.diff(lists.offsets)
        if len(deleted):
            gone = np.zeros(len(lists.lengths), np.bool_)
            gone[deleted] = True
            frequencies = frequencies - np.diff(offsets_of(gone[lists.documents])[lists.offsets])
        if not frequencies.any():
            raise ValueError("no document of the index has a word, so BM25 can find nothing; choose another first stage")
        distinct, place = np.unique(frequencies, return_inverse=True)
        idf = np.array([math.log(1 + (n - df + 0.5) / (df + 0.5)) for df in distinct.tolist()], np.float32)[place]
        mean = (lists.lengths.sum(dtype=np.int64) - lists.lengths[deleted].sum(dtype=np.int64)) / n
        norms = self.k1 * ((1 - self.b) + self.b * lists.lengths / mean)
        scores = np.empty(len(lists.documents), np.float32)
        for low in range(0, len(scores), POSTINGS_SCORED):
            part = slice(low, low + POSTINGS_SCORED)
            counts = lists.counts[part].astype(np.float32)
            words = np.searchsorted(lists.offsets, np.arange(low, low + len(counts)), side="right") - 1
            scores[part] = idf[words] * (counts / (norms[lists.documents[part]] + counts))  # in float64
        return scores


@dataclass(frozen=True, eq=False)
class Bm25:
    """For word `i`: `documents[offsets[i]:offsets[i + 1]]` rise, and `scores` there are what the word adds to each of them."""

    stopwords: Stopwords
    vocabulary: Mapping[str, int]
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    scores: NDArray[np.float32]
    n_documents: int

    def of(self, text: str) -> NDArray[np.float32]:
        """The score of each document for a text, `(n_documents,)` float32; minus infinity where they share no word.

        A word that occurs twice in the text counts twice. Words are added in alphabetical order, whatever their numbers are.
        """
        counts = Counter(word for word in split([text], self.stopwords)[0] if word in self.vocabulary)
        totals = np.zeros(self.n_documents, np.float32)
        for word, count in sorted(counts.items()):
            number = self.vocabulary[word]
            listed = slice(self.offsets[number], self.offsets[number + 1])
            totals[self.documents[listed]] += np.float32(count) * self.scores[listed]
        totals[totals == 0] = -np.inf
        return totals
