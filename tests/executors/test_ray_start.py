"""A cluster of Ray that does not start on this machine, by a module in its place."""

import socket

import pytest

from colbert_research.executors import on_ray
from colbert_research.settings import ConfigError


class NeverStarts:
    def __init__(self, times: int) -> None:
        self.times, self.begun, self.ended = times, 0, 0

    def init(self, **given: object) -> None:
        self.begun += 1
        if self.begun <= self.times:
            raise Exception("the node\n timed out")

    def shutdown(self) -> None:
        self.ended += 1


def test_a_cluster_that_does_not_start_is_tried_twice_and_is_one_sentence(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "elsewhere")
    ray = NeverStarts(2)
    with pytest.raises(ConfigError, match=r"no cluster could be started here \(the node timed out\).*`processes`.*elsewhere"):
        on_ray._connect(ray, "local")
    assert (ray.begun, ray.ended) == (2, 2), "nothing is left of it"
    ray = NeverStarts(1)
    on_ray._connect(ray, "local")
    assert (ray.begun, ray.ended) == (2, 1)


def test_a_cluster_that_is_there_and_refuses_may_ask_for_a_token(monkeypatch):
    """Of which Ray says in its log alone that it was missing."""

    class Refuses(NeverStarts):
        def init(self, **given: object) -> None:
            raise ConnectionError("failed to connect")

    monkeypatch.setattr("socket.create_connection", lambda *args, **kwargs: socket.socket())
    with pytest.raises(ConfigError, match=r"no cluster at address=head:6379 \(failed to connect\).*RAY_AUTH_MODE=token"):
        on_ray._connect(Refuses(0), "head:6379")
