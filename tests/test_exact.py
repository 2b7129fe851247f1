"""The exact codec in half precision."""

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig
from tests.contracts.codec_cases import clustered, fit


def test_half_precision_errs_by_half_a_unit_in_the_last_place():
    vectors = clustered(3000)
    codec = fit(ExactConfig(dtype="float16"), vectors)
    decoded, tiny = codec.decode(codec.encode(vectors)), float(np.finfo(np.float16).smallest_subnormal)
    assert np.all(np.abs(decoded - vectors) <= np.maximum(np.abs(vectors) * np.finfo(np.float16).eps / 2, tiny / 2))
    assert not np.array_equal(decoded, vectors)


def test_values_that_half_precision_lacks():
    vectors = clustered(5)
    vectors[2, 7] = 65_520  # rounds to infinity; 65504 is the greatest
    codec = ExactConfig(dtype="float16").fit(vectors, n_tokens=5, seed=0)
    with pytest.raises(ValueError, match=r"values up to 6.552e\+04 is not finite in float16; choose codec.dtype=float32"):
        codec.encode(vectors)
    vectors[2, 7] = 65_504
    assert codec.encode(vectors)["vectors"][2, 7] == 65_504
