"""Copies beside computing: in a model of streams and events, run in the orders that they allow, work sees its own shard."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from colbert_research.kernels.cuda import transfer
from colbert_research.kernels.cuda.arrays import Place
from colbert_research.kernels.cuda.transfer import CudaLane, HostLane, conveyed, fill, lane_to, pinned
from tests.kernels.cuda_streams import Machine

CUPY = Place("cupy", 0)


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setitem(sys.modules, "cupy", machine.cupy)
    monkeypatch.setattr(transfer, "stream_at", lambda place: machine.computing)
    return machine


def searched(machine, slots, seed, searches=2):
    """What work on each shard found in its buffers, when the machine executes in an order of its own; and what it should."""
    rng = np.random.default_rng(seed)
    buffers = [{"a": machine.array(np.full(7, -1)), "b": machine.array(np.full(7, -1))} for _ in range(2)]
    sources = []
    for number, slot in enumerate(slots):
        rows = {name: machine.array(np.full(rng.integers(1, 8), 10 * number + i)) for i, name in enumerate("ab")}
        sources.append((slot, rows))
    lane, found = CudaLane(CUPY), []
    for _ in range(searches):
        for i in conveyed(sources, buffers, lane):
            slot, rows = sources[i]
            for _ in range(2):  # two kernels read them
                look = [buffers[slot][name][: len(rows[name])] for name in "ab"]
                machine.computing.operations.append(("compute", lambda look=look: found.append([part.copy() for part in look])))
    machine.run(rng)
    expected = [[rows["a"], rows["b"]] for _, rows in sources for _ in range(2)] * searches
    return found, expected


@pytest.mark.parametrize("slots", [[0], [1], [0, 1], [0, 1, 0, 1, 0], [0, 0], [1, 1, 1], [0, 1, 1, 0, 0, 1], []])
def test_work_sees_its_shard_in_any_order(machine, slots):
    for seed in range(25):
        found, expected = searched(machine, slots, seed)
        assert len(found) == len(expected)
        for parts, rows in zip(found, expected, strict=True):
            assert all(np.array_equal(part, row) for part, row in zip(parts, rows, strict=True))


@pytest.mark.parametrize("forgotten", ["arrived", "done"])
def test_the_model_would_notice_a_forgotten_event(machine, monkeypatch, forgotten):
    monkeypatch.setattr(CudaLane, forgotten, lambda self, slot: None)
    if forgotten == "done":
        monkeypatch.setattr(CudaLane, "begin", lambda self: [event.record(machine.computing) for event in self._done])
    wrong = 0
    for seed in range(25):
        found, expected = searched(machine, [0, 1, 0, 1, 0], seed, searches=1)
        wrong += any(not np.array_equal(p, r) for pair in zip(found, expected, strict=True) for p, r in zip(*pair, strict=True))
    assert wrong


def test_a_copy_runs_beside_the_work_on_the_shard_before(machine):
    """When work on a shard is launched, the copy of the next one already is."""
    buffers = [{"a": machine.array(np.zeros(3))} for _ in range(2)]
    sources = [(i % 2, {"a": machine.array(np.full(3, i))}) for i in range(5)]
    lane = CudaLane(CUPY)
    copies = lane._copies.operations
    for i in conveyed(sources, buffers, lane):
        assert sum(operation[0] == "copy" for operation in copies) == min(i + 2, 5)


def test_what_is_asked_of_cupy(machine, monkeypatch):
    waited = []
    machine.computing.synchronize = lambda: waited.append(True)
    machine.cupy.cuda.runtime.memGetInfo = lambda: (5 * 10**9, 8 * 10**9)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=lambda shape, kind: np.empty(shape, kind)))
    transfer.synchronize(CUPY)
    assert waited
    assert transfer.free_bytes(CUPY) == 5 * 10**9
    assert transfer.free_bytes(Place("numpy", None)) is None
    assert isinstance(lane_to(CUPY), CudaLane)
    array = pinned((4, 3), "float16", CUPY)
    assert (array.shape, array.dtype) == ((4, 3), np.float16)


def test_an_abandoned_search_leaves_nothing_behind():
    buffers = [{"a": np.zeros(2)} for _ in range(2)]
    sources = [(i % 2, {"a": np.full(2, i)}) for i in range(4)]
    lane = HostLane()
    for i in conveyed(sources, buffers, lane):
        assert buffers[i % 2]["a"].tolist() == [i, i]
        if i == 1:
            break
    assert [buffers[i % 2]["a"].tolist() for i in conveyed(sources, buffers, lane)] == [[i, i] for i in range(4)]


def test_pinned_memory_and_rows_in_pieces(monkeypatch):
    place = Place("numpy", None)
    assert pinned((3, 2), "uint8", place).shape == (3, 2)
    assert isinstance(lane_to(place), HostLane)
    monkeypatch.setattr(transfer, "PIECE", 40)
    target, rows = np.zeros((9, 3), np.float32), np.arange(21, dtype=np.float32).reshape(7, 3)
    fill(target, 1, rows, place)
    assert np.array_equal(target[1:8], rows)
    assert not target[0].any()
    assert not target[8].any()
