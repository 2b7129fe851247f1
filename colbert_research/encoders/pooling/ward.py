"""Ward's hierarchical clustering of a document's tokens, by each of the three distances that engines give it."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders.pooling.base import Document
from colbert_research.encoders.pooling.merge import Labels, Merging, unit_vectors


class WardPoolingConfig(Merging):
    """Clusters that Ward's rule merges one by one, always the two whose union adds least to the sum of squares within.

    Engines call all of these Ward, and they give different clusters. `definition` says what the rule is given:

    - `euclidean`: distances between the vectors, for which the rule is Ward's criterion. No release known to us runs it; a
      change of PyLate (234) proposed it.
    - `cosine`: `1 - cosine` in place of distances, which on unit vectors is half their square. PyLate since its change 206,
      Sentence Transformers, next-plaid.
    - `cosine_rows`: distances between the rows of the matrix of `1 - cosine`, as if its entries were coordinates, so that
      tokens merge which see all others alike. Stanford's implementation, hence RAGatouille; PyLate before that change;
      colpali's HierarchicalTokenPooler.

    The tree is cut into exactly as many clusters as are asked for; the engines' cut gives fewer when merges tie in height.
    Source: Clavié, Chaffin and Adams 2024 (arXiv 2409.14683).
    """

    kind: Literal["ward"] = "ward"
    definition: Literal["euclidean", "cosine", "cosine_rows"] = "cosine"

    def _groups(self, document: Document, groups: int, seed: int) -> Labels:
        from scipy.cluster.hierarchy import linkage

        if self.definition == "euclidean":
            distances = euclidean(document.vectors.astype(np.float64))
        else:
            unit = unit_vectors(document.vectors)
            cosine_distances = np.maximum(0, 1 - unit @ unit.T)  # rounding takes a cosine above 1
            distances = upper(cosine_distances) if self.definition == "cosine" else euclidean(cosine_distances)
        return cut(linkage(distances, method="ward"), groups)


def upper(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entries above the diagonal of a square matrix, row by row: SciPy's condensed form."""
    return matrix[np.triu(np.ones(matrix.shape, bool), k=1)]


def euclidean(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between points `(n, dim)`, condensed, by one matrix product: ten times as fast as pair by pair.

    Squares are exact to a few float64 epsilons times the points' squared length, so nothing below the resolution of float32
    vectors is lost.
    """
    products = points @ points.T
    squares = np.diag(products)
    return np.sqrt(np.maximum(0, upper(squares[:, None] + squares - 2 * products)))


def cut(tree: NDArray[Any], groups: int) -> Labels:
    """The clusters that are left when all but the last `groups - 1` merges of a SciPy linkage `(n - 1, 4)` are made."""
    n = len(tree) + 1
    merges = tree[: n - groups, :2].astype(np.int64).tolist()
    parents = list(range(n + len(merges)))
    for node, (left, right) in enumerate(merges, start=n):
        parents[left] = parents[right] = node
    for node in reversed(range(len(parents))):  # a parent comes after its children
        parents[node] = parents[parents[node]]
    return np.unique(parents[:n], return_inverse=True)[1]
