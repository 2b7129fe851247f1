"""A model of a device's streams and events, and of a module that looks like CuPy, for what copies beside computing."""

import gc
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import arrays, codes, kept, transfer
from colbert_research.kernels.cuda.arrays import Place

CUPY = Place("cupy", 0)


class Machine:
    """Streams that hold operations until `run` executes them, each in its order and all in a random one."""

    def __init__(self):
        self.streams, self.executed, self.memory = [], set(), {}
        self.computing = self.stream()
        runtime = SimpleNamespace(memcpyAsync=self.copy, memcpyHostToDevice=1)
        cuda = SimpleNamespace(Stream=self.stream, Event=self.event, runtime=runtime, Device=lambda _: nullcontext())
        self.cupy = SimpleNamespace(cuda=cuda, ndarray=type(None))

    def stream(self, **_):
        operations = []
        self.streams.append(operations)
        stream = SimpleNamespace(ptr=len(self.streams) - 1, operations=operations, synchronize=lambda: None)
        # an event that was never recorded is not waited for
        stream.wait_event = lambda event: event.recorded and operations.append(("wait", event.recorded))
        stream.is_capturing = lambda: False

        def record(event=None):
            event = event or self.event()
            event.record(stream)
            return event

        stream.record = record
        return stream

    def event(self, **_):
        event = SimpleNamespace(recorded=None)

        def record(stream):
            event.recorded = object()
            stream.operations.append(("record", event.recorded))

        event.record = record
        return event

    def copy(self, target, source, size, kind, stream):
        assert kind == 1
        if size:
            self.streams[stream].append(("copy", self.memory[target], self.memory[source]))

    def array(self, values):
        """An array whose address copies know it by."""
        self.memory[values.ctypes.data] = values
        return values

    def run(self, rng, until=None):
        """Everything; or no more than it takes until the stream `until` has nothing to do."""
        while until is None or until.operations:
            ready = [s for s in self.streams if s and (s[0][0] != "wait" or s[0][1] in self.executed)]
            if not ready:
                break
            operation, *operands = ready[rng.integers(len(ready))].pop(0)
            if operation == "record":
                self.executed.add(operands[0])
            elif operation == "copy":
                operands[0][: len(operands[1])] = operands[1]
            elif operation == "compute":
                operands[0]()
        assert until or not any(self.streams), "a stream waits for what never happens"


@pytest.fixture
def machine(monkeypatch):
    """Its arrays are NumPy's; to be waited for, a stream runs all that it has been given, and others as much as they like."""
    machine, rng = Machine(), np.random.default_rng(5)
    machine.computing.synchronize = lambda: machine.run(rng, until=machine.computing)
    machine.now = machine.computing
    monkeypatch.setitem(sys.modules, "cupy", machine.cupy)
    for module in (kept, transfer):
        monkeypatch.setattr(module, "stream_at", lambda place: machine.now)
    return machine


@pytest.fixture
def copied(machine, monkeypatch):
    """Uploads to a device that there is not give NumPy arrays, and its copies stay away."""
    machine.cupy.cuda.runtime.memcpyAsync = lambda *_: None
    for module in (arrays, cuda_backend, codes, transfer):
        monkeypatch.setattr(module, "upload", lambda array, place: np.array(array))
    return machine


def waited_for(machine, owner, use) -> int:
    """How many streams are waited for when an owner is dropped whose copy was used on three, one of which made it."""
    machine.now = machine.computing
    owners = [owner()]
    for stream in (machine.computing, machine.stream(), machine.computing, machine.stream()):
        machine.now = stream
        use(owners[0])
    machine.computing.operations.clear()
    owners.clear()
    gc.collect()
    return sum(operation == "wait" for operation, *_ in machine.computing.operations)
