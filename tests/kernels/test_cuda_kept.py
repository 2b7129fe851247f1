"""Copies that are kept: in a model of streams, work on any of them finds one whole, and as it was for as long as it lasts."""

import numpy as np
import pytest

from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import codes, kept, transfer
from colbert_research.kernels.cuda.kept import Kept
from colbert_research.kernels.operands import ResidualTable
from colbert_research.ragged import Ragged, offsets_of
from tests.kernels.cuda_streams import CUPY, waited_for
from tests.kernels.cuda_streams import copied as copied
from tests.kernels.cuda_streams import machine as machine

SEEDS = range(25)


def uploaded(machine, values):
    """A copy that is under way on the stream that is current now."""
    there = np.zeros_like(values)
    machine.now.operations.append(("copy", there, values))
    return there


def look(machine, array, seen):
    """Launch work that reads an array."""
    machine.now.operations.append(("compute", lambda: seen.append(array.copy())))


def results(machine, seed):
    """What two other streams read of a copy, which then is dropped; its memory is given to work of the stream that made it."""
    machine.now, seen = machine.computing, []
    copy = Kept(uploaded(machine, np.arange(1, 5)), CUPY)
    look(machine, copy.here(), seen)
    for _ in range(2):
        machine.now = machine.stream()
        look(machine, copy.here(), seen)
        look(machine, copy.here(), seen)
    memory = copy.here()
    del copy
    machine.computing.operations.append(("compute", lambda: memory.fill(-7)))
    machine.run(np.random.default_rng(seed))
    return np.array(seen)


def test_work_on_any_stream_finds_it_whole_and_as_it_was(machine):
    for seed in SEEDS:
        assert np.array_equal(results(machine, seed), np.tile(np.arange(1, 5), (5, 1)))


@pytest.mark.parametrize("forgotten", ["the copy is not waited for", "memory is handed back at once"])
def test_the_model_would_notice(machine, monkeypatch, forgotten):
    if forgotten == "the copy is not waited for":
        machine.computing.synchronize = lambda: None
    else:
        monkeypatch.setattr(kept, "_hand_back", lambda *_: None)
    assert not all(np.array_equal(results(machine, seed), np.tile(np.arange(1, 5), (5, 1))) for seed in SEEDS)


def test_one_stream_waits_for_nobody(machine):
    copy = Kept(uploaded(machine, np.arange(3)), CUPY)
    copy.here()
    del copy
    assert machine.computing.operations == []


def test_a_stream_that_is_capturing_is_left_alone(machine):
    """Whatever is recorded there would be part of the graph."""
    copy, machine.now = Kept(uploaded(machine, np.arange(3)), CUPY), machine.stream()
    copy.here()
    machine.now.is_capturing = lambda: True
    del copy
    assert machine.computing.operations == machine.now.operations == []


def test_searches_on_two_streams_use_the_buffers_in_turn(machine):
    """The second one's copies wait for the first one's work, though it was launched on another stream."""
    buffers = [{"a": machine.array(np.zeros(3))} for _ in range(2)]
    lane = transfer.CudaLane(CUPY)
    for seed in SEEDS:
        seen: list[np.ndarray] = []
        for number in range(2):
            machine.now = machine.stream()
            sources = [(i % 2, {"a": machine.array(np.full(3, 10 * number + i))}) for i in range(4)]
            for i in transfer.conveyed(sources, buffers, lane):
                look(machine, buffers[i % 2]["a"], seen)
        machine.run(np.random.default_rng(seed))
        assert sorted(array.tolist() for array in seen) == [[n] * 3 for n in (0, 1, 2, 3, 10, 11, 12, 13)]


def test_offsets(copied):
    made = waited_for(copied, lambda: Ragged(np.zeros(5), offsets_of([2, 3])), lambda own: cuda_backend.offsets_at(own, CUPY))
    assert made == 2


def test_tables(copied):
    def table():
        return ResidualTable(np.ones(4, np.float32), np.arange(4, dtype=np.float32), np.ones((3, 4), np.float32))

    assert waited_for(copied, table, lambda own: codes.table_at(own, CUPY)) == 2
