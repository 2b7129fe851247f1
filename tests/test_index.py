"""The index: built by streaming, committed by one rename, checked against its manifest."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research import artifacts
from colbert_research.artifacts import folder_bytes
from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.codecs.base import bytes_per_token
from colbert_research.data import Collection
from colbert_research.index import Index, IndexCorruptedError, IndexMissingError, build_index
from colbert_research.index import build as build_module
from colbert_research.index import segment as segment_module
from colbert_research.index.build import BuildConfig
from colbert_research.index.inverted import InvertedLists
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
STEPS = [
    *((build_module, name) for name in ("save_codec", "checksums", "write_segment", "sync_tree", "write_json")),
    *((segment_module, name) for name in ("write_documents", "_encode_chunks", "checksums")),
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
        part_of = {
            "documents.parquet": "documents",
            "codec.json": "codec",
            "state.safetensors": "codec",
            "offsets.npy": "other",
        }
        part_of |= dict.fromkeys((f"{name}.npy" for name in index.codec.layout), "codes")
        summed = dict.fromkeys(sizes, 0)
        for file in (tmp_path / "i").glob("*/*"):
            summed[part_of.get(file.name, "inverted")] += file.stat().st_size
        assert {name: size for name, size in sizes.items() if name != "total"} == {
            n: s for n, s in summed.items() if n != "total"
        }
        assert (sizes["inverted"] > 0) == (index.codec.centroids is not None)
        headers = 128 * len(index.codec.layout)
        assert sizes["codes"] == bytes_per_token(index.codec) * vectors.n_rows + headers

    def test_a_crash_at_any_step(self, tmp_path, collection, vectors, codec):
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
                                    step in {"write_json", "write_text", "replace"} and when == "after"
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


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=8), st.lists(st.integers(0, 5), max_size=4))
def test_inverted_lists_by_definition(documents, asked):
    ids = Ragged(np.array([c for d in documents for c in d], np.uint16), offsets_of([len(d) for d in documents]))
    lists = InvertedLists.build(ids, 6)
    expected = [[i for i, d in enumerate(documents) if c in d] for c in range(6)]
    assert [lists.documents[low:high].tolist() for low, high in zip(lists.offsets, lists.offsets[1:], strict=False)] == expected
    assert lists.documents_of(np.array(asked, np.int64)).tolist() == sorted({i for c in asked for i in expected[c]})


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.kind)
@pytest.mark.parametrize("lengths", [[0, 3, 0, 0, 5, 30, 0], [0, 0, 8], [8]], ids=str)
def test_documents_without_tokens(tmp_path, rng, codec, lengths):
    vectors = Ragged(rng.standard_normal((sum(lengths), 4)).astype(np.float32), offsets_of(lengths))
    build = BuildConfig(segment_tokens=4, chunk_tokens=3)
    index = build_index(tmp_path / "i", Collection.from_texts(["x"] * len(lengths)), vectors, codec, build=build)
    found = index.vectors_of(index.document_ids)
    assert found.lengths.tolist() == lengths
    assert np.array_equal(found.values, index.codec.decode(index.codec.encode(vectors.values)))
    assert [d.id for d in index.documents(index.document_ids)] == list(index.document_ids)


class TestReading:
    @pytest.fixture
    def index(self, tmp_path, collection, vectors) -> Index:
        return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=SEVERAL)

    def test_positions(self, index):
        assert index.positions(["d7", "d0", "d39", "d7"]).tolist() == [7, 0, 39, 7]
        assert index.positions([]).dtype == np.int64
        with pytest.raises(KeyError, match=r"2 unknown document ids, such as \['x', 'D0'\]; the index has 40"):
            index.positions(["d1", "x", "D0"])

    @pytest.mark.parametrize("positions", [[], [0], [39], [3, 9, 10, 38], list(range(N))], ids=len)
    def test_codes(self, index, vectors, positions):
        codes, offsets = index.codes_of(np.array(positions, np.int64))
        chosen = vectors.take(positions)
        assert offsets.tolist() == chosen.offsets.tolist()
        for name, expected in index.codec.encode(chosen.values).items():
            assert codes[name].dtype == expected.dtype
            assert np.array_equal(codes[name], expected)
        some, _ = index.codes_of(np.array(positions, np.int64), names=["centroid_ids"])
        assert list(some) == ["centroid_ids"]

    def test_documents_and_vectors_of_none(self, index):
        assert index.documents([]) == []
        assert index.vectors_of([]).values.shape == (0, DIM)

    def test_documents_are_what_was_given(self, index, collection):
        wanted = [f"d{i}" for i in np.random.default_rng(3).permutation(N)] + ["d5", "d5"]
        for document in index.documents(wanted):
            i = int(document.id[1:])
            assert document == build_module.document_at(collection, i)
        assert [d.id for d in index.documents(wanted)] == wanted

    def test_unknown_ids(self, index):
        for read in (index.documents, index.vectors_of):
            with pytest.raises(KeyError, match="nowhere"):
                read(["d1", "nowhere"])


def test_row_groups_of_the_document_store(tmp_path):
    from colbert_research.index.documents import FILE, Document, DocumentStore, write_documents

    documents = [Document(str(i), f"t{i}", f"text {i}", {"i": i, "ü": [1]}) for i in range(23)]
    write_documents(tmp_path, iter(documents), rows_a_group=5)
    store = DocumentStore(tmp_path / FILE)
    assert store.ids == tuple(str(i) for i in range(23))
    for wanted in ([], [22], [4, 5, 0, 22, 5], list(range(23))[::-1]):
        assert store.read(wanted) == [documents[i] for i in wanted]


def test_files_of_somebody_else_are_never_deleted(tmp_path, collection, vectors):
    (tmp_path / "i" / "segment-000001").mkdir(parents=True)
    (tmp_path / "i" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match=r"holds other files, such as \['thesis.tex'\]; choose a new folder"):
        build_index(tmp_path / "i", collection, vectors, CODECS[0])
    assert (tmp_path / "i" / "thesis.tex").read_text() == "x"
    assert (tmp_path / "i" / "segment-000001").is_dir()


@pytest.mark.parametrize("row", [0, 24, 25, 100, -1])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_vector_that_is_not_finite_is_named(tmp_path, collection, vectors, row, value):
    broken = vectors.values.copy()
    broken[row, 5] = value
    document = int(np.searchsorted(np.cumsum(vectors.lengths), row % len(broken), side="right"))
    with pytest.raises(ValueError, match=f"'d{document}' has a token vector that is not finite"):
        build_index(tmp_path / "i", collection, Ragged(broken, vectors.offsets), CODECS[0], build=SEVERAL)
    with pytest.raises(IndexMissingError):
        Index.open(tmp_path / "i")


def test_no_vectors_at_all(tmp_path):
    empty = Ragged(np.zeros((0, 4), np.float32), offsets_of([0, 0]))
    with pytest.raises(ValueError, match="no token vectors; an index needs at least one"):
        build_index(tmp_path / "i", Collection.from_texts(["a", "b"]), empty, CODECS[0])


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

    @pytest.mark.parametrize("text", ["[]", "{}", '{"format": "colbert_research index", "version": 1}'])
    def test_a_manifest_of_something_else(self, path, text):
        (path / "manifest.json").write_text(text)
        with pytest.raises(IndexCorruptedError, match="does not describe"):
            Index.open(path)

    def test_a_newer_format(self, path):
        manifest = path / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
        with pytest.raises(IndexCorruptedError, match="update colbert_research"):
            Index.open(path)

    @pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
    def test_any_file(self, path, damage):
        for file in sorted(path.glob("*/*")):
            data = file.read_bytes()
            changed = bytearray(data)
            changed[len(data) // 2] ^= 1
            if damage == "flip":
                index = Index.open(path)
                file.write_bytes(changed)
            elif damage == "cut":
                file.write_bytes(data[:-1])
            else:
                file.unlink()
            with pytest.raises(IndexCorruptedError, match=re.escape(str(file))):
                (index.verify if damage == "flip" else lambda: Index.open(path))()
            file.write_bytes(data)
        Index.open(path).verify()

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "is not JSON"), ('{"format": "something"}', "does not describe"), ("", "is not JSON")]
    )
    def test_a_manifest_that_is_none(self, path, text, message):
        (path / "manifest.json").write_text(text)
        with pytest.raises(IndexCorruptedError, match=message):
            Index.open(path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(IndexMissingError, match=r"no finished index in .*nowhere"):
            Index.open(tmp_path / "nowhere")

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
