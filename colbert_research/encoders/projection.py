"""What a reducer learnt, as a value that is saved beside vectors and in pipelines."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ARRAYS = ("projection", "mean")
"""Names under which the parts of a projection are saved."""


class Projection(NamedTuple):
    """What a reducer learnt: `matrix` `(dim, reduced dim)` and, where vectors are centred first, `mean` `(dim,)`; float32."""

    matrix: NDArray[np.float32]
    mean: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, given: "Projection | NDArray[np.float32] | None") -> "Projection | None":
        """A projection as it is; a matrix alone as one without a mean."""
        return given if given is None or isinstance(given, Projection) else cls(given)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]]) -> "Projection | None":
        """The projection that `arrays` gave; None where there is none."""
        return cls(arrays["projection"], arrays.get("mean")) if "projection" in arrays else None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Its parts by the names under which they are saved."""
        return {"projection": self.matrix} | ({} if self.mean is None else {"mean": self.mean})
