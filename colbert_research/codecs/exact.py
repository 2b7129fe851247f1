"""The exact codec: token vectors as they are, in single or half precision."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.codecs.base import Codes, Layout, State
from colbert_research.config import Config
from colbert_research.kernels.operands import Selection
from colbert_research.ragged import Ragged, unfit_row


class ExactConfig(Config):
    """Vectors stored as `dtype`."""

    kind: Literal["exact"] = "exact"
    dtype: Literal["float32", "float16"] = "float32"

    def sample_size(self, n_tokens: int) -> int:
        """One token, for its width: nothing is fitted."""
        return min(1, n_tokens)

    def fit(self, sample: NDArray[np.float32], *, n_tokens: int, seed: int, centroids: None = None) -> "ExactCodec":
        """A codec as wide as the sample `(n, dim)`."""
        return ExactCodec(self, int(sample.shape[1]))

    def restore(self, arrays: State) -> "ExactCodec":
        """The codec with the saved width."""
        return ExactCodec(self, int(arrays["dim"][0]))


@dataclass(frozen=True, eq=False)
class ExactCodec:
    """See `ExactConfig`. Codes: `vectors` `(n, dim)`."""

    config: ExactConfig
    dim: int
    centroids: None = None

    @property
    def layout(self) -> Layout:
        return {"vectors": (np.dtype(self.config.dtype), (self.dim,))}

    def encode(self, vectors: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        row = unfit_row(vectors, self.config.dtype)
        if row is not None:
            raise ValueError(
                f"a token vector with values up to {np.abs(vectors[row]).max():.4g} is not finite in {self.config.dtype}; "
                "choose codec.dtype=float32, or make the vectors shorter"
            )
        return {"vectors": np.asarray(vectors).astype(self.config.dtype)}

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        return np.asarray(codes["vectors"], np.float32)

    def maxsim(self, queries: Ragged, codes: Codes, offsets: NDArray[np.int64], only: Selection = None) -> NDArray[np.float32]:
        return kernels.maxsim(queries, Ragged(codes["vectors"], offsets), only=only)

    def state(self) -> dict[str, NDArray[Any]]:
        return {"dim": np.array([self.dim], np.int64)}
