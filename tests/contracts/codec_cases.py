"""The settings with which every codec passes its contract, and vectors to fit them on."""

import numpy as np

from colbert_research.codecs import (
    CentroidConfig,
    ExactConfig,
    ProductConfig,
    RabitqConfig,
    ResidualConfig,
    ResidualProductConfig,
    ResidualRabitqConfig,
    ScalarConfig,
)

DIM = 48
CASES = [
    ExactConfig(),
    ExactConfig(dtype="float16"),
    *(ResidualConfig(nbits=bits, centroids=16) for bits in (1, 2, 4, 8)),
    *(ResidualConfig(nbits=bits, centroids=16, buckets="global") for bits in (1, 2, 4, 8)),
    *(ResidualConfig(nbits=bits, centroids="plaid", iterations=1) for bits in (1, 2, 4, 8)),
    ResidualConfig(nbits=2, centroids="plaid", iterations=1, buckets="global"),
    ResidualConfig(nbits=8, centroids=16, levels="uniform"),
    *(ScalarConfig(nbits=bits) for bits in (1, 2, 4, 8)),
    *(ScalarConfig(nbits=bits, levels="quantiles") for bits in (1, 2, 8)),
    ScalarConfig(nbits=1, buckets="per_dimension"),
    ScalarConfig(nbits=4, buckets="per_dimension", levels="least_squares"),
    ProductConfig(m=16),
    ProductConfig(m=6, rotation="opq"),
    ResidualProductConfig(m=8, centroids=16),
    ResidualProductConfig(m=12, centroids=16, rotation="opq"),
    *(RabitqConfig(nbits=bits) for bits in (1, 2, 4)),
    *(ResidualRabitqConfig(nbits=bits, centroids=16) for bits in (1, 2, 4)),
    ResidualRabitqConfig(nbits=2, centroids="plaid", iterations=1),
    CentroidConfig(centroids=16),
    CentroidConfig(centroids="plaid", iterations=1),
]
IDS = ["-".join(str(v) for v in c.model_dump().values()) for c in CASES]


def clustered(n: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around 20 directions, with less spread in later dimensions, as after an SVD."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((20, DIM))
    values = directions[rng.integers(0, 20, n)] + rng.standard_normal((n, DIM)) * np.linspace(1, 0.2, DIM)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def fit(config, vectors, seed=3):
    """Fitted once for each config and collection."""
    key = config.model_dump_json(), vectors.tobytes(), seed
    if key not in FITTED:
        FITTED[key] = fit_anew(config, vectors, seed)
    return FITTED[key]


FITTED: dict = {}


def fit_anew(config, vectors, seed=3):
    return config.fit(vectors[: config.sample_size(len(vectors))], n_tokens=len(vectors), seed=seed)


def error(codec, vectors) -> float:
    return float(np.linalg.norm(codec.decode(codec.encode(vectors)) - vectors, axis=1).mean())
