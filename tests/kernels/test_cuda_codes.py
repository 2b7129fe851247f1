"""MaxSim over codes on a device, bit for bit: against whole numbers in NumPy, against the backend cpu, and bad input.

Emulated, first thread first and last thread first; the same tests run on a GPU where there is one.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels.cuda import codes, launch
from colbert_research.kernels.cuda.arrays import place_of, to_numpy
from colbert_research.kernels.cuda.decoder import Layout, decoder_of
from colbert_research.kernels.cuda.tally import tally_for
from colbert_research.kernels.operands import CodedTokens, ResidualTable, pack_bits, unpack_bits
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.conftest import Arena
from tests.kernels.cuda_arenas import arena_of, poison_of
from tests.kernels.cuda_codes_cases import coded, scores_of_documents
from tests.kernels.cuda_tally_cases import assert_counted
from tests.kernels.missing import HAS_NUMBA

LENGTHS = [7, 0, 1, 16, 33, 250, 3, 8, 17, 1025, 32, 2, 1024, 40]
SHORT = [7, 0, 1, 33, 3]
SIZES = [  # kind, bits or dimensions a codeword, dimensions: those of codes.KERNELS
    ("residual", 1, 128), ("residual", 2, 128), ("residual", 4, 128), ("residual", 8, 128), ("uniform", 8, 128),
    ("residual", 1, 48), ("residual", 4, 96), ("residual", 2, 384), ("product", 4, 128), ("product", 6, 384),
]  # fmt: skip


arena, _poison = arena_of(codes.KERNELS), poison_of(codes)


def scores_of(arena, queries, tokens: CodedTokens, only=None, **changed) -> np.ndarray:
    """Scores of a list of queries; `changed`: other arguments than the tokens'."""
    dim = tokens.table.dim
    packed = np.concatenate([np.zeros((0, dim), np.float32), *queries])
    with arena:
        given = arena.tensor(packed)
        there = {
            "query_offsets": arena.tensor(offsets_of([len(query) for query in queries])),
            "codes": arena.tensor(tokens.codes),
            "offsets": arena.tensor(np.asarray(tokens.offsets)),
            "centroid_ids": None if tokens.centroid_ids is None else arena.tensor(tokens.centroid_ids),
            "inverse_norms": None if tokens.inverse_norms is None else arena.tensor(tokens.inverse_norms),
            "only": None if only is None else arena.tensor(np.asarray(only, np.int64)),
            "longest_query": max(map(len, queries), default=0),
            "tally": tally_for(len(queries), max(map(len, queries), default=0), place_of(given)),
        } | changed
        scores = codes.maxsim_codes(given, table=codes.table_at(tokens.table, place_of(given)), **there)
    assert_counted(there["tally"], to_numpy(scores))
    return to_numpy(scores)


