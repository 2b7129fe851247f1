"""Where a search lost a document: the stage that is named is the true one, for opening it brings the document back."""

import pytest

from colbert_research.codecs import ResidualConfig
from colbert_research.index import build_index
from colbert_research.search import Exhaustive, Plaid, Warp
from colbert_research.search.losses import FOUND, MISRANKED, exact_ranks, loss_of, words
from tests.search.conftest import N

K = 5


@pytest.fixture(scope="module")
def coded(collection, vectors, tmp_path_factory):
    """One bit per dimension, so that codes misrank, and enough centroids that cells are small."""
    return build_index(tmp_path_factory.mktemp("losses") / "i", collection, vectors, ResidualConfig(nbits=1, centroids=24))


def losses(strategy, index, queries, exact) -> list:
    found = []
    for q in range(len(queries)):
        explanation = strategy.explain(index, queries.slice(q, q + 1), K)
        ranks = exact_ranks(exact, q, K)
        for position, rank in zip(index.positions([*ranks]), ranks.values(), strict=True):
            found.append(loss_of(explanation, position, query_id=str(q), exact_rank=rank))
    return found


def by_cause(found) -> dict[str, list]:
    return {cause: [loss for loss in found if loss.cause == cause] for cause in {loss.cause for loss in found}}


@pytest.fixture(scope="module")
def exact(index, queries):
    """Exhaustive search of the vectors themselves."""
    return Exhaustive().search(index, queries, N)


def again(strategy, coded, queries, exact, loss):
    """What becomes of the same document in another search."""
    q = int(loss.query_id)
    explanation = strategy.explain(coded, queries.slice(q, q + 1), K)
    (position,) = coded.positions([loss.document_id])
    return loss_of(explanation, position, query_id=loss.query_id, exact_rank=loss.exact_rank)


def test_the_stage_that_is_named_is_the_true_one(coded, queries, exact):
    narrow = Plaid(ncells=1, ndocs=8, n_exact=6)
    causes = by_cause(losses(narrow, coded, queries, exact))
    assert {FOUND, "not among the documents of stage 'candidates'"} < set(causes), "there is something to find here"
    for cause, found in causes.items():
        for loss in found:
            assert 1 <= loss.exact_rank <= K
            if cause == FOUND:
                assert loss.rank <= K
            elif cause.startswith("not among"):
                # more cells make it a candidate; more of everything else does not
                opened = again(narrow.model_copy(update={"ncells": 24}), coded, queries, exact, loss)
                assert not opened.cause.startswith("not among")
                same = again(narrow.model_copy(update={"ndocs": N, "n_exact": N}), coded, queries, exact, loss)
                assert same.cause == cause
            elif cause.startswith("cut after"):
                assert loss.rank > 6
                opened = again(narrow.model_copy(update={"ndocs": N, "n_exact": N}), coded, queries, exact, loss)
                assert not opened.cause.startswith("cut after")
            else:
                assert cause == MISRANKED
                assert loss.rank > K
                opened = again(narrow.exhaustive_equivalent(coded), coded, queries, exact, loss)
                assert opened.cause == MISRANKED, "scored in full, whatever is opened"


def test_codes_alone_misrank(coded, queries, exact):
    """Exhaustive search of the codes loses by quantisation, or not at all."""
    found = losses(Exhaustive(), coded, queries, exact)
    assert {loss.cause for loss in found} <= {FOUND, MISRANKED}
    truth = Exhaustive().search(coded, queries, N)
    for loss in found:
        order = [document for document, _ in truth.top(int(loss.query_id))]
        assert (order.index(loss.document_id) < K) == (not loss.lost)


def test_words(coded, queries, exact):
    found = losses(Plaid(ncells=1, ndocs=8, n_exact=6), coded, queries, exact)
    said = words(found)
    assert said.startswith(f"of {K * len(queries)} documents, {sum(loss.lost for loss in found)} were lost: ")
    assert sum(int(part.split()[0]) for part in said.split(": ", 1)[1].split(", ")) == sum(loss.lost for loss in found)
    assert words([]) == "of 0 documents, 0 were lost"
    one = next(loss for loss in found if loss.rank is not None)
    assert one.words().endswith(f"where it stood at rank {one.rank} of {one.of}")


def test_scores_that_are_imputed_misrank_by_themselves(coded, queries, exact):
    """WARP scores no document in full: what its last stage outranks, it was not the codes alone that misranked."""
    found = losses(Warp(nprobe=2), coded, queries, exact)
    assert MISRANKED not in {loss.cause for loss in found}
    assert "cut after stage 'impute'" in {loss.cause for loss in found}
