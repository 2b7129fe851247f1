"""Changes of an index: what each gives, what is refused, generations and who keeps them, drift."""

import logging
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.index import CompactionPolicy, Index, IndexCorruptedError, IndexMissingError, build_index
from colbert_research.locks import LockedError
from colbert_research.ragged import Ragged
from colbert_research.search import Exhaustive
from tests.index.changing import CODEC, DIM, DOCUMENTS, first, more
from tests.index.conftest import bytes_of, edit_manifest
from tests.index.structures import LaterLengths, Lengths, Norms, Sums, built

FLOCK = pytest.mark.skipif(sys.platform == "win32", reason="no shared locks")


@pytest.fixture
def index(tmp_path) -> Index:
    return build_index(tmp_path / "i", *first(), CODEC)


def test_each_change_gives_the_next_generation_and_leaves_the_object(index):
    added = index.add(*more(20, 3))
    deleted = added.delete(["d3", "d21", "d3"])
    updated = deleted.update(*more(4, 2, version=1))
    assert [each.generation for each in (index, added, deleted, updated)] == [1, 2, 3, 4]
    assert [len(each) for each in (index, added, deleted, updated)] == [12, 15, 13, 13]
    assert index.document_ids == first()[0].document_ids
    assert updated.document_ids == tuple(f"d{i}" for i in (0, 1, 2, 6, 7, 8, 9, 10, 11, 20, 22, 4, 5))
    assert [d.text for d in updated.documents(["d4", "d20"])] == ["text 4 version 1", "text 20 version 0"]
    assert [d.text for d in deleted.documents(["d4"])] == ["text 4 version 0"]
    assert updated.n_positions == 17
    assert len(updated.ids_by_position) == 17
    with pytest.raises(KeyError, match=r"1 unknown document ids, such as \['d3'\]; the index has 13 documents"):
        updated.positions(["d3"])
    assert "2 segments, 2 deleted" in repr(deleted)


def test_a_change_is_made_to_the_newest_generation(index):
    index.add(*more(20, 2))
    assert len(index.add(*more(30, 2))) == DOCUMENTS + 4
    with pytest.raises(ValueError, match=r"1 of these 2 documents are in the index, such as \['d20'\]; use update"):
        index.add(*more(19, 2))


def test_what_is_refused(index):
    before = bytes_of(index.path)
    collection, vectors = more(20, 2)
    broken = np.where(np.arange(vectors.n_rows)[:, None] == vectors.offsets[1], np.nan, vectors.values)
    with pytest.raises(ValueError, match=r"2 of these 2 documents are in the index, such as \['d3', 'd4'\]; use update"):
        index.add(*more(3, 2))
    with pytest.raises(KeyError, match=r"1 of these 2 documents are not in the index, such as \['d12'\]; add them, or say"):
        index.update(*more(11, 2))
    with pytest.raises(KeyError, match="nowhere"):
        index.delete(["d1", "nowhere"])
    with pytest.raises(TypeError, match="given one string, 'd1'"):
        index.delete("d1")
    with pytest.raises(ValueError, match="have 8 dimensions and the index 16"):
        index.add(collection, vectors.map(lambda v: v[:, :8]))
    with pytest.raises(ValueError, match="'d21' has a token vector that is not finite"):
        index.add(collection, Ragged(broken, vectors.offsets))
    with pytest.raises(ValueError, match="2 documents, but token vectors of 1"):
        index.add(collection, vectors.slice(0, 1))
    with pytest.raises(TypeError, match="expected a Collection"):
        index.add(["a text"], vectors)
    with pytest.raises(ValueError, match="missing is 'error' or 'add'; given 'ignore'"):
        index.update(collection, vectors, missing="ignore")
    with pytest.raises(ValueError, match="keep is how many older generations stay"):
        index.delete(["d1"], keep=-1)
    with pytest.raises(ValueError, match="12 live documents, but token vectors of 2"):
        index.rebuild(vectors=vectors)
    assert bytes_of(index.path) == before, "what was begun is gone"


def test_nothing_to_do_makes_no_generation(index):
    nothing = Collection.from_texts([])
    empty = Ragged(np.empty((0, DIM), np.float32), np.zeros(1, np.int64))
    for same in (index.add(nothing, empty), index.update(nothing, empty), index.delete([]), index.compact()):
        assert same.generation == 1


def test_an_index_in_the_stage_cache_is_not_changed(index):
    (index.path.parent / "done.json").write_text("{}")
    with pytest.raises(PermissionError, match="is a finished artifact of the stage cache"):
        index.delete(["d1"])


def test_all_deleted_and_added_again(index):
    index = index.delete(index.document_ids)
    assert (len(index), index.n_tokens, index.document_ids) == (0, 0, ())
    query = more(50, 1)[1]
    assert not len(Exhaustive().search(index, query, 3).positions)
    index = index.compact()
    assert index.segments == ()
    assert not len(Exhaustive().search(index, query, 3).positions)
    with pytest.raises(ValueError, match="no live document has a token vector"):
        index.rebuild()
    index = index.add(*first())
    assert len(Exhaustive().search(index, query, 3).positions) == 3
    index.verify()


