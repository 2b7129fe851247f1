"""What the kernels that score should have counted: steps of scores, from their fractions and exponents."""

import numpy as np

from colbert_research.kernels.cuda.tally import Tally
from colbert_research.kernels.cuda.topk import BINS
from tests.kernels.cuda_arenas import numpy_of


def steps_of(scores: np.ndarray, first: int) -> np.ndarray:
    """256 equal steps from each power of two to the next; all that is not above zero is in step 0."""
    scores = np.asarray(scores, np.float64)
    fractions, exponents = np.frexp(np.where(np.isfinite(scores) & (scores > 0), scores, 1.0))
    numbers = 256 * (256 + exponents.astype(np.int64) - 1 + 127) + np.floor((2 * fractions - 1) * 256).astype(np.int64)
    steps = np.clip(numbers - first, 0, BINS - 1)
    return np.where(scores == np.inf, BINS - 1, np.where(scores > 0, steps, 0))


def counted(scores: np.ndarray, first: int) -> np.ndarray:
    """Counts `(n_queries, BINS)` of scores `(n_queries, n)`."""
    rows = [np.bincount(steps_of(row, first), minlength=BINS) for row in scores]
    return np.array(rows, np.int32).reshape(len(scores), BINS)


def assert_counted(tally: Tally, scores: np.ndarray) -> None:
    assert np.array_equal(numpy_of(tally.counts), counted(scores, tally.first))
