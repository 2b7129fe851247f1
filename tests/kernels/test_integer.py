"""The integer kernels against NumPy integers, bit for bit, on any number of threads."""

import numpy as np
import pytest

from colbert_research import kernels, threads
from colbert_research.kernels.cpu import simd
from colbert_research.kernels.cpu.prepare import COPIED, LOOKED_UP, PACKED, decoder_of, integer_query
from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable, unpack_bits
from colbert_research.ragged import Ragged, offsets_of

KINDS = [("residual", bits, centroids) for bits in (1, 2, 4, 8) for centroids in (0, 11)]
KINDS += [("uniform", 8, centroids) for centroids in (0, 11)]
KINDS += [("product", sub, centroids) for sub in (1, 2, 4, 8, 12) for centroids in (0, 11)]
DIMS = (12, 48, 64, 96, 128, 384)
LENGTHS = [7, 0, 1, 16, 33, 250, 3, 15, 17]


def tokens_of(kind: str, size: int, n_centroids: int, dim: int, seed: int = 0) -> CodedTokens:
    rng = np.random.default_rng(seed)
    n = sum(LENGTHS)
    centroids = rng.standard_normal((n_centroids, dim)).astype(np.float32) if n_centroids else None
    table: ResidualTable | ProductTable
    if kind != "product":
        levels = np.sort(rng.standard_normal(2**size)) if kind == "residual" else 0.1 * np.arange(2**size) - 3
        table = ResidualTable(rng.uniform(0.5, 2, dim).astype(np.float32), levels.astype(np.float32), centroids)
        codes = rng.integers(0, 256, (n, table.packed_width)).astype(np.uint8)
    else:
        table = ProductTable(rng.standard_normal((dim // size, 256, size)).astype(np.float32), centroids)
        codes = rng.integers(0, 256, (n, dim // size)).astype(np.uint8)
    if not n_centroids:
        return CodedTokens(table, codes, offsets_of(LENGTHS))
    ids = rng.integers(0, n_centroids, n).astype(np.uint16 if seed % 2 else np.int32)
    return CodedTokens(table, codes, offsets_of(LENGTHS), ids, rng.uniform(0.5, 1.5, n).astype(np.float16))


def scores_of_tokens(query: np.ndarray, tokens: CodedTokens) -> np.ndarray:
    """The formula of cpu/prepare.py in NumPy, `(n_query_tokens, n)`: integer sums, then one float32 rounding an operation."""
    table, decoder = tokens.table, decoder_of(tokens.table)
    prepared, n = integer_query(query, decoder, table.centroids), len(query)
    if isinstance(table, ProductTable):
        low, high = (
            table.codewords.min(axis=1, keepdims=True).astype(float),
            table.codewords.max(axis=1, keepdims=True).astype(float),
        )
        unit = np.where(high > low, (high - low) / 255, 1)
        words = np.rint((table.codewords - low) / unit).astype(np.int64)
        u = np.concatenate([part[column] for part, column in zip(words, tokens.codes.T, strict=True)], axis=1)
    else:
        levels = table.levels.astype(np.float64)
        unit = np.ptp(levels) / 255
        u = np.rint((levels - levels.min()) / unit).astype(np.int64)[unpack_bits(tokens.codes, table.bits, table.dim)]
    w = (
        prepared.weights.transpose(0, 2, 1, 3)
        .reshape(prepared.groups * simd.LANES, -1)[:n][:, decoder.positions]
        .astype(np.int64)
    )
    sums = (w @ u.T).astype(np.float32)
    ids = np.zeros(len(u), np.int64) if tokens.centroid_ids is None else tokens.centroid_ids
    scores = (prepared.table[ids, :n] + prepared.base[:n]).T + prepared.factors[:n, None] * sums
    return scores if tokens.inverse_norms is None else scores * tokens.inverse_norms.astype(np.float32)


def oracle(query: np.ndarray, tokens: CodedTokens) -> np.ndarray:
    scores = scores_of_tokens(query, tokens)
    found = np.full(len(LENGTHS), -np.inf, np.float32)
    for document, (low, high) in enumerate(zip(tokens.offsets, tokens.offsets[1:], strict=False)):
        if high > low:
            found[document] = np.add.accumulate(scores[:, low:high].max(axis=1), dtype=np.float32)[-1]
    return found


@pytest.mark.parametrize("n_tokens", [1, 7, 16, 17, 40])
@pytest.mark.parametrize(("kind", "size", "n_centroids"), KINDS)
@pytest.mark.parametrize("dim", DIMS)
def test_bit_equal_to_numpy(kind, size, n_centroids, dim, n_tokens):
    if dim % size and kind == "product":
        return
    tokens = tokens_of(kind, size, n_centroids, dim, seed=n_tokens)
    query = np.random.default_rng(1).standard_normal((n_tokens, dim)).astype(np.float32)
    got = kernels.maxsim_codes(Ragged(query, offsets_of([n_tokens])), tokens, backend="cpu")[0]
    assert np.array_equal(got, oracle(query, tokens))


@pytest.mark.parametrize("seed", range(3))
def test_weights_fill_their_range_and_bytes_theirs(seed):
    """A rounding that wasted bits would still be close; this says that none is wasted, and that no sum of 16 bits overflows."""
    tokens = tokens_of("residual", 4, 11, 128)
    decoder = decoder_of(tokens.table)
    query = np.random.default_rng(seed).standard_normal((7, 128)).astype(np.float32)
    prepared = integer_query(query, decoder, tokens.table.centroids)
    weights = prepared.weights.transpose(0, 2, 1, 3).reshape(prepared.groups * simd.LANES, -1)
    assert np.abs(weights.astype(int)).max(axis=1)[:7].tolist() == [63] * 7
    assert not weights[7:].any()
    assert {decoder.table.min(), decoder.table.max()} == {0, 255}
    assert 2 * 63 * 255 < 2**15


def test_levels_in_equal_steps_are_copied():
    """A code whose bytes are its own numbers needs no table; one level apart from its place, and it does."""
    levels = (0.1 * np.arange(256) - 3).astype(np.float32)
    assert decoder_of(ResidualTable(np.ones(8, np.float32), levels)).kind == COPIED
    levels[100] += 0.06
    assert decoder_of(ResidualTable(np.ones(8, np.float32), levels)).kind == LOOKED_UP
    assert decoder_of(ResidualTable(np.ones(8, np.float32), levels[:16])).kind == PACKED


def test_a_query_of_zeros_scores_zero():
    tokens = tokens_of("residual", 4, 11, 128)
    scores = kernels.maxsim_codes(Ragged(np.zeros((3, 128), np.float32), offsets_of([3])), tokens, backend="cpu")[0]
    assert scores.tolist() == [-np.inf if length == 0 else 0 for length in LENGTHS]


def test_what_is_not_finite_is_not_a_number():
    tokens = tokens_of("residual", 4, 11, 128)
    query = np.ones((2, 128), np.float32)
    query[1, 5] = np.nan
    assert np.isnan(kernels.maxsim_codes(Ragged(query, offsets_of([2])), tokens, backend="cpu")).all()


def test_positions_outside_are_refused():
    tokens = tokens_of("residual", 4, 11, 128)
    query = Ragged(np.ones((2, 128), np.float32), offsets_of([2]))
    for only in ([len(LENGTHS)], [-1]):
        with pytest.raises(IndexError, match=f"positions must lie between 0 and {len(LENGTHS) - 1}"):
            kernels.maxsim_codes(query, tokens, only=np.array(only))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_change_nothing(n_threads, monkeypatch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 400, 300)
    tokens = Ragged(rng.standard_normal((int(lengths.sum()), 16)).astype(np.float32), offsets_of(lengths))
    queries = Ragged(rng.standard_normal((12, 16)).astype(np.float32), offsets_of([5, 7]))
    expected = kernels.maxsim(queries, tokens, backend="reference")
    monkeypatch.setattr(threads, "count", lambda: n_threads)
    scores = kernels.maxsim(queries, tokens, backend="cpu")
    one_by_one = [kernels.maxsim(queries, tokens.slice(i, i + 1), backend="cpu") for i in range(len(tokens))]
    assert np.array_equal(scores, np.concatenate(one_by_one, axis=1))
    finite = np.isfinite(expected)
    assert np.allclose(scores[finite], expected[finite], atol=1e-3)
