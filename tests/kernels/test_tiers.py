"""The CPU kernels give the same numbers in every tier that this processor has, each forced in a process of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest

from colbert_research.kernels.cpu import simd
from tests.conftest import COMPILED

pytestmark = pytest.mark.slow

CHOSEN = """
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
        for positions in (None, only):
            key = f"{name}_{n_query}_{positions is None}"
            found[f"coverage_{key}"] = kernels.coverage(masks, tokens, only=positions, backend="cpu")
            found[f"centroids_{key}"] = kernels.centroid_maxima(scores, tokens, only=positions, backend="cpu")
    for dim, n_query in ((48, 1), (64, 9), (128, 33)):
        centroids, scales = whole(K, dim), 2.0 ** rng.integers(-1, 2, dim).astype(np.float32)
        tables = {f"residual{b}": ResidualTable(scales, np.sort(rng.permutation(2**b)).astype(np.float32) - 2, centroids)
                  for b in (1, 2, 4, 8)}
        tables |= {f"product{sub}": ProductTable(whole(dim // sub, 256, sub), centroids) for sub in (1, 4, 8)}
        for kind, table in tables.items():
            codes = rng.integers(0, 256, (n, table.packed_width)).astype(np.uint8)
            norms = rng.uniform(0.5, 1.5, n).astype(np.float16)
            rows, positions = rng.integers(0, n, 90), rng.integers(0, 9, 90)
            found[f"tokens_{name}_{kind}_{dim}"] = kernels.token_maxima(
                whole(n_query, dim), CodedTokens(table, codes, offsets, ids, norms), rows, positions, 10,
                rng.random((K, n_query)) < 0.4, backend="cpu",
            )
"""
"""Queries, centroids and levels are small whole numbers, so sums of float products are exact in whatever order a tier adds."""

MAXSIM = """
rng, maxsim = np.random.default_rng(0), {}
offsets = offsets_of([5, 1, 40, 17])
query = Ragged(rng.standard_normal((9, 128)).astype(np.float32), offsets_of([9]))
centroids = rng.standard_normal((13, 128)).astype(np.float32)
ids, norms = rng.integers(0, 13, 63).astype(np.uint16), rng.uniform(0.5, 1.5, 63).astype(np.float16)
levels = np.sort(rng.standard_normal(16)).astype(np.float32)
scales = rng.uniform(0.5, 2, 128).astype(np.float32)
packed = rng.integers(0, 256, (63, 64)).astype(np.uint8)
words = rng.standard_normal((32, 256, 4)).astype(np.float32)
tokens = CodedTokens(ResidualTable(scales, levels, centroids), packed, offsets, ids, norms)
maxsim["residual"] = kernels.maxsim_codes(query, tokens, backend="cpu")
maxsim["bare"] = kernels.maxsim_codes(query, CodedTokens(ResidualTable(scales, levels), packed, offsets), backend="cpu")
whole = rng.integers(0, 256, (63, 128)).astype(np.uint8)
equal_steps = ResidualTable(scales, (0.1 * np.arange(256) - 3).astype(np.float32))
maxsim["copied"] = kernels.maxsim_codes(query, CodedTokens(equal_steps, whole, offsets), backend="cpu")
tokens = CodedTokens(ProductTable(words, centroids), packed[:, :32], offsets, ids, norms)
maxsim["product"] = kernels.maxsim_codes(query, tokens, backend="cpu")
maxsim["floats"] = kernels.maxsim(query, Ragged(rng.standard_normal((63, 128)).astype(np.float32), offsets), backend="cpu")
scores = rng.uniform(-1, 1, (9, 13)).astype(np.float32)
maxsim["interaction"] = kernels.centroid_interaction(scores, Ragged(ids, offsets), backend="cpu")
"""
"""Numbers as they come; what is made of float products may be rounded otherwise in lower tiers."""

SAVE = 'np.savez(os.environ["OUT"], tier=simd.TIER, **found, **{f"maxsim_{name}": scores for name, scores in maxsim.items()})'


@pytest.fixture(scope="module")
def here() -> dict[str, dict[str, np.ndarray]]:
    """What the tier of this process gives."""
    scope: dict = {}
    exec(CHOSEN + MAXSIM, scope)
    return scope


@pytest.fixture(scope="module", params=list(simd.WIDTHS))
def there(request, tmp_path_factory) -> dict[str, np.ndarray]:
    """What a process gives in which a tier is forced."""
    folder = tmp_path_factory.mktemp("tier")
    forced = {"COLBERT_RESEARCH_SIMD": request.param, "COLBERT_RESEARCH_CACHE": str(COMPILED.parent)}
    forced["OUT"] = str(folder / "found.npz")
    command = [sys.executable, "-c", CHOSEN + MAXSIM + SAVE]
    run = subprocess.run(command, env=os.environ | forced, capture_output=True, text=True, check=False)
    if "but this processor has" in run.stderr:
        pytest.skip(run.stderr.strip().splitlines()[-1])
    assert run.returncode == 0, run.stderr
    with np.load(forced["OUT"]) as found:
        assert str(found["tier"]) == request.param
        return dict(found)


def test_chosen_tokens_and_centroids(here, there):
    assert {name for name in there if not name.startswith("maxsim")} == {"tier", *here["found"]}
    for name, expected in here["found"].items():
        assert there[name].dtype == expected.dtype
        assert np.array_equal(there[name], expected), name


def test_maxsim(here, there):
    """Integer sums are the same bits; float products lie within float32 rounding."""
    rounding = np.finfo(np.float32).eps * 128 * 128 * 9
    for name, expected in here["maxsim"].items():
        allowed = rounding if name in ("residual", "product", "floats") else 0
        assert np.abs(there[f"maxsim_{name}"] - expected).max() <= allowed, name


def test_the_numbers_are_not_trivial(here):
    """Something is found and something is not, so that equality means something."""
    for name, values in here["found"].items():
        assert np.isfinite(values).any(), name
        assert name.startswith("coverage") or np.isneginf(values).any(), name
        assert len(np.unique(values)) > 2, name
