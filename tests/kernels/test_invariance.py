"""What must not change a score, on numbers small enough that float32 is exact: every comparison here is `==`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research import kernels
from colbert_research.kernels import torch_backend
from colbert_research.kernels.operands import CodedTokens, ProductTable, ResidualTable, pack_bits, unpack_bits
from colbert_research.ragged import Ragged, offsets_of

POOL, DIM = 40, 13  # distinct tokens; an odd width, so that packed residuals end in padding bits
RNG = np.random.default_rng(11)


def integers(*shape: int) -> np.ndarray:
    return RNG.integers(-4, 5, shape).astype(np.float32)


QUERIES = Ragged(integers(12, DIM), offsets_of([5, 0, 1, 6]))
CENTROIDS, IDS = integers(9, DIM), RNG.integers(0, 9, POOL).astype(np.uint16)
CODEWORDS, CODES = integers(DIM, 256, 1), RNG.integers(0, 256, (POOL, DIM)).astype(np.uint8)
NORMS = RNG.choice([0.5, 1, 2], POOL).astype(np.float16)
KEPT = RNG.random(9) < 0.5


def residual(bits: int):
    table = ResidualTable(RNG.choice([1, 2], DIM).astype(np.float32), integers(2**bits), CENTROIDS)
    buckets = RNG.integers(0, 2**bits, (POOL, DIM)).astype(np.uint8)
    packed = pack_bits(buckets, bits)
    vectors = (CENTROIDS[IDS] + table.scales * table.levels[buckets]) * NORMS.astype(np.float32)[:, None]

    def score(queries, rows, backend):
        codes = CodedTokens(table, packed[rows.values], rows.offsets, IDS[rows.values], NORMS[rows.values])
        return kernels.maxsim_codes(queries, codes, backend=backend)

    return score, (table, packed, vectors)


def exact(queries, rows, backend):
    return kernels.maxsim(queries, Ragged(CODEWORDS[np.arange(DIM), CODES, 0][rows.values], rows.offsets), backend=backend)


def product(queries, rows, backend):
    return kernels.maxsim_codes(
        queries, CodedTokens(ProductTable(CODEWORDS), CODES[rows.values], rows.offsets), backend=backend
    )


def interaction(kept):
    def score(queries, rows, backend):
        tokens = rows.map(lambda r: IDS[r])
        table = [query @ CENTROIDS.T for query in queries]
        found = [kernels.centroid_interaction(scores, tokens, kept=kept, backend=backend) for scores in table]
        return np.array(found).reshape(len(queries), len(rows))

    return score


RESIDUAL = {bits: residual(bits) for bits in (1, 2, 4, 8)}
DECODED = {
    "maxsim": (exact, CODEWORDS[np.arange(DIM), CODES, 0]),
    "product": (product, CODEWORDS[np.arange(DIM), CODES, 0]),
    "interaction": (interaction(None), CENTROIDS[IDS]),
    **{f"residual-{bits}": (score, state[2]) for bits, (score, state) in RESIDUAL.items()},
}
OPERATIONS = {name: score for name, (score, _) in DECODED.items()} | {"interaction-kept": interaction(KEPT)}

documents_of_tokens = st.lists(st.lists(st.integers(0, POOL - 1), max_size=9), max_size=12)
operation = pytest.mark.parametrize("score", OPERATIONS.values(), ids=OPERATIONS)
every_backend = pytest.mark.parametrize("backend", kernels.HOST_BACKENDS)
ROUNDED = {"product", "interaction", "interaction-kept", *(f"residual-{bits}" for bits in (1, 2, 4, 8))}
"""What the backend `cpu` computes within a bound, not exactly; see test_integer.py."""
few = settings(max_examples=12, deadline=None)


def ragged(documents: list[list[int]]) -> Ragged:
    return Ragged(np.array([t for d in documents for t in d], np.int64), offsets_of([len(d) for d in documents]))


def oracle(queries: Ragged, vectors: np.ndarray, documents: list[list[int]]) -> np.ndarray:
    """Equation 3 of ColBERT, spelled out."""
    scores = [
        [sum(max((float(q @ vectors[t]) for t in d), default=-np.inf) for q in query) for d in documents] for query in queries
    ]
    return np.array(scores, np.float64).reshape(len(queries), len(documents))


@pytest.mark.parametrize(
    ("name", "backend"), [(n, b) for n in DECODED for b in kernels.HOST_BACKENDS if b != "cpu" or n not in ROUNDED]
)
@few
@given(documents=documents_of_tokens)
def test_the_oracle(name, backend, documents):
    score, vectors = DECODED[name]
    assert np.array_equal(score(QUERIES, ragged(documents), backend), oracle(QUERIES, vectors, documents))


@pytest.mark.parametrize("backend", [b for b in kernels.HOST_BACKENDS if b != "cpu"])
@few
@given(documents=documents_of_tokens)
def test_the_oracle_of_kept_centroids(backend, documents):
    left = [[t for t in d if KEPT[IDS[t]]] for d in documents]
    got = OPERATIONS["interaction-kept"](QUERIES, ragged(documents), backend)
    assert np.array_equal(got, oracle(QUERIES, CENTROIDS[IDS], left))


@operation
@every_backend
@few
@given(documents=documents_of_tokens, data=st.data())
def test_invariance(score, backend, documents, data):
    rows = ragged(documents)
    scores = score(QUERIES, rows, backend)
    assert scores.shape == (len(QUERIES), len(documents))
    order = data.draw(st.permutations(range(len(documents))))
    assert np.array_equal(score(QUERIES, rows.take(order), backend), scores[:, order])
    cut = data.draw(st.integers(0, len(documents)))
    parts = [score(QUERIES, rows.slice(*part), backend) for part in ((0, cut), (cut, len(documents)))]
    assert np.array_equal(np.concatenate(parts, axis=1), scores)
    first = data.draw(st.integers(0, len(QUERIES)))
    assert np.array_equal(score(QUERIES.slice(first, len(QUERIES)), rows, backend), scores[first:])
    doubled = ragged([[*d, *d[:1]] for d in documents])
    assert np.array_equal(score(QUERIES, doubled, backend), scores)


@operation
@few
@given(documents=documents_of_tokens, rows=st.integers(1, 20), columns=st.integers(1, 15))
def test_block_sizes_change_nothing(score, documents, rows, columns):
    expected = score(QUERIES, ragged(documents), "reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_backend, "BLOCK_ROWS", rows)
        patch.setattr(torch_backend, "BLOCK_COLUMNS", columns)
        assert np.array_equal(score(QUERIES, ragged(documents), "torch"), expected)


@pytest.mark.parametrize("length", [2047, 2048, 2049, 5000])
def test_documents_around_the_block_size(length):
    documents = ragged([[1, 2], list(RNG.integers(0, POOL, length)), [3], []])
    assert np.array_equal(exact(QUERIES, documents, "torch"), exact(QUERIES, documents, "reference"))


@every_backend
def test_types_of_the_data_change_nothing(backend):
    import torch

    documents = Ragged(integers(30, DIM), offsets_of([10, 20]))
    expected = kernels.maxsim(QUERIES, documents, backend=backend)
    for convert in (lambda v: v.astype(np.float16), torch.from_numpy, lambda v: torch.from_numpy(v).half()):
        assert np.array_equal(kernels.maxsim(QUERIES.map(convert), documents.map(convert), backend=backend), expected)


@every_backend
def test_not_a_number_is_handed_on(backend):
    documents = Ragged(integers(5, DIM), offsets_of([3, 2]))
    documents.values[4, 1] = np.nan
    scores = kernels.maxsim(QUERIES.slice(0, 1), documents, backend=backend)
    assert np.isnan(scores).tolist() == [[False, True]]


@every_backend
def test_assign_takes_the_smaller_of_tied_ids(backend):
    vectors, centroids = integers(5000, DIM), np.concatenate([CENTROIDS, CENTROIDS[::-1]])
    got = kernels.assign(vectors, centroids, backend=backend)
    similarities = vectors.astype(np.int64) @ centroids.T.astype(np.int64)
    assert got.dtype == np.int32
    assert got.tolist() == [row.index(max(row)) for row in similarities.tolist()]
    assert kernels.assign(vectors[:0], centroids, backend=backend).shape == (0,)


@given(bits=st.sampled_from([1, 2, 4, 8]), n=st.integers(0, 5), dim=st.integers(1, 20), seed=st.integers(0, 99))
def test_packed_bits(bits, n, dim, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (n, dim)).astype(np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.shape == (n, -(-dim * bits // 8))
    assert np.array_equal(unpack_bits(packed, bits, dim), codes)
    written = ["".join(f"{code:0{bits}b}" for code in row).ljust(8 * packed.shape[1], "0") for row in codes]
    assert ["".join(f"{byte:08b}" for byte in row) for row in packed] == written


@pytest.mark.parametrize("bits", RESIDUAL)
def test_decoded_residuals(bits):
    table, packed, vectors = RESIDUAL[bits][1]
    got = CodedTokens(table, packed, offsets_of([POOL]), IDS, NORMS).decode()
    assert got.dtype == np.float32
    assert np.array_equal(got, vectors)
    assert np.array_equal(
        CodedTokens(table, packed, offsets_of([POOL]), IDS).decode() * NORMS.astype(np.float32)[:, None], vectors
    )
    assert CodedTokens(table, packed[:0], offsets_of([0]), IDS[:0], NORMS[:0]).decode().shape == (0, DIM)


def test_decoded_products():
    codewords, codes = integers(3, 256, 5), RNG.integers(0, 256, (7, 3)).astype(np.uint8)
    decoded = CodedTokens(ProductTable(codewords), codes, offsets_of([7])).decode()
    assert decoded.tolist() == [np.concatenate([codewords[s, c] for s, c in enumerate(row)]).tolist() for row in codes]


@pytest.mark.parametrize("name", ["maxsim", "residual-4", "product"])
def test_widths_that_differ(name):
    narrow = Ragged(integers(2, DIM - 1), offsets_of([2]))
    with pytest.raises(ValueError, match=f"queries have {DIM - 1} dimensions and documents {DIM}"):
        OPERATIONS[name](narrow, ragged([[1]]), "auto")


@operation
def test_an_unknown_backend(score):
    with pytest.raises(ValueError, match="unknown kernel backend 'fortran'; valid: auto, reference, torch"):
        score(QUERIES, ragged([[1]]), "fortran")
