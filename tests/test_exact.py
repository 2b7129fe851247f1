"""The exact codec in half precision."""

import numpy as np

from colbert_research.codecs import ExactConfig
from tests.contracts.codec_cases import clustered, fit


def test_half_precision_errs_by_half_a_unit_in_the_last_place():
    vectors = clustered(3000)
    codec = fit(ExactConfig(dtype="float16"), vectors)
    decoded, tiny = codec.decode(codec.encode(vectors)), float(np.finfo(np.float16).smallest_subnormal)
    assert np.all(np.abs(decoded - vectors) <= np.maximum(np.abs(vectors) * np.finfo(np.float16).eps / 2, tiny / 2))
    assert not np.array_equal(decoded, vectors)
