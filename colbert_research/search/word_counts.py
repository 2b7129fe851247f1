"""How often each word occurs in each document of an index, from which BM25 scores are computed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.config import Config
from colbert_research.index import Arrays, DerivedStructure, IndexCorruptedError, Segment, SegmentStructure
from colbert_research.index.damage import REMEDY, check_range, open_array, open_offsets, open_rows
from colbert_research.ragged import offsets_of

DOCUMENTS_READ = 4096
Stopwords = Literal["english", "none"]


@dataclass(frozen=True, eq=False)
class WordLists:
    """For word `i` of the `vocabulary`, rows `offsets[i]` to `offsets[i + 1]` of the other two: ascending positions of its
    `documents`, and its `counts` there. `lengths` `(n_documents,)`: words of each document. Over all segments.
    `scores`: those of the last BM25 settings that were asked for."""

    vocabulary: Mapping[str, int]
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    scores: dict[Config, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, arrays: Sequence[Arrays]) -> "WordLists":
        """The lists of all segments, from the arrays of `WordCounts`; copied unless there is one segment."""
        if len(arrays) == 1:
            (one,) = arrays
            vocabulary = {word: i for i, word in enumerate(words_of(one["vocabulary"]))}
            return cls(vocabulary, np.asarray(one["offsets"]), one["documents"], one["counts"], one["lengths"])
        vocabulary = {}
        words, documents = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        starts = offsets_of([len(each["lengths"]) for each in arrays])
        for start, each in zip(starts[:-1], arrays, strict=True):
            ids = [vocabulary.setdefault(word, len(vocabulary)) for word in words_of(each["vocabulary"])]
            words.append(np.repeat(np.array(ids, np.int32), np.diff(each["offsets"])))
            documents.append(each["documents"] + np.int32(start))
        word = np.concatenate(words)
        order = np.argsort(word, kind="stable")
        return cls(
            vocabulary,
            offsets_of(np.bincount(word, minlength=len(vocabulary))),
            np.concatenate(documents)[order],
            np.concatenate([np.empty(0, np.int32), *(each["counts"] for each in arrays)])[order],
            np.concatenate([each["lengths"] for each in arrays]),
        )


class WordCounts(SegmentStructure):
    """For each segment the arrays of `WordLists`, and the `vocabulary` as UTF-8, one word per line, in the order of first use.

    Memory while building: about 32 bytes for each word that a document has.
    """

    kind: Literal["word_counts"] = "word_counts"
    stopwords: Stopwords = "english"

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        vocabulary: dict[str, int] = {}
        lengths: list[int] = []
        parts = [np.empty((3, 0), np.int32)]
        for texts in document_texts(segment):
            found: list[tuple[int, int, int]] = []
            for words in split(texts, self.stopwords):
                counted = Counter(vocabulary.setdefault(word, len(vocabulary)) for word in words)
                found += [(word, len(lengths), count) for word, count in counted.items()]
                lengths.append(len(words))
            parts.append(np.array(found, np.int32).reshape(-1, 3).T)
        word, documents, counts = np.concatenate(parts, axis=1)
        order = np.argsort(word, kind="stable")
        return {
            "vocabulary": np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
            "offsets": offsets_of(np.bincount(word, minlength=len(vocabulary))),
            "documents": documents[order],
            "counts": counts[order],
            "lengths": np.array(lengths, np.int32),
        }

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        integers = np.dtype(np.int32)
        vocabulary = open_rows(folder / "vocabulary.npy", np.dtype(np.uint8))
        try:
            words = words_of(vocabulary)
        except UnicodeDecodeError as error:
            raise IndexCorruptedError(f"{folder / 'vocabulary.npy'} is no text: {error}; {REMEDY}") from error
        if len(set(words)) < len(words):
            raise IndexCorruptedError(f"{folder / 'vocabulary.npy'} has a word twice; {REMEDY}")
        offsets = open_offsets(folder / "offsets.npy", len(words))
        postings = (int(offsets[-1]),)
        arrays = {name: open_array(folder / f"{name}.npy", integers, postings) for name in ("documents", "counts")}
        check_range(folder / "documents.npy", len(segment))
        lengths = open_array(folder / "lengths.npy", integers, (len(segment),))
        return {"vocabulary": vocabulary, "offsets": offsets, "lengths": lengths, **arrays}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> WordLists:
        return WordLists.of(arrays)


def words_of(vocabulary: NDArray[np.uint8]) -> list[str]:
    """The words of a vocabulary as `WordCounts` stores it."""
    return vocabulary.tobytes().decode().split("\n") if len(vocabulary) else []


def split(texts: Sequence[str], stopwords: Stopwords) -> list[list[str]]:
    """The words of each text, in order: lower-cased runs of two or more letters or digits, without stop words."""
    left_out = "english" if stopwords == "english" else []
    words: list[list[str]] = bm25s_package().tokenize(list(texts), stopwords=left_out, return_ids=False, show_progress=False)
    return words


def document_texts(segment: Segment) -> Iterator[list[str]]:
    """The texts of a segment's documents, title and a space first where there is a title, in pieces of some thousands."""
    for start in range(0, len(segment), DOCUMENTS_READ):
        documents = segment.documents.read(range(start, min(start + DOCUMENTS_READ, len(segment))))
        yield [f"{d.title} {d.text}".strip() for d in documents]


def bm25s_package() -> Any:
    """The package bm25s. Raises ImportError that says how to install it."""
    try:
        import bm25s
    except ImportError:
        raise ImportError('BM25 needs the package bm25s; install it with pip install "colbert-research[bm25]"') from None
    return bm25s
