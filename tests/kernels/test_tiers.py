"""Kernels over chosen tokens and centroids give the same bits in every tier that this processor has.

Queries, centroids and levels are small whole numbers, so that sums of float products are exact in whatever order a tier adds.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from colbert_research.kernels.cpu import simd

SCRIPT = """
import os
import numpy as np
from colbert_research import kernels
from colbert_research.kernels.cpu import simd
from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable
from colbert_research.ragged import Ragged, offsets_of

rng, found = np.random.default_rng(0), {}
K, lengths = 13, [5, 0, 1, 40, 17, 0]
n, offsets, only = sum(lengths), offsets_of(lengths), np.array([3, 0, 1, 4, 4])

def whole(*shape):
    return rng.integers(-6, 7, shape).astype(np.float32)

for dtype in (np.uint16, np.int32):
    ids = rng.integers(0, K, n).astype(dtype)
    tokens, name = Ragged(ids, offsets), np.dtype(dtype).name
    for n_query in (1, 17, 70, 130):
        masks = rng.integers(0, 2**63, (K, -(-n_query // 64)), np.uint64)
        scores = rng.standard_normal((n_query, K)).astype(np.float32)
        for places in (None, only):
            key = f"{name}_{n_query}_{places is None}"
            found[f"coverage_{key}"] = kernels.coverage(masks, tokens, only=places, backend="cpu")
            found[f"centroids_{key}"] = kernels.centroid_maxima(scores, tokens, only=places, backend="cpu")
    for dim, n_query in ((48, 1), (64, 9), (128, 33)):
        centroids, scales = whole(K, dim), 2.0 ** rng.integers(-1, 2, dim).astype(np.float32)
        tables = {f"residual{b}": ResidualTable(scales, np.sort(rng.permutation(2**b)).astype(np.float32) - 2, centroids)
                  for b in (1, 2, 4, 8)}
        tables |= {f"product{sub}": ProductTable(whole(dim // sub, 256, sub), centroids) for sub in (1, 4, 8)}
        for kind, table in tables.items():
            codes = rng.integers(0, 256, (n, table.packed_width)).astype(np.uint8)
            norms = rng.uniform(0.5, 1.5, n).astype(np.float16)
            rows, places = rng.integers(0, n, 90), rng.integers(0, 9, 90)
            found[f"tokens_{name}_{kind}_{dim}"] = kernels.token_maxima(
                whole(n_query, dim), CodedTokens(table, codes, offsets, ids, norms), rows, places, 10,
                rng.random((K, n_query)) < 0.4, backend="cpu",
            )
# save
np.savez(os.environ["OUT"], tier=simd.TIER, **found)
"""


@pytest.fixture(scope="module")
def here() -> dict[str, np.ndarray]:
    """What the tier of this process gives."""
    scope: dict = {}
    exec(SCRIPT.split("# save")[0], scope)
    return scope["found"]


@pytest.mark.parametrize("tier", list(simd.WIDTHS))
def test_every_tier_gives_the_same_bits(tier, here, tmp_path):
    file = tmp_path / "found.npz"
    environment = os.environ | {"COLBERT_RESEARCH_SIMD": tier, "OUT": str(file)}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    if "but this processor has" in run.stderr:
        pytest.skip(run.stderr.strip().splitlines()[-1])
    assert run.returncode == 0, run.stderr
    with np.load(file) as there:
        assert str(there["tier"]) == tier
        assert set(there) == {"tier", *here}
        for name, expected in here.items():
            assert there[name].dtype == expected.dtype
            assert np.array_equal(there[name], expected), name


def test_the_numbers_are_not_trivial(here):
    """Something is found and something is not, so that equality means something."""
    for name, values in here.items():
        assert np.isfinite(values).any(), name
        assert name.startswith("coverage") or np.isneginf(values).any(), name
        assert len(np.unique(values)) > 2, name
