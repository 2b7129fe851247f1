"""Queries of several callers are encoded together, and each caller gets its own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from colbert_research.encoders import HashingConfig
from colbert_research.encoders.base import Encoder
from colbert_research.serving.gathering import Gathering
from tests.serving.served import until

TEXTS = [f"a text about {i} things" for i in range(12)]


class Watched:
    """An encoder that waits when it is told to, and notes what it is asked for, and on which thread."""

    def __init__(self) -> None:
        self.inner, self.batches, self.threads = HashingConfig(dim=16).load(), [], set()
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode_queries(self, texts):
        self.batches.append(list(texts))
        self.threads.add(threading.get_ident())
        self.begun.release()
        assert self.go.wait(30)
        if "bad" in texts:
            raise ValueError("a bad text")
        return self.inner.encode_queries(texts)


def asked(together, calls):
    """What each call gives or raises, when all wait behind a first one; and the encoder."""
    encoder = Watched()
    gathering = Gathering(encoder, together)
    with ThreadPoolExecutor(len(calls) + 1) as threads:
        first = threads.submit(gathering.encode_queries, ["first"])
        assert encoder.begun.acquire(timeout=30)
        futures = []
        for n, call in enumerate(calls):  # one after another, so that their order is known
            futures.append(threads.submit(gathering.encode_queries, call))
            until(lambda n=n: len(gathering._waiting) == n + 1)
        encoder.go.set()
        first.result()
        results = [future.exception() or future.result() for future in futures]
    return results, encoder


def same(one, other) -> bool:
    return all(
        np.array_equal(a.values, b.values) and np.array_equal(a.offsets, b.offsets) for a, b in zip(one, other, strict=True)
    )


def test_it_is_an_encoder():
    inner = HashingConfig(dim=16).load()
    gathering = Gathering(inner)
    assert isinstance(gathering, Encoder)
    assert (gathering.dim, gathering.fingerprint(), gathering.rounding()) == (16, inner.fingerprint(), inner.rounding())
    assert same(gathering.encode_documents(TEXTS), inner.encode_documents(TEXTS))
    ids = inner.encode_queries(TEXTS[:1]).token_ids.values
    assert gathering.tokens(ids) == inner.tokens(ids)
    assert len(gathering.encode_queries([]).vectors) == 0


@pytest.mark.parametrize(
    ("together", "batches"),
    [
        (1, [1, 3, 2, 1]),  # what one caller brings is never divided
        (4, [4, 3]),
        (5, [4, 3]),
        (100, [7]),
    ],
)
def test_those_who_wait_are_encoded_together_and_in_order(together, batches):
    calls = [TEXTS[:1], TEXTS[1:4], TEXTS[4:6], TEXTS[6:7]]
    results, encoder = asked(together, calls)
    assert [len(batch) for batch in encoder.batches] == [1, *batches]
    assert len(encoder.threads) == 1
    for call, result in zip(calls, results, strict=True):
        assert same(result, HashingConfig(dim=16).load().encode_queries(call))


def test_an_error_is_raised_where_it_belongs():
    calls = [TEXTS[:2], ["bad"], TEXTS[2:5]]
    results, encoder = asked(100, calls)
    assert [len(batch) for batch in encoder.batches] == [1, 6, 2, 1, 3]
    assert isinstance(results[1], ValueError)
    for call, result in ((calls[0], results[0]), (calls[2], results[2])):
        assert same(result, HashingConfig(dim=16).load().encode_queries(call))
    gathering = Gathering(HashingConfig().load())
    with pytest.raises(TypeError, match="Put it into a list"):
        gathering.encode_queries("a text")
    with pytest.raises(ValueError, match="given together=0"):
        Gathering(HashingConfig().load(), 0)


def test_what_is_not_the_vectors_of_the_texts_is_an_error():
    """Its caller waited without end, or had those of fewer texts than he gave."""
    for wrong, error in (
        (lambda found: found.vectors, AttributeError),
        (lambda found: found._replace(vectors=found.vectors.slice(0, 1)), ValueError),
    ):
        encoder = Watched()
        encoder.encode_queries = lambda texts, wrong=wrong, inner=encoder.inner: wrong(inner.encode_queries(texts))
        caught = []

        def ask(encoder=encoder, error=error, caught=caught):
            with pytest.raises(error):
                Gathering(encoder).encode_queries(TEXTS[:3])
            caught.append(True)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(10)
        assert caught


def test_many_threads_get_their_own():
    inner = HashingConfig(dim=16).load()
    gathering = Gathering(inner, 4)
    calls = [[f"text {i} {j}" for j in range(1 + i % 3)] for i in range(200)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(gathering.encode_queries, calls))
    assert all(same(result, inner.encode_queries(call)) for call, result in zip(calls, results, strict=True))
