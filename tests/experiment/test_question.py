"""One query of an experiment: as a text or by its id, with any document, found or not; and ids that are not there."""

import numpy as np
import pytest

from colbert_research.experiment import Experiment, Workspace
from colbert_research.search import UNSEEN
from tests.experiment.small import make

NARROW = "search={kind: plaid, ncells: 1, ndocs: 4, n_exact: 4} k=4 measures=[AP]"


@pytest.fixture
def experiment(cache, folder) -> Experiment:
    return make(cache, folder, NARROW)


def test_a_query_of_the_collection_is_searched_as_it_was_ranked(experiment):
    for place, query_id in enumerate(experiment.collection.query_ids):
        asked = experiment.ask(query_id=query_id)
        assert asked.text == experiment.collection.query_texts[place]
        assert np.array_equal(asked.vectors[0], experiment.query_vectors[place])
        assert asked.tokens == tuple(asked.text.split())
        assert asked.ranking.top(0) == experiment.ranking.top(place)
        assert asked.explain().steps[-1].positions.tolist() == sorted(asked.ranking.positions.tolist())
        assert asked.judged == tuple(sorted(experiment.collection.qrels[query_id]))
    new = experiment.ask("pink cherry")
    assert new.judged == () and new.tokens == ("pink", "cherry")


def test_what_exhaustive_search_finds_and_this_one_does_not(experiment):
    asked, exact = experiment.ask(query_id="q0"), experiment.variant("search={kind: exhaustive}").ask(query_id="q0")
    found, best = ([document for document, _ in each.ranking.top(0)] for each in (asked, exact))
    assert 0 < len(asked.missed()) < 4
    assert list(asked.missed()) == [document for document in best if document not in found]
    assert (asked.explain().table(*asked.missed()).loc["result"].iloc[1:] == "-").all()
    assert exact.missed() == ()


def test_cells_and_a_setting_up_and_down(experiment):
    asked = experiment.ask(query_id="q1")
    probed = asked.probe(2)
    assert list(probed.table().index.get_level_values(1)) == ["yellow", "yellow", "banana", "banana"]
    assert "banana" in " ".join(probed.table()["most frequent tokens"])
    assert asked.probe().probed.shape == (2, 1) and asked.probe().threshold is None
    assert experiment.variant("search.centroid_score_threshold={value: 0.25}").ask("banana").probe().threshold == 0.25
    table = asked.vary("ncells", [1, 8])
    assert list(table.columns) == [1, 8, "exhaustive"]
    assert [f"rank of {document}" in table.index for document in asked.judged] == [True] * 4
    with pytest.raises(ValueError, match=r"search.kind=exhaustive does not say how many cells to probe; give ncells, or take"):
        experiment.variant("search={kind: exhaustive}").ask("banana").probe()
    with pytest.raises(ValueError, match="ncells=9, but the index has 8 centroids"):
        asked.probe(9)


def test_what_became_of_a_document(cache, folder):
    experiment = make(cache, folder, (NARROW, "codec.centroids=24"))
    asked = experiment.ask(query_id="q0")
    assert not asked.lost(asked.ranking.top(0)[0][0]).lost
    loss = next(each for each in map(asked.lost, experiment.collection.document_ids) if each.stage == UNSEEN)
    missed = loss.document_id
    assert (loss.query_id, loss.settings) == ("q0", "ncells")
    cells = asked.cells(missed)
    assert cells["rank of cell"].min() == loss.cell_rank > 1
    assert list(cells.index.get_level_values(1)) == ["apple", "cider"]
    text = experiment.collection.document_texts()[int(missed[1:])].split()
    assert all(set(tokens.split()) <= {*text} for tokens in cells["document tokens in it"])
    probing = experiment.variant(f"search.ncells={loss.cell_rank}").ask(query_id="q0")
    assert missed in probing.explain().documents()["candidates"]
    with pytest.raises(ValueError, match="no document has the id 'd99': did you mean 'd9'"):
        asked.lost("d99")


def test_a_document_that_was_not_found_is_shown_too(experiment):
    found = [document for document, _ in experiment.ask(query_id="q1").ranking.top(0)]
    assert set(found) == {"d1", "d4", "d7", "d10"}
    lost = experiment.marked(query_id="q1", document="d2")
    assert lost.title == "d2, not among the 4 found"
    assert lost.text == "cherry blossom pink note 2"
    assert lost.score == pytest.approx(experiment.alignment(query_id="q1", document="d2")["similarity"].sum(), abs=1e-6)
    third = experiment.marked("yellow banana", document=found[2])
    assert third.title == f"{found[2]}, rank 3 of the 4 found"
    assert third == experiment.marked(query="yellow banana", rank=3)
    assert {piece.text for piece in third.pieces() if piece.answers} == {"yellow", "banana"}
    assert "not among the 4 found" in experiment.plot(query_id="q1", document="d2")._suptitle.get_text()


def test_titles_stand_above_the_text(cache):
    texts = ["Green tea is a drink.", "Whales have large hearts."]
    given = {"titles": ["Tea", "Whales"], "config": "configs/tiny.yaml", "workspace": Workspace()}
    settings = "codec={kind: exact} search={kind: exhaustive}"
    shown = Experiment.from_texts(texts, settings, **given).marked("green tea")
    assert shown.text == "Tea\nGreen tea is a drink."
    assert all(shown.spans)
    without = Experiment.from_texts(texts, f"{settings} dataset.text_fields=text", **given).marked("green tea")
    assert without.text == texts[0], "the title is not encoded"


def test_tokens_have_names_though_everything_was_cached(cache, folder):
    make(cache, folder, NARROW).run("rank")
    shown = make(cache, folder, NARROW).marked(query_id="q1", document="d1")
    assert "yellow" in shown.query_tokens and "banana" in shown.document_tokens


def test_the_query_s_own_document_is_left_out(cache, folder):
    for file, old, new in (("queries.jsonl", '"q0"', '"d0"'), ("qrels/test.tsv", "q0\t", "d0\t")):
        path = folder / file
        path.write_text(path.read_text().replace(old, new).replace("d0\td0\t1\n", ""))
    experiment = make(cache, folder, (NARROW, "dataset.exclude_self=true search.ndocs=12 search.n_exact=12"))
    asked = experiment.ask(query_id="d0")
    assert asked.ranking.top(0) == experiment.ranking.top(0)
    assert "d0" in asked.explain().documents()["result"]
    assert experiment.marked(query_id="d0", document="d0").title == "d0, not among the 4 found"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"expected the text of a query, or the query_id of one in the collection; given neither"),
        ({"query": "a", "query_id": "q1"}, r"given both, 'a' and 'q1'"),
        ({"query": " "}, "a query needs at least one word"),
        (
            {"query_id": "q11"},
            r"no query has the id 'q11': did you mean 'q1'\? there are 3, from 'q0' to 'q2';",
        ),
        ({"query_id": 1}, r"no query has the id 1: "),
        (
            {"query_id": "q1", "document": "d111"},
            r"no document has the id 'd111': did you mean 'd11'\? .*_ids lists them",
        ),
        ({"query_id": "q1", "document": "d1", "rank": 2}, r"expected a document or a rank; given both, 'd1' and 2"),
        ({"query_id": "q1", "rank": 5}, r"no document at rank 5: 4 were found"),
        ({"query_id": "q1", "rank": 0}, r"no document at rank 0: 4 were found"),
    ],
)
@pytest.mark.parametrize("method", ["alignment", "plot", "marked"])
def test_what_is_not_there(experiment, method, given, message):
    with pytest.raises(ValueError, match=message):
        getattr(experiment, method)(**given)
