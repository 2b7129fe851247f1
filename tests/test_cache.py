"""The stage cache: artifacts are whole or absent, computed once, whoever asks, dies or damages them."""

import os
import time
from pathlib import Path

import pytest

from colbert_research.cache import NOTES, DamagedArtifactError, StageCache
from colbert_research.locks import LockedError


def write(folder: Path) -> dict[str, int]:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "x").write_text("12345")
    (folder / "sub" / "y").write_text("678")
    return {"seconds": 2}


@pytest.fixture
def cache(tmp_path) -> StageCache:
    return StageCache(tmp_path / "root")


def left(cache: StageCache) -> list[str]:
    """Whatever lies in the cache beside finished artifacts."""
    return sorted(str(p.relative_to(cache.root)) for p in cache.root.rglob(".*"))


def test_a_stage_is_computed_once(cache):
    calls = []
    results = [cache.run("encode", "a1", lambda folder: calls.append(1) or write(folder)) for _ in range(2)]
    (first, hit), (second, again) = results
    assert (len(calls), hit, again) == (1, False, True)
    assert first.path == second.path == cache.root / "encode" / "a1"
    assert first.notes == second.notes == {"seconds": 2}
    assert set(first.files) == {"x", "sub/y"}
    first.verify()
    assert left(cache) == []
    assert cache.find("index", "a1") is None


