"""Clusters of Ray for the tests: nodes of one CPU, all on this machine."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

STORE = 100 * 2**20  # bytes
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def node() -> dict[str, Any]:
    """What a node is started with. Ports that are told need not be waited for, of which Ray tires after 15 seconds."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = {name: each.getsockname()[1] for name, each in zip(PORTS, sockets, strict=True)}
    return {"num_cpus": 1, "object_store_memory": STORE, "memory": 4 * 10**9, **ports}


@contextmanager
def cluster_of(nodes: int) -> Iterator[Any]:
    """A cluster that this process is connected to; the test is skipped where this machine is too busy for Ray to start."""
    from ray.cluster_utils import Cluster

    from colbert_research.executors.on_ray import _ray

    ray = _ray()
    found = Cluster()
    try:
        try:
            found.add_node(**node(), include_dashboard=False)
            for _ in range(nodes - 1):
                found.add_node(**node())
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            pytest.skip(f"Ray did not start in 30 seconds: {error}")
        ray.init(address=found.address, logging_level="warning", log_to_driver=False)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()
