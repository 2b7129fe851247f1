"""A build that dies leaves no index; memory is bounded by the chunk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from colbert_research import artifacts
from colbert_research.index import Index, IndexMissingError, build_index, generations, writing
from colbert_research.index import build as build_module
from colbert_research.index import segment as segment_module
from colbert_research.index.build import BuildConfig
from tests.index.conftest import CODECS, bytes_of

STEPS = [
    *((build_module, name) for name in ("save_codec", "checksums", "write_segments", "sync_tree", "commit")),
    *((writing, name) for name in ("write_segment", "encoded")),
    *((segment_module, name) for name in ("write_documents", "checksums")),
    *((generations, name) for name in ("write_manifest", "sync_folder")),
    *((artifacts, name) for name in ("write_text", "sync_folder")),
    (os, "replace"),
]


class PowerCut(BaseException):
    """Not an Exception: nothing in the library may catch it."""


def crashing(original, call: int, when: str):
    """The function, but its `call`-th call ends in a power cut `before` or `after` it does its work."""
    calls = iter(range(1, 10**6))

    def function(*args, **kwargs):
        cut = next(calls) == call
        if cut and when == "before":
            raise PowerCut
        result = original(*args, **kwargs)
        if cut:
            raise PowerCut
        return result

    return function


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.kind)
def test_a_crash_at_any_step(tmp_path, collection, vectors, codec):
    """At each call of each function that writes, before it and after it; every build starts in the folder of the last."""
    build = BuildConfig(segment_tokens=150, chunk_tokens=80)
    whole = bytes_of(build_index(tmp_path / "whole", collection, vectors, codec, seed=1, build=build).path)
    path, crashes = tmp_path / "i", 0
    for module, step in STEPS:
        for when in ("before", "after"):
            call, finished = 0, False
            while not finished:
                call += 1
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(module, step, crashing(getattr(module, step), call, when))
                    try:
                        build_index(path, collection, vectors, codec, seed=1, build=build)
                        finished = True
                    except PowerCut:
                        crashes += 1
                        if (path / "manifest.json").exists():  # the cut came after the commit
                            assert step == "sync_folder" or (
                                step in {"commit", "write_manifest", "write_text", "replace"} and when == "after"
                            )
                            Index.open(path).verify()
                        else:
                            with pytest.raises(IndexMissingError, match="no finished index"):
                                Index.open(path)
                            continue
                assert bytes_of(path) == whole
                (path / "manifest.json").unlink()  # the next build finds what a build that died would leave
            assert call > 1, f"{step} was never called"
    assert crashes > 2 * len(STEPS)


SCRIPT = """
import os, resource, signal, sys
import numpy as np
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research import kernels
from colbert_research.index import build_index, writing
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, load_npy
folder, mode = sys.argv[1], sys.argv[2]
kernels.assign(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32))  # libraries take their own memory now
vectors = Ragged(load_npy(folder + "/vectors.npy", mmap=True), np.load(folder + "/offsets.npy"))
collection = Collection.from_texts(["x"] * len(vectors))
codec = ResidualConfig(nbits=2, centroids=64, points_per_centroid=32)
build = BuildConfig(chunk_tokens=4096, segment_tokens=200_000)
if mode == "limited":
    import faiss.contrib.clustering, scipy.sparse, pyarrow.parquet, safetensors.numpy
    used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) * 1024
    stated = build.chunk_tokens * vectors.dim * 24 + build.segment_tokens * 24
    sample = 64 * 32 * vectors.dim * 4 * 8
    allowed = stated + sample + 64 * 2**20
    assert vectors.values.nbytes > 3 * allowed, (vectors.values.nbytes, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
if mode == "killed":
    original, calls = writing.write_segment, []
    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    writing.write_segment = killed
build_index(folder + "/index", collection, vectors, codec, seed=3, build=build)
"""


def in_subprocess(folder: Path, mode: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", SCRIPT, str(folder), mode]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def write_vectors(folder: Path, tokens: int, dim: int) -> None:
    """Vectors on disk, written chunk by chunk."""
    from colbert_research.ragged import NpyWriter

    rng = np.random.default_rng(0)
    with NpyWriter(folder / "vectors.npy", np.float32, (dim,)) as writer:
        for _ in range(tokens // 50_000):
            writer.append(rng.standard_normal((50_000, dim), dtype=np.float32))
    np.save(folder / "offsets.npy", np.arange(0, tokens + 1, 100))


@pytest.mark.slow
def test_sigkill_in_the_middle_of_a_build(tmp_path):
    write_vectors(tmp_path, 500_000, 8)
    killed = in_subprocess(tmp_path, "killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "index" / "segment-000001").is_dir()
    with pytest.raises(IndexMissingError):
        Index.open(tmp_path / "index")
    again = in_subprocess(tmp_path, "plain")
    assert again.returncode == 0, again.stderr
    Index.open(tmp_path / "index").verify()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds memory on Linux only")
def test_memory_is_bounded_by_the_chunk_not_by_the_collection(tmp_path):
    write_vectors(tmp_path, 2_000_000, 64)
    done = in_subprocess(tmp_path, "limited")
    assert done.returncode == 0, done.stderr[-3000:]
    index = Index.open(tmp_path / "index")
    assert index.n_tokens == 2_000_000
    assert len(index.segments) == 10
