"""An executor that computes here, as unkindly as an executor may."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from colbert_research.config import Config


class Here:
    """Items in this process, the last one first and each twice."""

    def map(self, function, items, resources=None) -> Iterator[tuple]:
        for item in reversed(list(items)):
            function(item)
            yield item, function(item)


class HereConfig(Config):
    kind: Literal["here"] = "here"

    @contextmanager
    def start(self, shared=()):
        assert all(folder.is_dir() for folder in shared)
        yield Here()
