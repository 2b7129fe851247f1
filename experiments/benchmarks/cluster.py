"""Three nodes of Ray on this machine, of which one is killed while a collection is encoded, indexed, searched and swept.

    python experiments/benchmarks/cluster.py "dataset.path=data/nfcorpus" [--only search] [--queries 300] [--output lines.jsonl]

Each part is done twice: in this process, and by the nodes, one of which is killed when the part is under way (SIGKILL of the
node and of all that it runs); it is started again before the next. Printed, as JSON lines: whether the files, or the rankings,
are the same bytes, how long it took, what had been done when the node was killed, and which workers took part. Texts are
encoded by the hashing encoder, unless overrides say otherwise; segments are small, so that there are some to divide.
"""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from colbert_research.cache import StageCache
from colbert_research.config import load_config
from colbert_research.executors import EXECUTORS
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace
from colbert_research.search import Retriever
from colbert_research.serving.shards import Shards
from colbert_research.settings import merge, parse_overrides
from colbert_research.sweep import Sweep

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "encoder={kind: hashing, dim: 64} codec={kind: residual, nbits: 4, centroids: 1024} index.segment_tokens=65536 k=100 "
    "search={kind: plaid, ncells: 4, ndocs: 1024, n_exact: 256} measures=[nDCG@10, R@100]"
)
PARTS = ("encode", "build", "search", "sweep")
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
ATTEMPTS = 4
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "memory": 4 * 10**9}


@click.command()
@click.argument("overrides", default="")
@click.option("--only", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS)
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(min=2))
@click.option("--queries", "n_queries", default=300, show_default=True, type=click.IntRange(min=1))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON lines.")
def main(overrides: str, parts: tuple[str, ...], nodes: int, n_queries: int, output: Path | None) -> None:
    """Encode, build, search and sweep."""
    settings = merge(parse_overrides(SETTINGS), parse_overrides(overrides))
    lines = []
    with tempfile.TemporaryDirectory() as name, cluster(nodes) as nodes_up:
        folder = Path(name)
        for part in parts:
            line = {"encode": encode, "build": build, "search": search, "sweep": sweep}[part](
                nodes_up, folder, settings, n_queries
            )
            lines.append({"part": part, "dataset": str(settings.get("dataset", {}).get("path", "bundled")), **line})
            click.echo(json.dumps(lines[-1]))
            nodes_up.mend()
    if output:
        with output.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    if not all(line["equal"] for line in lines):
        raise SystemExit("the nodes give other bytes than this process")


class Nodes:
    """The cluster, whose last node may be killed."""

    def __init__(self, cluster: Any, n: int) -> None:
        self._cluster, self._n = cluster, n

    def mend(self) -> None:
        """Start what nodes are missing, and wait until the dead no longer count as alive."""
        import ray

        while (there := len(self._cluster.list_all_nodes())) < self._n:
            self._cluster.add_node(**node(), **({} if there else {"include_dashboard": False}))
        deadline = time.monotonic() + 60
        while ray.is_initialized() and (alive := sum(each["Alive"] for each in ray.nodes())) != self._n:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after a minute {alive} nodes count as alive, of {self._n}")
            time.sleep(0.1)

    @contextmanager
    def one_dies(self, when: Callable[[], int], least: int) -> Iterator[dict[str, Any]]:
        """Kill a node as soon as `when()` is `least`; what was done then is noted in what the block is given."""
        noted: dict[str, Any] = {"killed_at": None}
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.02):
                if (done := when()) >= least:
                    self._cluster.remove_node(self._cluster.list_all_nodes()[-1], allow_graceful=False)
                    noted["killed_at"] = done
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        try:
            yield noted
        finally:
            noted["seconds"] = round(time.perf_counter() - start, 1)
            stop.set()
            watcher.join()


def node() -> dict[str, Any]:
    """What a node is started with. Ports that are told need not be waited for."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {**NODE, **{name: each.getsockname()[1] for name, each in zip(PORTS, sockets, strict=True)}}


@contextmanager
def cluster(n: int) -> Iterator[Nodes]:
    """So many nodes of one CPU, which this process is connected to."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster()
    try:
        nodes = Nodes(found, n)
        for left in reversed(range(ATTEMPTS)):
            try:
                nodes.mend()
                break
            except Exception:  # of no class of its own: its agents had not started after 15 seconds
                if not left:
                    raise
        ray.init(address=found.address, logging_level="warning", log_to_driver=False)
        yield nodes
    finally:
        ray.shutdown()
        found.shutdown()


def experiment(cache: Path, settings: dict[str, Any], executor: str = "inline") -> Experiment:
    """The experiment in a cache, which this process or the nodes compute."""
    given = merge(settings, parse_overrides(f"executor={executor}"))
    return Experiment(
        load_config(ExperimentConfig, ROOT / "configs" / "tiny.yaml", given), workspace=Workspace(StageCache(cache))
    )


def same(one: Any, other: Any) -> bool:
    """Whether two artifacts are the same files under the same key."""
    sums = [{name: known["sha256"] for name, known in each.files.items()} for each in (one, other)]
    return bool(one.key == other.key and sums[0] == sums[1])


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = function()
    return found, round(time.perf_counter() - start, 1)


