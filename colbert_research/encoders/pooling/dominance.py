"""Pruning by dominance: a token that no query needs, because others answer every query as well, up to a threshold."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from colbert_research.encoders.pooling.base import Document, Pooling, State

STEPS = 1000
"""Most steps of `outside`; a token of which nothing is certain by then stays."""


class DominancePruningConfig(Pooling):
    """Leaves out the tokens that lie within `threshold` of the convex hull of those that stay.

    A token is dominated when every query vector finds another token of the document at least as similar, which is when it lies
    in the convex hull of the others (local dominance; without the paper's ReLU, under which the origin belongs to the hull).
    Vectors of one length never do unless they are equal, so the test is relaxed: by as much as a token lies outside the hull,
    the best similarity of a query vector of length 1 can fall without it, and by no more.

    Exact: under MaxSim each query token loses at most `threshold` times its length, whatever the query, and none gains; up to
    rounding, 0 being what the paper calls lossless. The bound is of what is kept in the end, so it does not add up. Heuristic:
    which tokens stay. The first one and the protected ones do, then, farthest from these first, whatever lies farther outside;
    fewer might do, and what real queries lose is far less than the worst one. How many stay differs from document to document.

    Source: Zong and Piwowarski 2025 (arXiv 2504.12778), who decide by linear programming (Farkas' lemma), and relax the test by
    truncating the singular values of a document instead.
    """

    kind: Literal["prune_dominance"] = "prune_dominance"
    threshold: float = Field(0.5, ge=0, description="the most that a query token of length 1 may lose of its best similarity")

    def _pooled(self, document: Document, state: State, seed: int) -> Document:
        return document.part(self.kept_tokens(document.vectors))

    def kept_tokens(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """The tokens of `(n, dim)` that stay, ascending."""
        n_tokens = len(vectors)
        products = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
        squares = np.diag(products)
        # what equal vectors may differ by when their distance is computed from products
        rounding = 4 * (vectors.shape[1] + 2) * float(np.finfo(np.float64).eps) * float(squares.max(initial=0.0))
        limit = max(self.threshold**2, rounding)
        kept = list(range(min(n_tokens, max(1, self.protected))))
        nearest = (squares[:, None] + squares[kept] - 2 * products[:, kept]).min(axis=1, initial=np.inf)
        nearest[kept] = 0
        while n_tokens and nearest[token := int(nearest.argmax())] > limit:
            if outside(products[np.ix_(kept, kept)], products[kept, token], squares[token], limit):
                kept.append(token)
                nearest = np.minimum(nearest, squares + squares[token] - 2 * products[:, token])
            nearest[token] = 0  # decided
        return np.array(sorted(kept), np.int64)


def outside(products: NDArray[np.float64], point: NDArray[np.float64], square: float, limit: float) -> bool:
    """Whether a point's squared distance to the convex hull of some vertices is more than `limit`.

    `products` `(n, n)`: of the vertices with each other; `point` `(n,)`: of the point with them; `square`: with itself. Steps
    of the pairwise Frank-Wolfe method (Lacoste-Julien and Jaggi 2015, arXiv 1511.05932) from the nearest vertex, until a
    point of the hull is near enough or the gap of duality says that none is.
    """
    distances = np.diag(products) - 2 * point
    first = int(distances.argmin())
    weights = np.zeros(len(point))
    weights[first] = 1.0
    found, distance = products[first].copy(), square + distances[first]  # found: products of the hull's point with the vertices
    for _ in range(STEPS):
        if distance <= limit:
            return False
        slopes = found - point  # half the gradient of the squared distance in the weights
        towards, mean = int(slopes.argmin()), float(weights @ slopes)
        if distance - 2 * (mean - slopes[towards]) > limit:
            return True
        away = int(np.where(weights > 0, slopes, -np.inf).argmax())
        length = products[towards, towards] + products[away, away] - 2 * products[towards, away]
        gain = slopes[away] - slopes[towards]
        if gain <= 0 or length <= 0:
            return True
        step = min(weights[away], gain / length)
        weights[towards] += step
        weights[away] = 0.0 if step == weights[away] else weights[away] - step
        found += step * (products[towards] - products[away])
        distance += step * (step * length - 2 * gain)
    return True