def test_structures_that_the_index_has_are_built_by_the_writer(index, caplog):
    index.structure(Sums())
    index.structure(Norms())
    built.clear()
    index = index.add(*more(20, 3))
    assert sorted(built) == [("lengths", "segment-000002"), ("sums", "segment-000002")]
    built.clear()
    assert len(index.structure(Lengths())) == 15
    assert len(Index.open(index.path).structure(Sums())) == 2
    assert built == []
    index = index.compact()
    assert sorted(built) == [("lengths", "segment-000003"), ("sums", "segment-000003")]
    index = index.rebuild(ResidualConfig(nbits=2, centroids=4))
    built.clear()
    assert len(index.structure(Norms())) == 4
    assert len(index.structure(Lengths())) == 15
    assert built == []
    index.verify()


def test_a_structure_of_a_generation_that_was_superseded(index):
    """Its segments are those of no manifest that is written to any more; what it lacks lies in the cache."""
    before = index.add(*more(20, 3))
    after = before.compact()
    assert np.array_equal(np.sort(before.structure(Lengths())), np.sort(after.structure(Lengths())))
    assert LaterLengths().name not in after.manifest["structures"]


def test_policy(index):
    policy = CompactionPolicy(max_segments=2)
    index = index.add(*more(20, 2), compaction=policy)
    assert len(index.segments) == 2
    index = index.add(*more(30, 2), compaction=policy)
    assert (len(index.segments), len(index)) == (1, 16)
    index = index.delete(["d1"], compaction=CompactionPolicy(max_deleted_share=0.1))
    assert len(index.contents.dead) == 1
    assert not len(index.delete(["d2"], compaction=CompactionPolicy(max_deleted_share=0.1)).contents.dead)


class TestGenerations:
    @FLOCK
    def test_a_generation_lives_as_long_as_somebody_reads_it(self, tmp_path):
        path = build_index(tmp_path / "i", *first(), CODEC).path
        same = Index.open(path)
        later = Index.open(path).add(*more(20, 2)).add(*more(30, 2))
        assert later.generations() == [1, 2, 3], "the second was read while the third was written"
        later = later.delete(["d0"])
        assert 1 in later.generations()
        same.verify()
        assert same.structure(Lengths()).sum() == same.n_tokens
        del same
        later = later.delete(["d1"])
        assert 1 not in later.generations()
        with pytest.raises(IndexMissingError, match=r"has no generation 1, or has it no longer; it has \["):
            Index.open(path, generation=1)

    def test_keep(self, index):
        path = index.path
        for i in range(4):
            index = index.delete([f"d{i}"], keep=2)
        del index
        assert Index.open(path).delete(["d5"], keep=2).generations()[-3:] == [4, 5, 6]
        assert [len(Index.open(path, generation=g)) for g in (4, 5)] == [9, 8]

    def test_versions_1_and_2_can_be_changed(self, index):
        for version in (1, 2):
            path = index.path.parent / f"v{version}"
            shutil.copytree(index.path, path)
            (path / "generation-000001.lock").unlink()
            edit_manifest(path, lambda m, v=version: (m.update(version=v), m.pop("errors"), v == 1 and m.pop("structures")))
            old = Index.open(path)
            assert old.drift() is None
            new = old.add(*more(20, 2)).delete(["d0"])
            assert len(new) == 13
            assert len(new.compact().structure(Lengths())) == 13
            new.verify()

    def test_a_copied_index_needs_no_lock_files(self, index):
        (index.path / "generation-000001.lock").unlink()
        assert len(Index.open(index.path).delete(["d0"])) == 11


class TestDrift:
    def test_it_is_measured_and_warned_of_once(self, tmp_path, rng, caplog):
        directions = rng.standard_normal((4, DIM))

        def near(start: int, n: int, spread: float):
            values = directions[rng.integers(0, 4, 20 * n)] + spread * rng.standard_normal((20 * n, DIM))
            values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
            ids = [f"d{i}" for i in range(start, start + n)]
            return Collection.from_texts(ids, ids=ids), Ragged(values, 20 * np.arange(n + 1))

        index = build_index(tmp_path / "i", *near(0, 100, 0.1), ResidualConfig(nbits=2, centroids=4))
        drift = index.drift()
        assert (drift.tokens, drift.added, drift.is_large) == (2000, 0, False)
        same = index.add(*near(100, 60, 0.1)).drift()
        assert same.added == 1200
        assert same.beyond < 0.03
        assert not same.is_large
        caplog.set_level(logging.WARNING, "colbert_research")
        far = index.add(*near(200, 60, 3.0))
        assert far.drift().is_large
        assert caplog.text.count("index.rebuild fits the codec anew") == 1
        assert far.add(*near(300, 1, 3.0)).compact().drift().added == 2420
        assert caplog.text.count("index.rebuild fits the codec anew") == 1
        assert not far.rebuild().drift().is_large

    def test_a_codec_without_centroids(self, tmp_path):
        index = build_index(tmp_path / "i", *first(), ExactConfig()).add(*more(20, 3))
        assert (index.drift().mean, index.drift().beyond) == (0, 0)


