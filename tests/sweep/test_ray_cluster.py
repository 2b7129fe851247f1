"""A Ray cluster on this machine: what it computes is what one process does, and a node may die meanwhile.

One node, and one test, are what always runs; three nodes and the rest, as the contract of executors on Ray, by `ALL_TRIALS=1`.
"""

import os
import sys
import threading
import time

import pytest

from colbert_research.executors import EXECUTORS, Resources, WorkerDiffersError, on_ray
from colbert_research.settings import ConfigError
from colbert_research.sweep import Sweep
from tests.contracts import executor_functions as functions
from tests.experiment.small import ROOT
from tests.ray_nodes import cluster_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="nodes are processes of POSIX")]
ALL_TRIALS = bool(os.environ.get("ALL_TRIALS"))
trial = pytest.mark.skipif(not ALL_TRIALS, reason="takes a minute")
NOTEBOOK = str(ROOT / "notebooks" / "evaluate.ipynb")


@pytest.fixture(scope="module")
def cluster():
    """Nodes of one CPU each, which this process is connected to."""
    pytest.importorskip("ray")
    with cluster_of(3 if ALL_TRIALS else 1) as found:
        yield found


@pytest.fixture
def executor(cluster):
    with EXECUTORS["ray"]().start() as started:
        yield started


def begun(folder, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("begun.*"))) < n and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(folder.glob("begun.*"))) >= n


def test_items_on_ray(executor, tmp_path):
    """With a worker that dies, and an error."""
    items = [(str(tmp_path), i) for i in range(3)]
    assert sorted(executor.map(functions.die_once, items)) == [(item, item[1]) for item in items]
    assert (tmp_path / "died").exists()
    with pytest.raises(ValueError, match="three is refused"):
        list(executor.map(functions.refuse_three, [3]))


@trial
def test_a_worker_with_other_code_is_refused(executor, monkeypatch):
    real = on_ray.versions()
    monkeypatch.setattr(on_ray, "versions", lambda: {**real, "colbert_research": "sources 0123456789ab"})
    with pytest.raises(WorkerDiffersError, match=r"has colbert_research sources .*, and here it is sources 0123456789ab"):
        list(executor.map(functions.double, [1]))


@trial
@pytest.mark.usefixtures("cluster")
def test_a_folder_that_workers_do_not_share_is_refused(tmp_path):
    with EXECUTORS["ray"]().start(shared=[tmp_path / "cache"]) as executor:
        assert list(executor.map(functions.double, [1])) == [(1, 2)]
        (tmp_path / "cache").rename(tmp_path / "away")
        with pytest.raises(WorkerDiffersError, match=r"does not see \.probe.*the folder is not shared.*COLBERT_RESEARCH_CACHE"):
            list(executor.map(functions.double, [1]))


@trial
def test_there_is_no_room(executor):
    assert executor.workers() == 3
    with pytest.raises(ConfigError, match="1 workers that take 2 CPU each, and there is room for 0: the cluster has 3 nodes"):
        executor.map(functions.double, [1], Resources(cpus=2))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:6379", "here", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster(address, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    expected = "there is no cluster at" if address[0] in "1n" else "address is `host:port`, auto or local; given"
    with pytest.raises(ConfigError, match=expected), EXECUTORS["ray"](address=address).start():
        pass


@trial
def test_a_node_is_killed(cluster, executor, tmp_path):
    """While each node has an item in hand; those of the dead one are begun again on the others."""
    folders = [tmp_path / str(i) for i in range(3)]
    for folder in folders:
        folder.mkdir()
    found = executor.map(functions.wait_for, [str(folder) for folder in folders])

    def kill() -> None:
        for folder in folders:
            begun(folder, 1)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        time.sleep(1)
        for folder in folders:
            (folder / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    assert sorted(item for item, _ in found) == [str(folder) for folder in folders]
    killer.join()
    assert sum(len(list(folder.glob("begun.*"))) for folder in folders) == 4, "one was begun twice"


@trial
def test_a_sweep_is_executed_by_the_nodes(cluster, write, tmp_path):
    path = write(grid={"codec.nbits": [1, 2, 4]}, notebook=NOTEBOOK)
    whole, shared = (Sweep.load(path, folder=tmp_path / name) for name in ("whole", "shared"))
    whole.run()
    assert set(shared.run(executor="ray")["state"]) == {"done"}
    assert (tmp_path / "shared" / "summary.csv").read_text() == (tmp_path / "whole" / "summary.csv").read_text()
    for run in shared.runs:
        assert (run.folder / "stdout.log").read_text().count("rank/") == 1, "it is executed once"
