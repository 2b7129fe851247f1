"""WARP: each rule of imputation against XTR written in float64 over decoded vectors, and what its knobs do."""

import numpy as np
import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.index import build_index
from colbert_research.index.build import BuildConfig
from colbert_research.kernels.cpu.prepare import decoder_of, worst_error
from colbert_research.ragged import Ragged
from colbert_research.search import Exhaustive, Trace, Warp
from colbert_research.search.cells import TokensByCell
from colbert_research.search.imputation import WarpSelect
from tests.search.conftest import DIM, EPS, N

K = 12
RULES = [
    {"kind": "none"},
    {"kind": "constant", "value": 0.25},
    {"kind": "mean"},
    {"kind": "top_k", "k_tokens": 9},
    {"kind": "top_k", "k_tokens": 10_000},
    {"kind": "warpselect", "t_prime": 60},
    {"kind": "warpselect", "t_prime": 10_000},
]


@pytest.fixture(scope="module")
def coded(collection, vectors, tmp_path_factory):
    """Residual codes in several segments."""
    build = BuildConfig(segment_tokens=120, chunk_tokens=50)
    return build_index(
        tmp_path_factory.mktemp("warp") / "index", collection, vectors, ResidualConfig(nbits=4, centroids=K), build=build
    )


def similarities(index, query: np.ndarray) -> np.ndarray:
    """`(n_query_tokens, n_tokens)` float64: the codec's own scores of single tokens, so that ranks among them are the same."""
    each = [
        index.codec.maxsim(Ragged(query, np.arange(len(query) + 1)), s.codes, np.arange(s.offsets[-1] + 1))
        for s in index.segments
    ]
    return np.concatenate(each, axis=1).astype(np.float64)


def worst(index, query: np.ndarray) -> float:
    """By how much such a score may differ from that of the decoded vector."""
    norm = max(1.0, *(float(segment.codes["inverse_norms"].max()) for segment in index.segments))
    return norm * worst_error(query, decoder_of(index.codec.table)) + EPS * DIM


def tolerance(query: np.ndarray) -> float:
    """float32 scores of unit vectors, at most two each (a centroid and a residual), summed over the query."""
    return 2 * EPS * DIM * (1 + len(query))


class Xtr:
    """Everything that XTR and WARP say, spelled out with lists."""

    def __init__(self, index, query: np.ndarray, nprobe: int, allowed=range(N)) -> None:
        decoded = index.vectors_of(index.document_ids)
        self.ids = np.concatenate([segment.codes["centroid_ids"] for segment in index.segments]).astype(int)
        self.documents = np.repeat(np.arange(N), decoded.lengths)
        self.similarity = similarities(index, query)
        exact = query.astype(np.float64) @ decoded.values.astype(np.float64).T
        assert np.abs(self.similarity - exact).max() <= worst(index, query)
        self.centroid_scores = query.astype(np.float64) @ index.codec.centroids.astype(np.float64).T
        self.descending = [sorted(range(K), key=lambda c, row=row: -row[c]) for row in self.centroid_scores]
        self.retrieved = [
            [t for t in range(len(self.ids)) if self.ids[t] in cells[:nprobe] and self.documents[t] in allowed]
            for cells in self.descending
        ]

    def imputed(self, q: int, rule: dict) -> float | None:
        scores = sorted(self.similarity[q, self.retrieved[q]], reverse=True)
        if rule["kind"] == "constant":
            return rule["value"]
        if rule["kind"] == "mean":
            best = {}
            for t in self.retrieved[q]:
                best[self.documents[t]] = max(best.get(self.documents[t], -9), self.similarity[q, t])
            return sum(best.values()) / len(best) if best else 0.0
        if rule["kind"] == "top_k":
            return scores[: rule["k_tokens"]][-1] if scores else 0.0
        if rule["kind"] == "warpselect":
            tokens = 0
            for cell in self.descending[q]:
                tokens += int((self.ids == cell).sum())
                if tokens > rule["t_prime"]:
                    return self.centroid_scores[q, cell]
            return self.centroid_scores[q, self.descending[q][-1]]
        return None

    def scores(self, rule: dict) -> dict[int, float]:
        n, found = len(self.similarity), {}
        for q in range(n):
            kept = sorted(self.retrieved[q], key=lambda t, q=q: -self.similarity[q, t])[: rule.get("k_tokens")]
            for t in reversed(kept):
                found.setdefault(int(self.documents[t]), {})[q] = self.similarity[q, t]
        imputed = [self.imputed(q, rule) for q in range(n)]
        if rule["kind"] == "none":
            return {d: sum(best.values()) * n / len(best) for d, best in found.items()}
        return {d: sum(best.get(q, imputed[q]) for q in range(n)) for d, best in found.items()}


