"""Codecs that are a table, which all tokens share, and a few bytes per token, which the kernels score as they are."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs.base import Codes, Layout
from colbert_research.codecs.clustering import centroid_id_type
from colbert_research.codecs.subspaces import rotate
from colbert_research.config import Config
from colbert_research.kernels.operands import CodedTokens, Selection, Table
from colbert_research.ragged import Ragged, offsets_of

LONGEST = 1 / float(np.finfo(np.float16).tiny)  # of decoded vectors: beyond it inverse norms lose bits


class TableCodec(ABC):
    """Base of such codecs; one of them says what its table is, which code a value has, and what it has learnt.

    Codes: with `centroids`, `centroid_ids` `(n,)` of the nearest ones; under the name `code`, the code of what they leave over,
    or of the vector itself; with `stores_norms`, `inverse_norms` `(n,)` float16.
    `rotation` `(dim, dim)` leads from vectors and centroids to the space of the table; None where that is the same.
    """

    code: ClassVar[str]
    config: Config
    centroids: NDArray[np.float32] | None
    rotation: NDArray[np.float32] | None = None

    @cached_property
    @abstractmethod
    def table(self) -> Table:
        """What the kernels take; its centroids are rotated."""

    @abstractmethod
    def quantised(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The code `(n, table.packed_width)` of values `(n, dim)` in the space of the table."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Fitted arrays, for `config.restore`."""

    def left_over(self, vectors: NDArray[np.float32], centroids: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """What the code is for, of vectors `(n, dim)` and the centroid of each, where there are any: `(n, dim)`."""
        return vectors if centroids is None else vectors - centroids

    @property
    def stores_norms(self) -> bool:
        """Whether decoded vectors differ in length, so that each needs its inverse norm."""
        return True

    @property
    def dim(self) -> int:
        return self.table.dim

    @property
    def n_centroids(self) -> int:
        return 0 if self.centroids is None else len(self.centroids)

    @property
    def layout(self) -> Layout:
        ids = {"centroid_ids": (centroid_id_type(self.n_centroids), ())} if self.n_centroids else {}
        norms = {"inverse_norms": (np.dtype(np.float16), ())} if self.stores_norms else {}
        return {**ids, self.code: (np.dtype(np.uint8), (self.table.packed_width,)), **norms}

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        vectors, nearest = np.asarray(vectors, np.float32), None
        codes: dict[str, NDArray[Any]] = {}
        if self.centroids is not None:
            ids = kernels.assign(vectors, self.centroids)
            nearest = self.centroids[ids]
            codes["centroid_ids"] = ids.astype(centroid_id_type(self.n_centroids))
        codes[self.code] = self.quantised(self.rotated(self.left_over(vectors, nearest)))
        if self.stores_norms:
            codes["inverse_norms"] = inverse_norms(kernels.decode(self.tokens(codes, offsets_of([len(vectors)]))), vectors)
        return codes

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        decoded = kernels.decode(self.tokens(codes, offsets_of([len(codes[self.code])])))
        return decoded if self.rotation is None else rotate(decoded, np.ascontiguousarray(self.rotation.T))

    def maxsim(self, queries: Ragged, codes: Codes, offsets: NDArray[np.int64], only: Selection = None) -> NDArray[np.float32]:
        return kernels.maxsim_codes(queries.map(self.rotated), self.tokens(codes, offsets), only=only)

    def tokens(self, codes: Codes, offsets: NDArray[np.int64]) -> CodedTokens:
        """Codes as kernels take them."""
        return CodedTokens(self.table, codes[self.code], offsets, codes.get("centroid_ids"), codes.get("inverse_norms"))

    def rotated(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors `(n, dim)` in the space of the table."""
        return rotate(np.asarray(vectors, np.float32), self.rotation)


def inverse_norms(decoded: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """What L2-normalises each decoded vector `(n, dim)`: `(n,)` float16; 0 where the vector itself is all zeros.

    Raises ValueError for vectors so long that float16 cannot hold what makes them short.
    """
    norms = np.linalg.norm(decoded, axis=1)
    if norms.max(initial=0) > LONGEST:
        raise ValueError(
            f"a token vector of length {norms.max():.4g} is too long for codes with a float16 inverse norm, which serve up to "
            f"{LONGEST:g}; let the encoder L2-normalise its vectors, or choose codec.kind=exact"
        )
    invertible = norms * np.finfo(np.float16).max >= 1
    inverse = 1 / np.where(invertible, norms, 1)
    return np.where(np.any(vectors, axis=1), inverse, 0).astype(np.float16)
