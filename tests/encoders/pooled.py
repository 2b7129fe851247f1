"""Documents for tests of poolers, and what is left of one."""

import numpy as np

from colbert_research.encoders import TokenVectors
from colbert_research.ragged import Ragged, offsets_of


def unit(rng, n: int, dim: int = 16) -> np.ndarray:
    """Unit vectors around one mean direction, as of an encoder."""
    values = rng.standard_normal((n, dim)) + 0.7
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def texts(*items) -> TokenVectors:
    """Documents from arrays of vectors; token ids count from 0 within each."""
    offsets = offsets_of([len(item) for item in items])
    ids = np.concatenate([np.arange(len(item), dtype=np.int32) for item in items])
    return TokenVectors(Ragged(np.concatenate(items).astype(np.float32), offsets), Ragged(ids, offsets))


def survivors(config, document: np.ndarray, seed: int = 0) -> list[int]:
    return config.pool(texts(document), {}, seed=seed).token_ids[0].tolist()
