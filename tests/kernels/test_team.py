"""The team of threads: every part is done once, whoever does it, whoever else calls, asleep or awake, after a fork too."""

import contextlib
import ctypes
import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest

from colbert_research import kernels, threads
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.kernels.cpu import team
from colbert_research.kernels.cpu.memory import load_i64, store_i64
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive, Plaid, Warp
from tests.conftest import same_in_a_forked_child


@team.Job
def _add_to_each(low, high, scratch, arguments):
    numbers, amount = load_i64(arguments), load_i64(arguments + 8)
    for i in range(low, high):
        store_i64(scratch, load_i64(numbers + 8 * i) + amount)
        store_i64(numbers + 8 * i, load_i64(scratch))


def add_to_each(numbers: np.ndarray, amount: int) -> None:
    offsets = offsets_of(np.full(len(numbers), 100))
    team.in_team(_add_to_each, offsets, None, (numbers.ctypes.data, amount), scratch=8)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 7, 5000])
def test_every_item_once(monkeypatch, n_threads, n):
    monkeypatch.setattr(threads, "count", lambda: n_threads)
    numbers = np.arange(n)
    for _ in range(50):
        add_to_each(numbers, 3)
    assert np.array_equal(numbers, np.arange(n) + 150)


def test_helpers_that_fell_asleep_do_no_harm(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 3)
    numbers = np.zeros(3000, np.int64)
    for pause in (0, 0.002, 0.05, 0, 0.01):
        time.sleep(pause)
        add_to_each(numbers, 1)
    assert set(numbers) == {5}


def test_callers_at_the_same_time(monkeypatch):
    """One has the helpers; the others do their work themselves."""
    monkeypatch.setattr(threads, "count", lambda: 3)
    each = [np.zeros(2000, np.int64) for _ in range(6)]
    started = threading.Barrier(len(each))

    def call(numbers: np.ndarray) -> None:
        started.wait()
        for _ in range(200):
            add_to_each(numbers, 1)

    callers = [threading.Thread(target=call, args=(numbers,)) for numbers in each]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert all(set(numbers) == {200} for numbers in each)


def _in_child(found) -> None:
    numbers = np.zeros(2000, np.int64)
    add_to_each(numbers, 7)
    found.put(numbers.tolist())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_team_of_its_own(monkeypatch):
    """Others fork (a user's process pool may), although this library never does."""
    monkeypatch.setattr(threads, "count", lambda: 2)
    add_to_each(np.zeros(2000, np.int64), 1)
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    child = context.Process(target=_in_child, args=(found,))
    child.start()
    assert set(found.get(timeout=60)) == {7}
    child.join(timeout=60)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_parts_are_consecutive_and_about_equal(rng, n_threads):
    for n in (0, 1, 3, 1000):
        lengths = rng.integers(0, 500, n)
        offsets, only = offsets_of(lengths), np.sort(rng.choice(n, n // 2, replace=False))
        for chosen, taken in ((None, lengths), (only, lengths[only])):
            job, n_given = team._state(n_threads), len(taken)
            what = 0, 0, offsets.ctypes.data, team.address(chosen), n_given, n_threads, team.PARTS_PER_THREAD
            n_parts = team._fill(team._aligned(job), *what)
            bounds = np.ctypeslib.as_array((ctypes.c_int64 * (n_parts + 1)).from_address(team._aligned(job) + 8 * team._BOUNDS))
            assert (bounds[0], bounds[-1]) == (0, len(taken))
            assert np.all(np.diff(bounds) > 0) or len(taken) == 0
            sizes = np.add.reduceat(taken, bounds[:-1]) if len(taken) else np.zeros(1)
            wanted = min(team.PARTS_PER_THREAD * n_threads, max(1, taken.sum() // team.SMALLEST_PART)) if n_threads > 1 else 1
            assert sizes.max() <= taken.sum() / wanted + 500


def test_an_interrupt_at_any_step_leaves_the_team_usable(monkeypatch):
    """Ctrl-C between two lines: the next job is done rightly by all, and no thread keeps the team for itself."""
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(team, "FORGOTTEN", 0.05)
    monkeypatch.setattr(team, "PATIENCE", 10)  # helpers fall asleep at once, so that they are woken for every job
    inside = {team.Team.run.__code__, team.Team._provide.__code__}
    interrupts = 0
    for stop in range(1, 200):
        mine = team.Team()
        monkeypatch.setattr(team, "_team", mine)
        seen = 0

        def tracer(frame, event, argument, stop=stop):
            nonlocal seen
            if frame.f_code not in inside:
                return None
            if event == "line":
                seen += 1
                if seen == stop:
                    raise KeyboardInterrupt
            return tracer

        sys.settrace(tracer)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                for _ in range(2):
                    add_to_each(np.zeros(3000, np.int64), 1)
        finally:
            sys.settrace(None)
        if seen < stop:
            break
        interrupts += 1
        numbers = np.zeros(3000, np.int64)
        for wait in (0, 0.001, 0):
            time.sleep(wait)
            add_to_each(numbers, 1)
        assert set(numbers) == {3}
        assert mine._owner == {}
        other = threading.Thread(target=add_to_each, args=(numbers, 1))
        other.start()
        other.join()
        assert set(numbers) == {4}
    assert interrupts > 30


@pytest.mark.parametrize("kernel", ["assign", "bucket_numbers", "decode", "search"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_everything_computes_after_a_fork(monkeypatch, rng, kernel, tmp_path):
    """A pool of threads that a child does not have was waited for, forever."""
    monkeypatch.setattr(threads, "count", lambda: 2)
    vectors = rng.standard_normal((60_000, 16)).astype(np.float32)
    codec = ResidualConfig(nbits=4, centroids=64).fit(vectors[:8000], n_tokens=len(vectors), seed=0)

    def compute():
        if kernel == "assign":
            return kernels.assign(vectors, codec.centroids)
        codes = codec.encode(vectors)  # bucket numbers
        return codes["residuals"] if kernel == "bucket_numbers" else codec.decode(codes)

    if kernel == "search":
        collection = Collection.from_texts([str(i) for i in range(600)])
        packed = Ragged(vectors, offsets_of(np.full(600, 100)))
        index = build_index(tmp_path / "i", collection, packed, ResidualConfig(nbits=4, centroids=64))
        queries = Ragged(vectors[:32], np.array([0, 32]))

        def compute():
            found = [strategy.search(index, queries, 5).scores for strategy in (Exhaustive(), Plaid(), Warp(nprobe=8))]
            return np.concatenate([*found, index.vectors_of(["3"]).values.ravel()])

    assert same_in_a_forked_child(compute)
