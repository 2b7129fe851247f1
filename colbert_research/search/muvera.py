"""MUVERA: the documents whose fixed dimensional encodings lie nearest to the query's, scored exactly.

Source: MUVERA (Dhulipala et al. 2024), sections 2 and 3; the encodings themselves are in `search/fde.py`. The paper finds the
nearest with a graph (DiskANN); here every encoding is compared, so that what is lost is lost by the encodings alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.codecs import Codec
from colbert_research.index import Arrays, DerivedStructure, Index, Scope, Segment, SegmentStructure
from colbert_research.index.damage import open_rows
from colbert_research.search import ann
from colbert_research.search.base import Found, Opens, Queries, SearchStrategy
from colbert_research.search.candidates import check_reach, largest_segment, score_all, score_candidates
from colbert_research.search.decoded import decoded_blocks, decoded_documents
from colbert_research.search.fde import FixedDimensional, fde_of_documents, fde_of_queries
from colbert_research.search.neighbours import Neighbours
from colbert_research.search.trace import Trace

DIMENSIONS_PER_CODE = 8  # the paper's PQ-256-8: 256 centroids for each 8 dimensions
VALUES_HELD = 2**25  # float32 values of one block of encodings: 128 MiB
DOCUMENTS_READ = 256


class FdeSettings(FixedDimensional):
    """An encoding, and how those of documents are kept: as `float32`, `float16`, or `pq`: a byte for 8 dimensions."""

    storage: Literal["float32", "float16", "pq"] = "float32"

    def check_storage(self, *, n: int, dim: int) -> None:
        """Raise ValueError when the encodings of `n` documents with `dim` dimensions per token cannot be kept like this."""
        width = self.width(dim)
        if self.storage == "pq":
            if width % DIMENSIONS_PER_CODE:
                raise ValueError(
                    f"storage='pq' takes {DIMENSIONS_PER_CODE} dimensions per byte, and {width} is no multiple of that"
                )
            ann.check_product(n=n, dim=width, m=width // DIMENSIONS_PER_CODE)


class DocumentFdes(FdeSettings, SegmentStructure):
    """For each segment the encodings of its documents, as a faiss structure; float32, if they are too few for product codes.

    Memory while building: the structure of a segment, twice at the end; a block of encodings, 128 MiB; and for product codes a
    float32 sample of at most 16384 encodings.
    """

    kind: Literal["fde"] = "fde"
    opaque: ClassVar[frozenset[str]] = frozenset({"faiss"})

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        width = self.width(codec.dim)
        product = f"PQ{width // DIMENSIONS_PER_CODE}x{ann.PQ_BITS}np"
        structure = ann.FaissStructure(
            factory={"float32": "Flat", "float16": "SQfp16", "pq": product}[self.storage],
            training=ann.POINTS_PER_CENTROID * ann.PQ_CENTROIDS if self.storage == "pq" else 0,
            least=ann.PQ_CENTROIDS if self.storage == "pq" else 0,
            seed=self.seed,
        )
        positions = ann.training_rows(len(segment), structure)
        sample = np.empty((len(positions), width), np.float32)
        for start in range(0, len(positions), DOCUMENTS_READ):
            part = slice(start, start + DOCUMENTS_READ)
            sample[part] = fde_of_documents(decoded_documents(codec, segment, positions[part]), self)
        return {"faiss": ann.build_faiss(structure, width, sample=sample, blocks=self._blocks(codec, segment, width))}

    def _blocks(self, codec: Codec, segment: Segment, width: int) -> Iterator[NDArray[np.float32]]:
        step = max(1, VALUES_HELD // width)
        for block in decoded_blocks(codec, segment):
            for start in range(0, len(block), step):
                yield fde_of_documents(block.slice(start, start + step), self)

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        return {"faiss": open_rows(folder / "faiss.npy", np.dtype(np.uint8), mmap=True)}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> Neighbours:
        sizes = [len(segment) for segment in segments]
        return Neighbours.of([each["faiss"] for each in arrays], sizes, self.width(codec.dim))


class Muvera(FdeSettings, SearchStrategy):
    """The `n_candidates` documents whose encodings have the largest inner product with the query's, scored exactly.

    The other settings are those of `FixedDimensional` and `storage`. Documents, or a subset, of at most `n_candidates` are
    scored exactly, without candidates.
    """

    opens: ClassVar[Opens] = {"fde": ("n_candidates",)}
    kind: Literal["muvera"] = "muvera"
    n_candidates: int = Field(1000, ge=1)

    def _structures(self) -> tuple[DocumentFdes]:
        return (DocumentFdes(**{name: getattr(self, name) for name in FdeSettings.model_fields}),)

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"n_candidates": index.n_documents})

    def check_size(self, n_documents: int, k: int) -> None:
        check_reach("n_candidates", self.n_candidates, n_documents, k)

    def check(self, index: Index, k: int) -> None:
        self.check_storage(n=largest_segment(index)[0], dim=index.dim)

    def _search(self, index: Index, queries: Queries, k: int, scope: Scope, trace: Trace) -> list[Found]:
        if scope.size <= self.n_candidates:
            return score_all(index, queries, k, scope, trace)
        encodings: Neighbours = index.structure(self._structures()[0])
        candidates, with_tokens = [], index.contents.with_tokens
        without = index.n_positions - int(np.count_nonzero(with_tokens))
        for query in queries:
            with trace.stage("fde") as count:
                enough = self.n_candidates + index.n_positions - scope.size + without  # as many admitted ones are among so many
                wanted = min(enough, index.n_positions) if trace.kept is None else index.n_positions
                found = encodings.search(fde_of_queries(query.vectors, self), wanted)[0]
                found = scope.intersect(found[found >= 0])
                found = found[with_tokens[found]]
                candidates.append(np.sort(found[: self.n_candidates]))
                count.documents += index.n_positions
            trace.keep_order("fde", found)
        return score_candidates(index, queries, k, candidates, trace)
