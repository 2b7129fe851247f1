"""Rankings beside records come back as they were decided, over shared lists of documents and queries."""

import numpy as np
import pytest

from colbert_research.evaluation import overlap
from colbert_research.experiment.rankings import rankings_beside
from colbert_research.experiment.record import RANKING
from colbert_research.ranking import Ranking


def write(path, lists: dict[str, list[str]], documents: list[str], *, tied: bool = False):
    """A folder with a ranking: the documents of each query in order, scores falling or all the same."""
    path.mkdir()
    results = [
        (
            np.array([documents.index(d) for d in each], np.int64),
            np.zeros(len(each), np.float32) - (not tied) * np.arange(len(each)),
        )
        for each in lists.values()
    ]
    Ranking.of(results, query_ids=list(lists), document_ids=documents).to_parquet(path / RANKING)
    return path


def test_orders_are_those_of_the_files(tmp_path):
    """Ties were decided by positions, of which the files know nothing: `z` stood before `a`."""
    documents = ["z", "m", "a", "b"]
    one = write(tmp_path / "one", {"q1": ["z", "m", "a"], "q2": ["b"]}, documents, tied=True)
    other = write(tmp_path / "other", {"q2": ["b", "a"], "q1": ["z", "a"]}, documents[::-1])
    first, second = rankings_beside(one, other)
    assert first.query_ids == second.query_ids == ("q1", "q2")
    assert first.document_ids == second.document_ids == ["a", "b", "m", "z"]
    assert [[d for d, _ in first.top(i)] for i in (0, 1)] == [["z", "m", "a"], ["b"]]
    assert [[d for d, _ in second.top(i)] for i in (0, 1)] == [["z", "a"], ["b", "a"]]
    assert overlap(second, first, 1) == 1.0


def test_who_found_nothing(tmp_path):
    """A query without results has no rows in the file."""
    one = write(tmp_path / "one", {"q1": [], "q2": ["b"], "q3": []}, ["a", "b"])
    other = write(tmp_path / "other", {"q1": ["a"], "q2": ["b"], "q3": []}, ["a", "b"])
    first, second = rankings_beside(one, other)
    assert first.query_ids == ("q2", "q1")
    assert [len(first.top(i)) for i in (0, 1)] == [1, 0]
    assert [len(second.top(i)) for i in (0, 1)] == [1, 1]
    nothing = write(tmp_path / "nothing", {"q1": []}, ["a"])
    assert len(rankings_beside(nothing)[0]) == 0


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        rankings_beside(tmp_path)