WRITES = 6 if os.environ.get("ALL_TRIALS") else 3


def read_on(path: str, ready, stop, results) -> None:
    """Open the index again and again; each time it must be whole, and documents of one batch are all there or none."""
    opened, wrong = 0, []
    while not stop.is_set():
        index = Index.open(path)
        ids = set(index.document_ids)
        for batch in range(WRITES):
            there = {f"d{100 * (1 + batch) + i}" in ids for i in range(5)}
            if len(there) != 1:
                wrong.append(f"generation {index.generation} has a part of batch {batch}")
        if sorted(d.id for d in index.documents(index.document_ids)) != sorted(ids):
            wrong.append("documents")
        if len(Exhaustive().search(index, more(50, 1)[1], 1000).positions) != len(ids):
            wrong.append("search")
        opened += 1
        ready.release()
    results.put((opened, wrong))


@pytest.mark.slow
@FLOCK
def test_one_writer_and_several_readers(index):
    context = multiprocessing.get_context("spawn")
    ready, stop, results = context.Semaphore(0), context.Event(), context.Queue()
    readers = [context.Process(target=read_on, args=(str(index.path), ready, stop, results)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        assert ready.acquire(timeout=120)
    for batch in range(WRITES):
        index = index.add(*more(100 * (1 + batch), 5), compaction=CompactionPolicy(max_segments=2))
        index = index.delete([f"d{100 * (1 + batch) + i}" for i in range(5)][:5] if batch % 2 else [f"d{batch}"])
    stop.set()
    found = [results.get(timeout=120) for _ in readers]
    for reader in readers:
        reader.join(timeout=60)
    assert all(opened > 0 for opened, _ in found)
    assert [wrong for _, wrong in found] == [[]] * len(found)


@FLOCK
def test_a_writer_that_is_waited_for_is_named_and_one_that_died_is_not(index, monkeypatch):
    from colbert_research.index.manifest import writing

    monkeypatch.setenv("COLBERT_RESEARCH_WAIT", "0.1")
    with writing(index.path), pytest.raises(LockedError, match=f"waited 0.1 s for process {os.getpid()} on"):
        index.delete(["d1"])
    child = os.fork()
    if child == 0:
        from colbert_research.locks import Lock

        Lock(index.path.parent / f".{index.path.name}.lock", "write").acquire()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert len(index.delete(["d1"])) == 11


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """Several generations, structures, deleted documents."""
    path = tmp_path_factory.mktemp("verify") / "i"
    index = build_index(path, *first(), CODEC)
    index.structure(Lengths())
    index.add(*more(14, 4)).delete(["d0", "d15"], keep=2)
    return path


def sampled(file: Path, data: bytes, number: int) -> set[int]:
    """One place, the last, and in offsets the last number's, by which the length of another file is judged."""
    return {(number * 7919) % max(1, len(data)), len(data) - 1} | ({len(data) - 8} if "offsets" in file.name else set())


class TestVerify:
    def test_every_flipped_byte_is_found_and_its_file_named(self, several):
        files = [file for file in sorted(several.rglob("*")) if file.is_file()]
        assert len(files) > 25
        Index.open(several).verify()
        for number, file in enumerate(files):
            data = file.read_bytes()
            places = range(len(data)) if os.environ.get("ALL_TRIALS") else sampled(file, data, number)
            for place in (place for place in places if data):
                changed = bytearray(data)
                changed[place] ^= 1 << (place % 8)
                file.write_bytes(changed)
                with pytest.raises(IndexCorruptedError) as caught:
                    Index.open(several).verify()
                assert file.name in str(caught.value)
            file.write_bytes(data)
        Index.open(several).verify()

    def test_a_manifest_that_claims_too_much_allocates_nothing(self, several, tmp_path):
        shutil.copytree(several, tmp_path / "i")
        for claimed in (10**9, 10**12):
            edit_manifest(tmp_path / "i", lambda m, n=claimed: claim(m, n))
            with pytest.raises(IndexCorruptedError):
                Index.open(tmp_path / "i")

    @pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", ".hidden", ""])
    def test_names_that_lead_elsewhere(self, several, tmp_path, name):
        for edit in (
            lambda m: m["segments"][0]["deleted"].update(name=name),
            lambda m: m.update(structures_folder=name),
            lambda m: m["structures"].update({str(name): m["structures"].popitem()[1]}),
            lambda m: [entry["parts"].update({str(name): {"source": "", "files": {}}}) for entry in m["structures"].values()],
        ):
            shutil.copytree(several, tmp_path / "i")
            edit_manifest(tmp_path / "i", edit)
            with pytest.raises(IndexCorruptedError) as caught:
                Index.open(tmp_path / "i")
            assert "manifest.json" in str(caught.value)
            shutil.rmtree(tmp_path / "i")


def claim(manifest, n: int) -> None:
    manifest["segments"][0]["n_documents"] += n
    manifest["n_documents"] += n