def stage(
    nodes: Nodes, folder: Path, settings: dict[str, Any], name: str, when: Callable[[Path], int], least: int
) -> dict[str, Any]:
    """A stage by this process and by the nodes."""
    kind = name.split()[0]
    own, inline = timed(lambda: experiment(folder / "one", settings).run(name))
    there = experiment(folder / "nodes", settings, "ray")
    for before in there.stages:
        if before == name:
            break
        experiment(folder / "nodes", settings).run(before)
    with nodes.one_dies(lambda: when(folder / "nodes" / kind), least) as noted:
        artifact = there.run(name)
    return {"equal": same(artifact, own), "inline_s": inline, **noted, "workers": len(artifact.notes["workers"])}


def encode(nodes: Nodes, folder: Path, settings: dict[str, Any], n_queries: int) -> dict[str, Any]:
    """The node dies when the first shard is joined."""

    def joined(where: Path) -> int:
        for journal in where.glob(".*.resumes/journal.json"):
            return int(json.loads(journal.read_text())["documents"])
        return 0

    return stage(nodes, folder, settings, "encode documents", joined, 1024)


def build(nodes: Nodes, folder: Path, settings: dict[str, Any], n_queries: int) -> dict[str, Any]:
    """The node dies when the first segment is in place."""
    segments = lambda where: len(list(where.glob(".*/index/segment-*")))  # noqa: E731
    found = stage(nodes, folder, settings, "index", segments, 1)
    return {**found, "segments": len(experiment(folder / "one", settings).index.segments)}


def search(nodes: Nodes, folder: Path, settings: dict[str, Any], n_queries: int) -> dict[str, Any]:
    """One query after another; the node dies after a third of them."""
    one = experiment(folder / "one", settings)
    retriever = Retriever(one.index, one.index.pipeline, one.config.search)  # type: ignore[arg-type]
    vectors, texts = one.query_vectors, one.collection.query_texts
    n, k, found = min(n_queries, len(vectors)), one.config.k, []
    slices = [(vectors.slice(i, i + 1), texts[i : i + 1]) for i in range(n)]
    expected, inline = timed(lambda: [one.config.search.search(one.index, v, k, query_texts=t) for v, t in slices])
    with Shards.start(retriever, EXECUTORS["ray"](), shards=4, replicas=2) as shards:  # type: ignore[arg-type]
        slowest = 0.0
        with nodes.one_dies(lambda: len(found), n // 3) as noted:
            for query, text in slices:
                start = time.perf_counter()
                found.append(shards.search(query, k, query_texts=text))
                slowest = max(slowest, time.perf_counter() - start)
            while noted["killed_at"] is None:
                time.sleep(0.01)
            after = shards.search(vectors.slice(0, n), k, query_texts=texts[:n])  # all again, behind the kill
    equal = all(
        each.answered == 1
        and np.array_equal(each.ranking.positions, whole.positions)
        and np.array_equal(each.ranking.scores, whole.scores)
        for each, whole in zip(found, expected, strict=True)
    )
    equal &= np.array_equal(after.ranking.positions, np.concatenate([whole.positions for whole in expected]))
    return {"equal": bool(equal), "inline_s": inline, **noted, "queries": n, "slowest_s": round(slowest, 2)}


def sweep(nodes: Nodes, folder: Path, settings: dict[str, Any], n_queries: int) -> dict[str, Any]:
    """Three runs; the node dies when two are under way."""
    dataset = settings.get("dataset", {})
    absolute = {"dataset": {"path": str(Path(dataset["path"]).resolve())}} if "path" in dataset else {}
    described = {
        "base": str(ROOT / "configs" / "tiny.yaml"),
        "notebook": str(ROOT / "notebooks" / "evaluate.ipynb"),
        "overrides": merge(settings, absolute),
        "grid": {"codec.nbits": [1, 2, 4]},
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(described), encoding="utf-8")
    own, there = (Sweep.load(file, folder=folder / f"sweep-{name}") for name in ("one", "nodes"))
    before = os.environ.get("COLBERT_RESEARCH_CACHE")
    try:
        os.environ["COLBERT_RESEARCH_CACHE"] = str(folder / "cache-one")
        _, inline = timed(own.run)
        os.environ["COLBERT_RESEARCH_CACHE"] = str(folder / "cache-nodes")
        with nodes.one_dies(lambda: len(list((folder / "sweep-nodes").glob("*/stdout.log"))), 2) as noted:
            there.run(executor="ray")
    finally:
        os.environ.pop("COLBERT_RESEARCH_CACHE")
        if before is not None:
            os.environ["COLBERT_RESEARCH_CACHE"] = before
    names = ("summary.csv", *(f"{run.id}/{name}" for run in own.runs for name in ("ranking.parquet", "per_query.parquet")))
    equal = all((folder / "sweep-one" / n).read_bytes() == (folder / "sweep-nodes" / n).read_bytes() for n in names)
    return {"equal": equal, "inline_s": inline, **noted, "runs": len(own.runs)}


if __name__ == "__main__":
    main()