@pytest.mark.parametrize("nprobe", [1, 3, K])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule.values())))
def test_scores_are_those_of_xtr(coded, queries, rule, nprobe):
    ranking = Warp(nprobe=nprobe, imputation=rule).search(coded, queries, N)
    for q, query in enumerate(queries):
        expected = Xtr(coded, query, nprobe).scores(rule)
        found = {int(document[1:]): score for document, score in ranking.top(q)}
        assert found == pytest.approx(expected, abs=tolerance(query))


def test_a_large_subset_retrieves_its_own_tokens(coded, queries):
    allowed = list(range(0, N, 2))
    for rule in RULES:
        strategy = Warp(nprobe=2, imputation=rule, exact_subset=5)
        ranking = strategy.search(coded, queries, N, subset=[f"d{i}" for i in allowed])
        for q, query in enumerate(queries):
            expected = Xtr(coded, query, 2, allowed).scores(rule)
            found = {int(document[1:]): score for document, score in ranking.top(q)}
            assert found == pytest.approx(expected, abs=tolerance(query))


def test_more_probes_never_lower_a_score_nor_lose_a_document(coded, queries):
    low = {"kind": "constant", "value": -10.0}  # below any score, so that retrieving can only gain
    before: list[dict[str, float]] = [{} for _ in queries]
    for nprobe in range(1, K + 1):
        ranking = Warp(nprobe=nprobe, imputation=low).search(coded, queries, N)
        for q in range(len(queries)):
            found = dict(ranking.top(q))
            assert all(found[document] >= score for document, score in before[q].items())
            before[q] = found
    exact = Exhaustive().search(coded, queries, N)
    assert before == [dict(exact.top(q)) for q in range(len(queries))]


def test_the_trace_counts_the_probed_cells(coded, queries):
    query, trace = queries.slice(0, 1), Trace()
    Warp(nprobe=2).search(coded, query, 5, trace=trace)
    by_hand = Xtr(coded, query.values, 2)
    cells = {cell for descending in by_hand.descending for cell in descending[:2]}
    tokens = [t for t in range(len(by_hand.ids)) if by_hand.ids[t] in cells]
    work = trace.work()
    assert work["probe"]["centroids"] == len(cells)
    assert work["scan"]["tokens"] == len(tokens)
    assert work["scan"]["documents"] == len(set(by_hand.documents[tokens]))
    assert work["scan"]["bytes"] == len(tokens) * (2 + 8 + 2 + 4)  # centroid, 16 dimensions of 4 bits, norm, document


def test_cells_hold_every_token_once_by_centroid_and_document(coded):
    parts = coded.structure(TokensByCell())
    contents = coded.contents
    assert 1 < len(parts) == len(contents.blocks) < len(coded.segments)
    for cells, start, block in zip(parts, contents.block_starts, contents.blocks, strict=False):
        decoded = coded.vectors_of(coded.document_ids[start : start + len(block)])
        for cell in range(K):
            low, high = cells.tokens.offsets[cell : cell + 2]
            assert np.all(cells.tokens.centroid_ids[low:high] == cell)
            assert np.all(np.diff(cells.documents[low:high]) >= 0)
        assert np.array_equal(np.bincount(cells.documents, minlength=len(block)), decoded.lengths)
        rows = {tuple(row) for row in np.column_stack([cells.documents, cells.tokens.decode()]).tolist()}
        positions = np.repeat(np.arange(len(block)), decoded.lengths)
        assert rows == {tuple(row) for row in np.column_stack([positions, decoded.values]).tolist()}
    assert sum(cells.sizes.sum() for cells in parts) == coded.n_tokens


@pytest.mark.parametrize(
    ("n_tokens", "n_centroids", "k", "expected"),
    [
        (771_460, 8192, 10, 2000),
        (10_000_000, 2**16, 1000, 8000),
        (600_000_000, 2**18, 100, 50_000),
        (600_000_000, 2**18, 101, 100_000),
        (5000, 64, 10, 1000),
    ],
)
def test_the_engines_rule_for_t_prime(n_tokens, n_centroids, k, expected):
    assert WarpSelect().tokens(n_tokens, n_centroids, k) == expected
    assert WarpSelect(t_prime=7).tokens(n_tokens, n_centroids, k) == 7


def test_bad_settings(coded, index, queries):
    with pytest.raises(ValueError, match="nprobe=13, but the index has 12 centroids"):
        Warp(nprobe=13).search(coded, queries, 5)
    for call in (lambda: Warp(nprobe=1).search(index, queries, 5), lambda: Warp().exhaustive_equivalent(index)):
        with pytest.raises(ValueError, match="warp needs an index whose codec has centroids"):
            call()
    for rule, message in [
        ({"kind": "top_k"}, "k_tokens"),
        ({"kind": "mean", "t_prime": 5}, "t_prime"),
        ("median", "did you mean 'mean'"),
    ]:
        with pytest.raises(ValueError, match=message):
            Warp(imputation=rule)
