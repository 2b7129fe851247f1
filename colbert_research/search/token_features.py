"""Features of token vectors by one hidden layer, whose sum over a query's tokens is linear in MaxSim as nearly as may be.

Source: LEMUR (Jääsaari, Hyvönen and Roos 2026, arXiv 2601.21853): `gelu(scale * layer_norm(x @ projection + bias) + shift)`.
Random weights serve; weights that were trained to regress the maxima of many documents serve better.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# of the published code: Adam with its usual decays, batches, and the length that a gradient is cut to
LEARNING_RATE, DECAYS, BATCH, LONGEST_GRADIENT = 3e-3, (0.9, 0.999), 512, 0.5
LEAST_VARIANCE, LEAST_SQUARE = 1e-5, 1e-8
ROWS = 4096


@dataclass(frozen=True, eq=False)
class TokenFeatures:
    """`projection` `(dim, width)`; `affine` `(3, width)`: bias, scale and shift; float32."""

    projection: Array
    affine: Array

    @classmethod
    def random(cls, dim: int, width: int, *, seed: int) -> "TokenFeatures":
        """Gaussian weights, drawn from `seed`; the layer norm makes their size the same for all vectors."""
        drawn = np.random.default_rng(seed).standard_normal((dim, width), np.float32)
        affine = np.stack([np.zeros(width), np.ones(width), np.zeros(width)]).astype(np.float32)
        return cls(drawn / np.float32(np.sqrt(3 * dim)), affine)  # the spread that layers are trained from

    def of(self, tokens: Array) -> Array:
        """Features `(n, width)` float32 of token vectors `(n, dim)`."""
        found = np.empty((len(tokens), self.projection.shape[1]), np.float32)
        for start in range(0, len(tokens), ROWS):
            found[start : start + ROWS] = _forward(tokens[start : start + ROWS], self.projection, self.affine)["features"]
        return found

    def trained(self, tokens: Array, targets: Array, *, epochs: int, seed: int) -> "TokenFeatures":
        """Weights from which these, after some epochs over tokens `(n, dim)`, tell targets `(n, m)` best by linear weights.

        Least squares by Adam. `seed` decides the order of the tokens and the first linear weights, which are not kept.
        """
        rng, (n, m), width = np.random.default_rng(seed), targets.shape, len(self.affine[0])
        first = rng.uniform(-1, 1, (width, m)) / np.sqrt(width)
        weights = {"projection": self.projection.copy(), "affine": self.affine.copy(), "output": first.astype(np.float32)}
        steps = _Adam(weights)
        for _ in range(epochs):
            order = rng.permutation(n)
            for start in range(0, n, BATCH):
                rows = order[start : start + BATCH]
                steps.take(gradient(weights, tokens[rows], targets[rows])[1])
        return TokenFeatures(weights["projection"], weights["affine"])


def gradient(weights: Mapping[str, Array], tokens: Array, targets: Array) -> tuple[float, dict[str, Array]]:
    """Mean squared error of `features @ output` and the gradient of each weight, in the dtype of the weights."""
    made = _forward(tokens, weights["projection"], weights["affine"])
    missed = made["features"] @ weights["output"] - targets
    of_outputs = missed * (2 / missed.size)
    of_scaled = of_outputs @ weights["output"].T * (made["share"] + made["scaled"] * _density(made["scaled"]))
    of_normed = of_scaled * weights["affine"][1]
    centred = of_normed - of_normed.mean(axis=1, keepdims=True)
    of_hidden = made["inverse"] * (centred - made["normed"] * (of_normed * made["normed"]).mean(axis=1, keepdims=True))
    affine = np.stack([of_hidden.sum(axis=0), (of_scaled * made["normed"]).sum(axis=0), of_scaled.sum(axis=0)])
    gradients = {"projection": tokens.T @ of_hidden, "affine": affine, "output": made["features"].T @ of_outputs}
    return float(np.square(missed).mean()), gradients


def _forward(tokens: Array, projection: Array, affine: Array) -> dict[str, Array]:
    from scipy.special import ndtr

    hidden = tokens @ projection + affine[0]
    hidden -= hidden.mean(axis=1, keepdims=True)
    inverse = 1 / np.sqrt(np.square(hidden).mean(axis=1, keepdims=True) + LEAST_VARIANCE)
    normed = hidden * inverse.astype(hidden.dtype)
    scaled = normed * affine[1] + affine[2]
    share = ndtr(scaled)
    return {"inverse": inverse, "normed": normed, "scaled": scaled, "share": share, "features": scaled * share}


def _density(values: Array) -> Array:
    return np.asarray(np.exp(-np.square(values) / 2) * values.dtype.type(1 / np.sqrt(2 * np.pi)))


class _Adam:
    """Steps that change weights in place; Kingma and Ba 2015, algorithm 1."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights, self._taken = weights, 0
        self._means, self._squares = ({name: np.zeros_like(array) for name, array in weights.items()} for _ in range(2))

    def take(self, gradients: Mapping[str, Array]) -> None:
        length = np.sqrt(sum(float(np.square(array).sum()) for array in gradients.values()))
        cut = min(1.0, LONGEST_GRADIENT / max(length, LEAST_SQUARE))
        self._taken += 1
        unbias, unbias_squares = (1 / (1 - decay**self._taken) for decay in DECAYS)
        for name, array in gradients.items():
            mean, square = self._means[name], self._squares[name]
            mean += (1 - DECAYS[0]) * (cut * array - mean)
            square += (1 - DECAYS[1]) * (np.square(cut * array) - square)
            self._weights[name] -= LEARNING_RATE * unbias * mean / (np.sqrt(square * unbias_squares) + LEAST_SQUARE)
