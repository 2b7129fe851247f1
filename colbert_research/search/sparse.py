"""One sparse vector per query and per document, whose inner product is read from inverted lists.

Each token is coded by its products with the few atoms of a dictionary that are nearest to it, the others zero; a document has
the greatest code of its tokens for each atom, a query the sum over its own. So two tokens count that share an atom, the more
the nearer they are to it. Nothing is trained.

In the manner of SMVE (TopK, March 2026), whose formulas we have not seen, and of sparse coding with a dictionary that is
learned (SSR, arXiv 2605.30120): what is computed is what is written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research import kernels
from colbert_research.codecs import Codec
from colbert_research.config import Config, Seed
from colbert_research.index import Arrays, DerivedStructure, Segment, SegmentStructure
from colbert_research.index.damage import check_range, open_array, open_offsets
from colbert_research.ragged import item_of_row, offsets_of, rows_of
from colbert_research.search.decoded import decoded_blocks

TOKENS_AT_ONCE, PRODUCTS_AT_ONCE = 1024, 2**24
Float32s = NDArray[np.float32]


class SparseSettings(Config):
    """`atoms`: so many random directions, of a `seed`; by default the dictionary is the codec's centroids.

    `document_atoms`: how many of them code a token of a document.
    """

    atoms: int | None = Field(None, ge=1)
    document_atoms: int = Field(4, ge=1)
    seed: Seed = 42

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.atoms is None and self.seed != type(self).model_fields["seed"].default:
            raise ValueError(f"seed={self.seed} is that of random atoms; say how many of them, as in atoms=16384")
        self.check_atoms(self.atoms)
        return self

    def check_atoms(self, n: int | None) -> None:
        """Raise ValueError where a token is to be coded by more than the `n` atoms that there are; by default by all."""
        for name in ("document_atoms", "query_atoms"):
            given, field = getattr(self, name, 0), type(self).model_fields.get(name)
            if n is not None and field is not None and given > n and given != field.default:
                raise ValueError(f"{name}={given} of {n} atoms cannot code a token; give at most {n}")

    def dictionary(self, codec: Codec) -> Float32s:
        """The atoms `(n_atoms, dim)`; ValueError for a codec without centroids, where these are asked for."""
        if self.atoms is not None:
            random = np.random.default_rng(self.seed).standard_normal((self.atoms, codec.dim))
            atoms: Float32s = (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)
            atoms.flags.writeable = False  # so that products with them are prepared once
            return atoms
        if codec.centroids is None:
            raise ValueError(
                f"first_stage=sparse codes tokens by centroids, and this index has none: its codec is {codec.config!r}. Give "
                "first_stage.atoms, for so many random directions, or build an index with a codec such as residual"
            )
        return codec.centroids

    def size(self, codec: Codec) -> int:
        """How many atoms there are; ValueError where `dictionary` has it."""
        return self.atoms if self.atoms is not None else len(self.dictionary(codec))


class SparseVectors(SparseSettings, SegmentStructure):
    """For each segment an inverted list per atom: documents, ascending, and their codes in float16.

    Memory while building: about five times the lists, a block of decoded vectors, and 64 MiB of products.
    """

    kind: Literal["sparse_vectors"] = "sparse_vectors"

    def build(self, codec: Codec, segment: Segment, needed: Mapping[DerivedStructure, Arrays]) -> Arrays:
        atoms, first = self.dictionary(codec), 0
        parts = [(np.empty(0, np.int64), np.empty(0, np.float32))]
        for block in decoded_blocks(codec, segment):
            documents = first + item_of_row(block.offsets)
            parts.append(self._greatest(np.asarray(block.values, np.float32), documents, atoms, len(segment)))
            first += len(block)
        keys, codes = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(keys)
        atom, document = np.divmod(keys[order], max(1, len(segment)))
        offsets = offsets_of(np.bincount(atom, minlength=len(atoms)))
        return {"offsets": offsets, "documents": document.astype(np.int32), "codes": codes[order].astype(np.float16)}

    def _greatest(
        self, tokens: Float32s, documents: NDArray[np.int64], atoms: Float32s, n_documents: int
    ) -> tuple[NDArray[np.int64], Float32s]:
        """Pairs of an atom and a document with a code above zero, as `atom * n_documents + document`, and the greatest code.

        `documents`: that of each token.
        """
        keys, codes = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        size = max(1, min(TOKENS_AT_ONCE, PRODUCTS_AT_ONCE // len(atoms)))
        for low in range(0, len(tokens), size):
            active, values = coded(tokens[low : low + size], atoms, self.document_atoms)
            key = active * n_documents + documents[low : low + size, None]
            keys.append(key[values > 0])
            codes.append(values[values > 0])
        unique, places = np.unique(np.concatenate(keys), return_inverse=True)
        greatest = np.zeros(len(unique), np.float32)
        np.maximum.at(greatest, places, np.concatenate(codes))
        return unique, greatest

    def read(self, folder: Path, codec: Codec, segment: Segment) -> Arrays:
        offsets = open_offsets(folder / "offsets.npy", self.size(codec))
        documents = open_array(folder / "documents.npy", np.dtype(np.int32), (int(offsets[-1]),))
        check_range(folder / "documents.npy", len(segment))
        codes = open_array(folder / "codes.npy", np.dtype(np.float16), (int(offsets[-1]),))
        return {"offsets": offsets, "documents": documents, "codes": codes}

    def open(self, codec: Codec, segments: Sequence[Segment], arrays: Sequence[Arrays]) -> "SparseLists":
        return SparseLists(self.dictionary(codec), tuple(map(len, segments)), tuple(arrays))


@dataclass(frozen=True, eq=False)
class SparseLists:
    """The dictionary, and the lists of each segment of so many documents."""

    atoms: Float32s
    sizes: tuple[int, ...]
    lists: tuple[Arrays, ...]

    def scores(self, query: Float32s, active: int) -> Float32s:
        """Inner products of a query `(n_tokens, dim)`, `active` atoms to a token, with every document: `(n_positions,)`."""
        chosen, values = coded(query, self.atoms, active)
        weights = np.zeros(len(self.atoms))
        np.add.at(weights, chosen, np.maximum(values, 0))
        used = np.flatnonzero(weights)
        found = [np.empty(0, np.float32)]
        for size, lists in zip(self.sizes, self.lists, strict=True):
            rows, offsets = rows_of(lists["offsets"], used), lists["offsets"]
            terms = lists["codes"][rows] * np.repeat(weights[used], offsets[used + 1] - offsets[used])
            found.append(np.bincount(lists["documents"][rows], terms, minlength=size).astype(np.float32))
        return np.concatenate(found)


def coded(tokens: Float32s, atoms: Float32s, active: int) -> tuple[NDArray[np.int64], Float32s]:
    """The `active` atoms with the greatest products of each token `(n, dim)`, at most all that there are, and the products."""
    products = kernels.dot_products(tokens, atoms)
    chosen = kernels.greatest(products, min(active, len(atoms)))
    return chosen, np.take_along_axis(products, chosen, axis=1)