def query_of(n: int, dim: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


@pytest.mark.parametrize("n_centroids", [0, 11])
@pytest.mark.parametrize(("kind", "size", "dim"), SIZES)
def test_bit_equal_to_whole_numbers(arena, kind, size, dim, n_centroids):
    tokens = coded(kind, size, dim, n_centroids, LENGTHS, seed=size + dim)
    query = query_of(17, dim)
    assert np.array_equal(scores_of(arena, [query], tokens)[0], scores_of_documents(query, tokens))


@pytest.mark.parametrize("n_tokens", [1, 7, 16, 32, 33, 70])
@pytest.mark.parametrize("norms", [True, False])
def test_queries_of_every_length(arena, n_tokens, norms):
    tokens = coded("residual", 2, 128, 11, SHORT, seed=n_tokens, norms=norms)
    query = query_of(n_tokens, 128)
    assert np.array_equal(scores_of(arena, [query], tokens)[0], scores_of_documents(query, tokens))


def test_some_queries_and_documents(arena, monkeypatch):
    """Empty queries, documents in another order and twice, a place that names none; and in parts, for want of memory."""
    tokens = coded("residual", 4, 128, 11, LENGTHS, seed=1)
    queries = [query_of(n, 128, n) for n in (3, 0, 40, 17)]
    expected = np.stack([scores_of_documents(query, tokens) for query in queries])
    assert np.array_equal(scores_of(arena, queries, tokens), expected)
    positions = [5, 5, 0, 13, 1, 99, -1, 9]
    nowhere = np.isin(positions, (99, -1))
    found = scores_of(arena, queries, tokens, positions)
    assert np.array_equal(found[:, ~nowhere], expected[:, np.array(positions)[~nowhere]])
    assert np.array_equal(found[:, nowhere], np.where([[len(query) > 0] for query in queries], [[-np.inf] * 2], 0))
    monkeypatch.setattr(codes, "TABLE_BYTES", 2 * 64 * 11 * 4)  # two queries of two groups
    assert np.array_equal(scores_of(arena, queries, tokens), expected)
    assert scores_of(arena, [], tokens).shape == (0, len(LENGTHS))
    assert scores_of(arena, queries, tokens, []).shape == (4, 0)


def test_what_is_not_finite_is_not_a_number(arena):
    tokens = coded("residual", 4, 128, 11, SHORT, seed=2)
    for wrong in (np.nan, np.inf, -np.inf):
        query = query_of(40, 128)
        query[39, 127] = wrong
        found = scores_of(arena, [query_of(3, 128), query], tokens)
        assert np.isnan(found[1]).all()
        assert np.array_equal(found[0], scores_of_documents(query_of(3, 128), tokens))


def test_a_query_of_zeros_scores_zero(arena):
    tokens = coded("residual", 2, 128, 11, SHORT, seed=2)
    scores = scores_of(arena, [np.zeros((3, 128), np.float32)], tokens)[0]
    assert scores.tolist() == [-np.inf if length == 0 else 0 for length in SHORT]


def test_equal_levels(arena):
    """A codec that saw one value alone: every byte is 0."""
    tokens = coded("residual", 2, 128, 11, SHORT, seed=3)
    tokens = replace(tokens, table=replace(tokens.table, levels=np.full(4, 0.25, np.float32)))
    query = query_of(5, 128)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = scores_of(arena, [query], tokens)[0]
    exact = kernels.maxsim_codes(Ragged(query, offsets_of([5])), tokens, backend="reference")[0]
    # 5 tokens, each a sum of 128 products of sizes below 4, rounded at every step
    assert np.allclose(found, exact, rtol=0, atol=5 * 2 * 128 * 2**-24 * 128 * 4)


@pytest.mark.parametrize("n_tokens", [17, 32, 40])
def test_centroid_scores_in_float16(arena, n_tokens):
    """Within the bound: a centroid score is rounded by at most 2^-11 of itself; float32 rounds by much less."""
    tokens = coded("residual", 2, 128, 11, LENGTHS, seed=7)
    query = query_of(n_tokens, 128)
    exact = scores_of(arena, [query], tokens)[0]
    found = scores_of(arena, [query], tokens, centroid_scores="float16")[0]
    lowest = decoder_of(tokens.table).lowest
    centroid_scores = np.abs(query.astype(np.float64) @ (tokens.table.centroids + lowest).T).max(axis=1)
    assert centroid_scores.max() < 65504
    finite = np.isfinite(exact)
    assert np.array_equal(found[~finite], exact[~finite])
    off = np.abs(found[finite] - exact[finite])
    assert 0 < off.max() <= 2**-11 * centroid_scores.sum() * tokens.inverse_norms.max()


def test_a_document_scores_the_same_anywhere(arena):
    """Documents in another order, cut out, joined: maxima do not care, to the last bit."""
    tokens = coded("residual", 2, 128, 11, LENGTHS, seed=4)
    query = query_of(17, 128)
    whole = scores_of(arena, [query], tokens)[0]
    order = np.random.default_rng(0).permutation(len(LENGTHS))
    assert np.array_equal(scores_of(arena, [query], tokens.take(order))[0], whole[order])
    joined = replace(tokens, offsets=np.array([0, tokens.offsets[-1]]))
    parts = scores_of(arena, list(query[:, None]), tokens)
    assert np.array_equal(
        scores_of(arena, list(query[:, None]), joined)[:, 0], parts.max(axis=1)
    )  # of each query token alone, the joined document has the best of all


def test_indices_have_64_bits(emulate):
    """Tokens that lie more than 2^31 bytes into the codes; memory that is never touched costs nothing."""
    before = 2**31 // 64 + 7
    tokens = coded("residual", 4, 128, 11, SHORT, seed=2)
    room = replace(
        tokens,
        codes=np.zeros((before + 50, 64), np.uint8),
        centroid_ids=np.zeros(before + 50, tokens.centroid_ids.dtype),
        inverse_norms=np.zeros(before + 50, np.float16),
        offsets=tokens.offsets + before,
    )
    for name in ("codes", "centroid_ids", "inverse_norms"):
        getattr(room, name)[before : before + 44] = getattr(tokens, name)
    query = query_of(20, 128)
    arena = Arena(emulate(list(codes.KERNELS)), None)
    assert np.array_equal(scores_of(arena, [query], room)[0], scores_of_documents(query, tokens))


@pytest.mark.skipif(not HAS_NUMBA, reason="the backend cpu needs Numba")
@pytest.mark.parametrize(("kind", "size", "dim"), SIZES)
def test_scores_are_those_of_the_backend_cpu(arena, kind, size, dim):
    tokens = coded(kind, size, dim, 300, LENGTHS, seed=5)
    query = query_of(32, dim)
    expected = kernels.maxsim_codes(Ragged(query, offsets_of([32])), tokens, backend="cpu")
    assert np.array_equal(scores_of(arena, [query], tokens), expected)


@pytest.mark.skipif(not HAS_NUMBA, reason="the backend cpu needs Numba")
@pytest.mark.parametrize(("kind", "size", "dim"), SIZES)
def test_decoders_are_those_of_the_backend_cpu(kind, size, dim):
    from colbert_research.kernels.cpu import prepare

    table = coded(kind, size, dim, 0, [1], seed=6).table
    found, expected = decoder_of(table), prepare.decoder_of(table)
    assert np.array_equal(found.lowest, expected.lowest)
    assert np.array_equal(found.step, expected.step)
    n = min(len(found.bytes), len(expected.table))
    assert np.array_equal(found.bytes[:n], expected.table[:n])
    assert getattr(prepare, found.layout.kind) == expected.kind


layouts = st.one_of(
    st.builds(
        lambda bits, dim: (Layout("PACKED" if bits < 8 else "COPIED", bits, -(-dim * bits // 8)), dim),
        st.sampled_from([1, 2, 4, 8]),
        st.integers(1, 800),
    ),
    st.builds(lambda m, sub: (Layout("CODEWORDS", sub, m), m * sub), st.integers(1, 96), st.integers(1, 12)),
)


@given(layouts)
@settings(max_examples=60, deadline=None)
def test_every_dimension_has_one_place(given):
    layout, dim = given
    dims = layout.operand_dims(dim)
    assert dims.shape == (layout.products, 2, 4, 4)
    assert sorted(dims[dims >= 0].tolist()) == list(range(dim))
    assert layout.width % layout.piece == 0


@given(st.sampled_from([1, 2, 4]), st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_positions_are_those_of_nibbles(bits, dim, seed):
    """What the kernel does to a lane's word, in Python: shift, mask, and look at the nibbles of half a word."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 2**bits, (1, dim)).astype(np.uint8)
    packed = pack_bits(numbers, bits)
    layout = Layout("PACKED", bits, packed.shape[1])
    padded = np.zeros((layout.chunks, 4, max(layout.piece, 4)), np.uint8)
    padded[:, :, : layout.piece] = np.resize(np.append(packed, [0] * 4096), (layout.chunks, 4, layout.piece))
    words, each = padded.view("<u4"), 8 // bits
    for (product, operand, lane, e), d in np.ndenumerate(layout.operand_dims(dim)):
        if d >= 0:
            chunk, j = divmod(2 * product + operand, 2 * layout.products // layout.chunks)
            word = int(words[chunk, lane, j // each]) >> j % each // 2 * bits >> 16 * (j % 2)
            assert word >> 4 * e & (2**bits - 1) == unpack_bits(packed, bits, dim)[0, d]


def test_ids_and_offsets_are_trusted_for_nothing(arena):
    """An id past the last centroid counts as the last; rows are cut to those that there are."""
    tokens = coded("residual", 4, 128, 11, SHORT, seed=4)
    query = query_of(20, 128)
    ids = tokens.centroid_ids.copy()
    ids[3] = 10
    expected = scores_of(arena, [query], replace(tokens, centroid_ids=ids))
    ids[3] = np.iinfo(ids.dtype).max
    assert np.array_equal(scores_of(arena, [query], replace(tokens, centroid_ids=ids)), expected)
    if ids.dtype == np.int32:
        ids[3] = -5
        assert np.array_equal(scores_of(arena, [query], replace(tokens, centroid_ids=ids)), expected)
    n = len(ids)
    wrong = scores_of(arena, [query], replace(tokens, offsets=np.array([-9, n, 2 * n, 3, 5, 2**62])))[0]
    joined = scores_of(arena, [query], replace(tokens, offsets=np.array([0, n, 3, 5, n])[[0, 1]]))[0]
    assert wrong[0] == joined[0]
    assert wrong[1] == wrong[2] == -np.inf


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"codes": np.zeros((44, 63), np.uint8)}, "64 bytes per token; given 63"),
        ({"codes": np.zeros((44, 64), np.int8)}, "codes must be uint8; given int8"),
        ({"codes": np.zeros((44, 128), np.uint8)[:, ::2]}, "contiguous"),
        ({"codes": np.zeros(44 * 64 + 1, np.uint8)[1:].reshape(44, 64)}, "multiple of 16 bytes"),
        ({"centroid_ids": None}, "has 11 centroids and centroid_ids are not given"),
        ({"centroid_ids": np.zeros(43, np.int32)}, "one for each of the 44 tokens; given 43"),
        ({"centroid_ids": np.zeros(44, np.int64)}, "uint16 or int32; given int64"),
        ({"inverse_norms": np.zeros(44, np.float32)}, "float16; given float32"),
        ({"offsets": np.zeros(0, np.int64)}, "at least one; given none"),
        ({"only": np.zeros(3, np.int32)}, "only must be int64"),
        ({"centroid_scores": "bfloat16"}, "centroid_scores must be one of float32, float16; given 'bfloat16'"),
        ({"longest_query": -1}, "longest_query must not be negative; given -1"),
    ],
)
def test_bad_input(emulate, changed, message):
    tokens = coded("residual", 4, 128, 11, SHORT, seed=4)
    assert len(tokens.codes) == 44
    with pytest.raises((TypeError, ValueError), match=message), launch.emulated(emulate(list(codes.KERNELS))):
        query = query_of(4, 128)
        there = {
            "codes": tokens.codes, "offsets": np.asarray(tokens.offsets), "centroid_ids": tokens.centroid_ids,
            "inverse_norms": tokens.inverse_norms, "longest_query": 4,
        } | changed  # fmt: skip
        codes.maxsim_codes(query, offsets_of([4]), codes.table_at(tokens.table, place_of(query)), **there)


def test_widths_and_codewords_that_do_not_fit(emulate):
    query = query_of(2, 64)
    with launch.emulated(emulate(list(codes.KERNELS))):
        table = codes.table_at(ResidualTable(np.ones(128, np.float32), np.arange(4, dtype=np.float32)), place_of(query))
        with pytest.raises(ValueError, match="queries have 64 dimensions and codes 128"):
            codes.maxsim_codes(query, offsets_of([2]), table, np.zeros((1, 32), np.uint8), offsets_of([1]), longest_query=2)
        wide = coded("product", 8, 512, 0, [1], seed=0)
        with pytest.raises(ValueError, match=r"take 131072 bytes of shared memory .* reduce to 392 dimensions"):
            codes.maxsim_codes(
                query_of(1, 512), offsets_of([1]), codes.table_at(wide.table, place_of(query)), wide.codes, wide.offsets,
                longest_query=1, inverse_norms=wide.inverse_norms,
            )  # fmt: skip
