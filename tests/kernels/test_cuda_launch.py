"""The device that CuPy drives, with a stand-in for CuPy: what is compiled, loaded and handed over, and on which stream."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from colbert_research.kernels.cuda import compile as compiler
from colbert_research.kernels.cuda import launch
from colbert_research.kernels.cuda.arrays import Place
from colbert_research.kernels.cuda.launch import Gpu, Kernel, device_of, grid_of, home

pytestmark = pytest.mark.usefixtures("nvrtc")
KERNEL = Kernel("batch.cu", "sum_groups")


class Scope:
    """A device or stream that notes while it is entered."""

    def __init__(self, log, name, **attributes):
        self._log, self._name = log, name
        self.__dict__.update(attributes)

    def __enter__(self):
        self._log.append(("enter", self._name))
        return self

    def __exit__(self, *_):
        self._log.append(("leave", self._name))


@pytest.fixture
def log(monkeypatch):
    """What happens in a module that looks like CuPy, on a device of capability 9.0."""
    log = []

    class Function:
        max_dynamic_shared_size_bytes = 48 * 1024

        def __init__(self, name):
            self.name = name

        def __call__(self, grid, block, arguments, *, shared_mem):
            log.append(("launch", self.name, grid, block, arguments, shared_mem, self.max_dynamic_shared_size_bytes))

    class RawModule:
        def __init__(self, *, path):
            log.append(("load", path.rsplit(".", 1)[1]))

        get_function = staticmethod(Function)

    def device(number):
        attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448}
        return Scope(log, f"device {number}", compute_capability="90", attributes=attributes)

    streams = SimpleNamespace(
        from_external=lambda stream: Scope(log, f"stream {stream.__cuda_stream__()}"),
    )
    cuda = SimpleNamespace(
        Device=device,
        Stream=streams,
        get_current_stream=lambda number: Scope(log, f"current of {number}"),
        is_available=bool,
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, RawModule=RawModule, ndarray=type(None)))
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 7 + device, raising=False)
    return log


def test_a_launch(log):
    gpu = Gpu(Place("torch", 1))
    assert (gpu.architecture, gpu.multiprocessors, gpu.shared_limit) == ("sm_90a", 132, 232448)
    values = torch.arange(4)
    for shared in (10, 50_000):
        gpu.launch(KERNEL, (3,), (64, 2), shared, [values, None, np.int32(5)])
    launches = [entry for entry in log if entry[0] == "launch"]
    assert [entry[1] for entry in launches] == ["_Z10sum_groupsPKfPfxixPii"] * 2
    assert [entry[2:4] for entry in launches] == [((3,), (64, 2))] * 2
    assert [entry[5:] for entry in launches] == [(10, 48 * 1024), (50_000, 50_000)]
    handed = launches[0][4]
    assert [type(value) for value in handed] == [np.uint64, np.uint64, np.int32]
    assert [int(value) for value in handed] == [values.data_ptr(), 0, 5]
    assert [entry for entry in log if entry[0] == "load"] == [("load", "cubin")]  # once
    around = [("enter", "device 1"), ("enter", "stream (0, 8)")]
    assert log[:2] == around
    assert log[-2:] == [("leave", name) for _, name in around[::-1]]


def test_an_edited_source_is_compiled_and_loaded(log, monkeypatch, tmp_path):
    """Also one whose header alone was edited; and what it was before is loaded still."""
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(tmp_path / "cache"))  # which shares no kernels with other tests
    shutil.copytree(compiler.FOLDER, tmp_path / "sources", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(compiler, "FOLDER", tmp_path / "sources")
    clock, gpu, loaded = [0.0], Gpu(Place("cupy", 0)), []
    monkeypatch.setattr(launch, "monotonic", lambda: clock[0])

    def launch_after(name, *change):
        file = compiler.FOLDER / name
        file.write_text(file.read_text().replace(*change))
        clock[0] += launch.LOOK
        gpu.launch(KERNEL, (1,), (32,), 0, [])
        loaded.append(sum(entry[0] == "load" for entry in log))

    launch_after(KERNEL.source, "total += part", "total += 2 * part")
    launch_after(KERNEL.source, "none", "none")
    launch_after("warp.cuh", "WARP = 32", "WARP = 16 + 16")
    launch_after("warp.cuh", "WARP = 16 + 16", "WARP = 32")
    assert loaded == [1, 1, 2, 2]
    assert cubins() == 1  # both texts mean one thing
    launch_after(KERNEL.source, "total += 2 * part", "total += 3 * part")
    assert loaded[-1] == 3
    assert cubins() == 2


def cubins() -> int:
    """How many kernels in the cache differ."""
    return len({path.read_bytes() for path in compiler.cache_folder().glob("*.cubin")})


def test_cupys_own_stream(log):
    """That of the arrays' device, whichever is the current one."""
    Gpu(Place("cupy", 1)).launch(KERNEL, (1,), (32,), 0, [])
    assert log[:2] == [("enter", "device 1"), ("enter", "current of 1")]


@pytest.mark.parametrize(("work", "blocks"), [(0, 1), (1, 1), (8, 1), (9, 2), (10_000, 264)])
def test_grids(log, work, blocks):
    assert grid_of(work, 8, Gpu(Place("cupy", 0)), waves=2) == blocks


def test_no_device(monkeypatch):
    with pytest.raises(ValueError, match="takes arrays on a CUDA device; given numpy on the CPU"):
        device_of(Place("numpy", None))
    monkeypatch.setattr(launch, "gpu_is_here", lambda: False)
    with pytest.raises(RuntimeError, match="does not find both; use backend 'auto'"):
        home(Place("numpy", None))
