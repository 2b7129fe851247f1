"""The index: built by streaming, committed by one rename, checked against its manifest."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from colbert_research.artifacts import folder_bytes
from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.codecs.base import bytes_per_token
from colbert_research.data import Collection
from colbert_research.index import Index, IndexCorruptedError, IndexMissingError, build_index
from colbert_research.index import build as build_module
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of

N, DIM = 40, 16
SEVERAL = BuildConfig(segment_tokens=60, chunk_tokens=25)


@pytest.fixture
def collection() -> Collection:
    metadata = [{"number": i, "name": "Łódź"} for i in range(N)]
    return Collection.from_texts([f"text {i} é" for i in range(N)], ids=[f"d{i}" for i in range(N)], metadata=metadata)


@pytest.fixture
def vectors(rng) -> Ragged:
    lengths = rng.integers(1, 12, N)
    values = rng.standard_normal((lengths.sum(), DIM)).astype(np.float32)
    return Ragged(values / np.linalg.norm(values, axis=1, keepdims=True), offsets_of(lengths))


CODECS = [ExactConfig(), ResidualConfig(nbits=4, centroids=8)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.kind)
class TestBuild:
    def test_it_holds_what_was_given(self, tmp_path, collection, vectors, codec):
        index = build_index(tmp_path / "i", collection, vectors, codec, seed=1, build=SEVERAL)
        index.verify()
        assert index.document_ids == collection.document_ids
        assert (index.n_documents, index.n_tokens, index.dim) == (N, vectors.n_rows, DIM)
        assert len(index.segments) > 2
        wanted = ["d39", "d0", "d7", "d7"]
        assert [(d.id, d.text, d.metadata["number"]) for d in index.documents(wanted)] == [
            (i, f"text {i[1:]} é", int(i[1:])) for i in wanted
        ]
        expected = index.codec.decode(index.codec.encode(vectors.values))
        assert np.array_equal(index.vectors_of(index.document_ids).values, expected)
        some = index.vectors_of(wanted)
        for place, document in enumerate(wanted):
            low, high = vectors.offsets[int(document[1:])], vectors.offsets[int(document[1:]) + 1]
            assert np.array_equal(some[place], expected[low:high])

    def test_segments_change_no_code(self, tmp_path, collection, vectors, codec):
        one = build_index(tmp_path / "one", collection, vectors, codec, seed=1)
        several = build_index(tmp_path / "several", collection, vectors, codec, seed=1, build=SEVERAL)
        assert len(one.segments) == 1
        everything = np.arange(N)
        for name in one.codec.layout:
            assert np.array_equal(one.codes_of(everything)[0][name], several.codes_of(everything)[0][name])

    def test_the_same_inputs_give_the_same_bytes(self, tmp_path, collection, vectors, codec):
        for name in "ab":
            build_index(tmp_path / name, collection, vectors, codec, seed=1, build=SEVERAL)
        assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")

    def test_bytes_are_stated(self, tmp_path, collection, vectors, codec):
        index = build_index(tmp_path / "i", collection, vectors, codec)
        sizes = index.nbytes()
        assert sizes["total"] == folder_bytes(tmp_path / "i") - (tmp_path / "i" / "manifest.json").stat().st_size
        headers = 128 * len(index.codec.layout)
        assert sizes["codes"] == bytes_per_token(index.codec) * vectors.n_rows + headers

    @pytest.mark.parametrize("step", ["save_codec", "write_segment", "sync_tree", "write_json"])
    def test_a_crash_leaves_no_index_and_the_next_build_succeeds(self, tmp_path, collection, vectors, codec, step, monkeypatch):
        whole = build_index(tmp_path / "whole", collection, vectors, codec, seed=1, build=SEVERAL)
        calls = []

        def crash(*args, **kwargs):
            calls.append(step)
            if len(calls) == (2 if step == "write_segment" else 1):
                raise OSError("the power went out")
            return original(*args, **kwargs)

        original = getattr(build_module, step)
        monkeypatch.setattr(build_module, step, crash)
        with pytest.raises(OSError, match="power"):
            build_index(tmp_path / "i", collection, vectors, codec, seed=1, build=SEVERAL)
        with pytest.raises(IndexMissingError, match="no finished index"):
            Index.open(tmp_path / "i")
        monkeypatch.setattr(build_module, step, original)
        build_index(tmp_path / "i", collection, vectors, codec, seed=1, build=SEVERAL).verify()
        assert bytes_of(tmp_path / "i") == bytes_of(whole.path)


def test_inverted_lists(tmp_path, collection, vectors):
    index = build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)
    for start, segment in zip(index.starts, index.segments, strict=False):
        ids = Ragged(segment.codes["centroid_ids"], segment.offsets)
        for centroid in range(8):
            expected = [d for d in range(len(segment)) if centroid in ids[d]]
            assert segment.inverted.documents_of(np.array([centroid])).tolist() == expected
        both = segment.inverted.documents_of(np.array([1, 5]))
        assert both.tolist() == [d for d in range(len(segment)) if {1, 5} & set(ids[d].tolist())]
        assert start >= 0


def test_bad_input(tmp_path, collection, vectors):
    build_index(tmp_path / "i", collection, vectors, CODECS[0])
    with pytest.raises(FileExistsError, match="holds an index"):
        build_index(tmp_path / "i", collection, vectors, CODECS[0])
    with pytest.raises(ValueError, match="40 documents, but token vectors of 39"):
        build_index(tmp_path / "j", collection, vectors.slice(0, 39), CODECS[0])
    broken = vectors.values.copy()
    broken[vectors.offsets[7], 3] = np.inf
    with pytest.raises(ValueError, match="'d7' has a token vector that is not finite"):
        build_index(tmp_path / "k", collection, Ragged(broken, vectors.offsets), CODECS[0])
    with pytest.raises(KeyError, match="nowhere"):
        Index.open(tmp_path / "i").documents(["d1", "nowhere"])


class TestDamage:
    @pytest.fixture
    def path(self, tmp_path, collection, vectors) -> Path:
        return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL).path

    def test_one_flipped_bit(self, path):
        file = path / "segment-000002" / "residuals.npy"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(IndexCorruptedError, match=r"segment-000002.residuals\.npy"):
            Index.open(path).verify()

    def test_a_short_file(self, path):
        file = path / "segment-000001" / "centroid_ids.npy"
        file.write_bytes(file.read_bytes()[:-2])
        with pytest.raises(IndexCorruptedError, match=r"centroid_ids\.npy has \d+ bytes, the manifest says"):
            Index.open(path)

    def test_a_missing_file(self, path):
        (path / "codec" / "state.safetensors").unlink()
        with pytest.raises(IndexCorruptedError, match=r"state\.safetensors is missing"):
            Index.open(path)

    def test_a_newer_format(self, path):
        manifest = path / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
        with pytest.raises(IndexCorruptedError, match="update colbert_research"):
            Index.open(path)

    def test_a_reader_keeps_what_it_opened(self, path):
        index = Index.open(path)
        before = index.vectors_of(["d3"]).values.copy()
        os.rename(path / "manifest.json", path / "gone.json")
        assert np.array_equal(index.vectors_of(["d3"]).values, before)


SCRIPT = """
import os, resource, signal, sys
import numpy as np
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research import kernels
from colbert_research.index import build_index, build as build_module
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
    original, calls = build_module.write_segment, []
    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    build_module.write_segment = killed
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
