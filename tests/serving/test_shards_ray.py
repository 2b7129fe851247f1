"""An index over shards on three nodes of Ray, of which one dies while queries are in hand. Runs by `ALL_TRIALS=1`."""

import os
import sys
import threading
import time

import pytest

from colbert_research.executors import EXECUTORS, WorkerDiffersError, on_ray
from colbert_research.search import Plaid, Retriever
from colbert_research.serving.shards import Shards
from colbert_research.settings import ConfigError
from tests.ray_nodes import cluster_of, node

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="nodes are processes of POSIX"),
    pytest.mark.skipif(not os.environ.get("ALL_TRIALS"), reason="takes a minute"),
]
QUERIES = ["yellow banana", "honey", "a whale in the river", "north orchard", "green tea"]
PLAID = Plaid(ncells=6, ndocs=60, n_exact=30)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    with cluster_of(3) as found:
        yield found


@pytest.mark.usefixtures("cluster")
def test_a_worker_with_other_code_is_refused(index_path, monkeypatch):
    real = on_ray.versions()
    monkeypatch.setattr(on_ray, "versions", lambda: {**real, "numpy": "0.1"})
    with pytest.raises(WorkerDiffersError, match=r"has numpy .*, and here it is 0\.1"), Shards.start(index_path, "ray"):
        pass


@pytest.mark.usefixtures("cluster")
def test_more_replicas_than_workers(index_path):
    with (
        pytest.raises(ConfigError, match="replicas=4 of a shard are on as many workers, and there is room for 3"),
        Shards.start(index_path, EXECUTORS["ray"](), shards=4, replicas=4),
    ):
        pass


def test_a_node_dies_while_queries_are_in_hand(cluster, index_path):
    expected, wrong, answered = Retriever.open(index_path, PLAID).search_many(QUERIES, 9), [], []
    stop = threading.Event()
    with Shards.start(index_path, "ray", shards=4, replicas=2, strategy=PLAID, hedge=0.95) as shards:
        assert len({seat.worker.where for seat in shards.fleet._seats}) == 3, "one on each node"

        def caller() -> None:
            while not stop.is_set():
                answer = shards.answer(QUERIES, 9)
                answered.append(answer.answered)
                wrong.extend([answer] if answer.hits != expected else [])

        callers = [threading.Thread(target=caller) for _ in range(3)]
        for each in callers:
            each.start()
        _until(lambda: len(answered) > 20)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        _until(lambda: shards.fleet.alive == 2)
        before = len(answered)
        _until(lambda: len(answered) > before + 20)
        cluster.add_node(**node())
        _until(lambda: shards.fleet.alive == 3)
        stop.set()
        for each in callers:
            each.join()
        assert (wrong, set(answered)) == ([], {1.0})


def _until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()
