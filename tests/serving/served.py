"""A small index and the application over it, without a socket."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from starlette.testclient import TestClient

from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig, TextPipeline
from colbert_research.index import build_index
from colbert_research.search import Retriever
from colbert_research.serving.app import application
from colbert_research.serving.base import Answering
from colbert_research.serving.current import Current
from colbert_research.serving.local import Local, shared
from colbert_research.serving.models import Limits

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "juniper"]
HERE = "http://127.0.0.1:8000"


def until(true: Callable[[], bool]) -> None:
    """Wait for something that another thread does; not forever."""
    last = time.monotonic() + 30
    while not true():
        assert time.monotonic() < last
        time.sleep(0.001)


def collection_of(n: int, first: int = 0) -> Collection:
    """Document i says word i % 10 some times, then its number; every fifth has a title."""
    numbers = range(first, first + n)
    return Collection.from_texts(
        [" ".join([WORDS[i % 10]] * (1 + i // 10)) + f" note {i}" for i in numbers],
        ids=[f"d{i}" for i in numbers],
        titles=[WORDS[(i + 3) % 10] if i % 5 == 0 else "" for i in numbers],
        metadata=[{"number": i, "even": i % 2 == 0, "name": "é"} for i in numbers],
    )


def built(path: Path, n: int = 30, encoder: HashingConfig | None = None) -> Path:
    collection, pipeline = collection_of(n), TextPipeline.of(encoder or HashingConfig(dim=32))
    vectors = pipeline.documents(collection.document_texts()).vectors
    build_index(path, collection, vectors, ResidualConfig(nbits=8, centroids=8), pipeline=pipeline)
    return path


def current_of(path: Path, together: int = 1) -> Current:
    return Current(shared(Retriever.open(path), together), lambda retriever: nullcontext(Local(retriever)))


@contextmanager
def client_of(current: Current, limits: Limits | None = None, token: str | None = None, **options) -> Iterator[TestClient]:
    with TestClient(application(current, limits or Limits(), token=token, **options), base_url=HERE) as client:
        yield client


@contextmanager
def answering(path: Path, answer, limits: Limits | None = None) -> Iterator[TestClient]:
    """A client of a server whose searches, but for the first, are another function's."""

    class Other(Local):
        def answer(self, texts, *asked, **more):
            warm = texts == ["what does the first query find"]
            return super().answer(texts, *asked, **more) if warm else answer(super().answer, texts, *asked, **more)

    opening = lambda retriever: nullcontext[Answering](Other(retriever))  # noqa: E731
    with client_of(Current(shared(Retriever.open(path)), opening), limits) as client:
        yield client