@pytest.mark.parametrize("crash", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("resumes", [False, True])
def test_a_crash_leaves_no_result(cache, crash, resumes):
    def dies(folder: Path):
        (folder / "part").write_text("half")
        (folder / ".part.tmp").write_text("quarter")
        raise crash

    with pytest.raises(crash):
        cache.run("encode", "a1", dies, resumes=resumes)
    assert cache.find("encode", "a1") is None
    assert left(cache) == (["encode/.a1.resumes", "encode/.a1.resumes/.part.tmp"] if resumes else [])
    seen = []
    _, hit = cache.run("encode", "a1", lambda f: seen.extend(sorted(os.listdir(f))) or {}, resumes=resumes)
    assert seen == (["part"] if resumes else [])
    assert not hit
    assert left(cache) == []


def test_a_resuming_stage_that_died_at_its_last_step(cache, monkeypatch):
    real = os.rename

    def refuse(a, b):
        if Path(b).name == "a1":
            raise OSError("disk full")
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(OSError, match="disk full"):
            cache.run("encode", "a1", write, resumes=True)
    found, hit = cache.run("encode", "a1", lambda folder: {"files_then": sorted(os.listdir(folder))}, resumes=True)
    assert not hit
    assert found.notes["files_then"] == ["sub", "x"]
    found.verify()


def test_notes_that_are_not_json_do_not_finish_a_stage(cache):
    with pytest.raises(TypeError):
        cache.run("encode", "a1", lambda _: {"x": object()})
    assert cache.find("encode", "a1") is None
    assert left(cache) == []


def damages(data: bytes) -> list[bytes | None]:
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    return [bytes(flipped), data[:-1], b"", bytes(len(data)), data + b"x", None]


def test_every_damage_is_found_named_and_mended(cache, caplog):
    found, _ = cache.run("encode", "a1", write)
    for file in (found.path / "x", found.path / "sub" / "y"):
        whole = file.read_bytes()
        for damage in damages(whole):
            file.unlink() if damage is None else file.write_bytes(damage)
            with pytest.raises(DamagedArtifactError, match=file.name):
                found.verify()
            if damage is None or len(damage) != len(whole):
                caplog.clear()
                assert cache.find("encode", "a1") is None
                assert f"damaged: {file}" in caplog.text
            else:
                cache.discard(found)
            found, hit = cache.run("encode", "a1", write)
            assert not hit
            assert file.read_bytes() == whole
            assert left(cache) == []


def test_damaged_notes_name_themselves_and_are_recomputed(cache, caplog):
    found, _ = cache.run("encode", "a1", write)
    file = found.path / NOTES
    whole = file.read_bytes()
    assert b'"seconds": 2' in whole
    wrong = [
        *(damage for damage in damages(whole) if damage != whole[:-1]),  # without its last line end it says the same
        whole[:-3],
        whole.replace(b'"seconds": 2', b'"seconds": 3'),
        b"[]",
        b"{}",
        b'{"files": 3}',
        b'{"files": {"x": {}}}',
        b'{"files": {"x": {"bytes": "a"}}}',
        b"\xff",
    ]
    for damage in wrong:
        file.unlink() if damage is None else file.write_bytes(damage)
        caplog.clear()
        assert cache.find("encode", "a1") is None
        assert str(file) in caplog.text
        assert cache.run("encode", "a1", write)[1] is False
        assert file.read_bytes() == whole


def test_the_folder_of_another_artifact_is_not_taken_for_this_one(cache, caplog):
    other, _ = cache.run("encode", "b2", write)
    (cache.root / "encode" / "a1").mkdir()
    for name in (*other.files, NOTES):
        (cache.root / "encode" / "a1" / name).parent.mkdir(exist_ok=True)
        (cache.root / "encode" / "a1" / name).write_bytes((other.path / name).read_bytes())
    assert cache.find("encode", "a1") is None
    assert "it is that of encode/b2" in caplog.text
    assert not cache.run("encode", "a1", write)[1]


def test_fresh_computes_again_and_replaces(cache):
    for resumes in (False, True):
        cache.run("encode", "a1", write, resumes=resumes)
        found, hit = cache.run("encode", "a1", lambda f: (f / "z").write_text("1") and {}, fresh=True, resumes=resumes)
        assert not hit
        assert set(found.files) == {"z"}
        assert sorted(os.listdir(found.path)) == [NOTES, "z"]
        assert left(cache) == []


def test_what_was_computed_again_the_same_stays_where_readers_have_it_open(cache):
    first, _ = cache.run("encode", "a1", write)
    before = (first.path / "x").stat()
    again, _ = cache.run("encode", "a1", lambda folder: write(folder) | {"seconds": 3}, fresh=True)
    assert again.notes == {"seconds": 3}
    assert (first.path / "x").stat() == before
    assert left(cache) == []


@pytest.mark.parametrize("place", ["dangling link", "file"])
def test_what_is_no_folder_is_replaced(cache, place):
    target = cache.path("encode", "a1")
    target.parent.mkdir(parents=True)
    target.symlink_to(cache.root / "nowhere") if place == "dangling link" else target.write_text("")
    assert cache.run("encode", "a1", write)[1] is False
    assert cache.run("encode", "a1", write)[1] is True
    assert left(cache) == []


def test_a_file_that_is_not_the_stages_own_is_damage(cache, caplog):
    found, _ = cache.run("encode", "a1", write)
    (found.path / "sub" / "more").write_text("0")
    assert cache.find("encode", "a1") is None
    assert f"{found.path / 'sub' / 'more'} is none of its files" in caplog.text
    cache.run("encode", "a1", write)
    assert not (found.path / "sub" / "more").exists()


def test_the_state_of_an_artifact_tells_whether_its_files_were_touched(cache):
    found, _ = cache.run("encode", "a1", write)
    before, times = found.state(), (found.path / "x").stat()
    assert before == found.state()
    (found.path / "x").write_text("54321")
    os.utime(found.path / "x", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert before != found.state()
    (found.path / "x").unlink()
    with pytest.raises(DamagedArtifactError, match="x"):
        found.state()


def test_an_artifact_that_was_replaced_is_not_discarded(cache):
    old, _ = cache.run("encode", "a1", write)
    cache.run("encode", "a1", lambda folder: write(folder) | {"seconds": 3}, fresh=True)
    cache.discard(old)
    assert cache.find("encode", "a1").notes == {"seconds": 3}


def test_the_next_writer_collects_what_dead_ones_left(cache, tmp_path):
    folder = cache.root / "index"
    folder.mkdir(parents=True)
    (folder / ".dead.partial").mkdir()
    (folder / ".dead.partial" / "big").write_text("1")
    (folder / ".gone.0123abcd.partial").mkdir()
    (folder / ".dead.lock").write_text("{}")
    (folder / ".later.resumes").mkdir()
    cache.run("index", "a1", write)
    assert left(cache) == ["index/.later.resumes"]


def test_what_nobody_took_up_for_a_month_is_collected(cache):
    folder = cache.root / "encode"
    for name, days in ((".old.resumes", 31), (".new.resumes", 29)):
        (folder / name).mkdir(parents=True)
        (folder / name / "part").write_text("1")
        for path in (folder / name / "part", folder / name):
            os.utime(path, (time.time() - days * 86_400,) * 2)
    cache.run("encode", "a1", write)
    assert left(cache) == ["encode/.new.resumes"]


def test_a_leftover_that_somebody_takes_up_meanwhile_is_no_error(cache, monkeypatch):
    (cache.root / "encode" / ".other.resumes").mkdir(parents=True)
    monkeypatch.setattr(Path, "iterdir", lambda self, real=Path.iterdir: iter([*real(self), self / "gone"]))
    cache.run("encode", "a1", write)
    assert left(cache) == ["encode/.other.resumes"]


def test_a_lock_that_was_removed_by_hand(cache):
    """Another process may then compute the same: what the first has is not put in place, and neither writes in the other's."""
    lock = cache.root / "index" / ".a1.lock"

    def compute(folder: Path):
        lock.unlink()
        (folder / "x").write_text("first")
        _, hit = StageCache(cache.root).run("index", "a1", write)
        assert not hit
        (folder / "x").write_text("first") if folder.is_dir() else None
        return {}

    with pytest.raises(LockedError, match=r"\.a1\.lock was removed while index a1 was computed"):
        cache.run("index", "a1", compute)
    cache.find("index", "a1").verify()
    assert left(cache) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read(cache):
    cache.run("index", "a1", write)
    (cache.root / "index" / ".a1.lock").write_text("{}")
    (cache.root / "index").chmod(0o500)
    try:
        assert cache.run("index", "a1", write)[1]
    finally:
        (cache.root / "index").chmod(0o700)


def test_a_lock_whose_holder_died_after_it_had_finished(cache):
    cache.run("index", "a1", write)
    (cache.root / "index" / ".a1.lock").write_text("{}")
    (cache.root / "index" / ".a1.partial").mkdir()
    (cache.root / "index" / ".a1.resumes").mkdir()
    assert cache.run("index", "a1", write)[1]
    assert left(cache) == []


def test_what_a_living_process_computes_is_not_collected(cache):
    def compute(folder: Path):
        cache.run("index", "b2", write)
        assert folder.is_dir()
        return write(folder)

    cache.run("index", "a1", compute)
    assert {p.name for p in (cache.root / "index").iterdir()} == {"a1", "b2"}
