"""The store that caches share: a stage is there whole or not at all, whoever dies, damages or computes it twice."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner

from colbert_research.artifacts import cache_root
from colbert_research.cache import NOTES, StageCache
from colbert_research.cli import main
from colbert_research.experiment import Workspace
from colbert_research.store import VARIABLE, Store, StoreError
from tests.experiment.small import make, write_folder
from tests.test_cache import left, write


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    yield Store(f"file://{tmp_path}/store" if request.param == "file" else "memory://stages/of/a/team")
    fsspec.filesystem("memory").rm("/", recursive=True)


@pytest.fixture
def caches(tmp_path, store):
    """Two machines' caches."""
    return [StageCache(tmp_path / name, store) for name in ("one", "two")]


def refused(folder: Path):
    pytest.fail("it is in the store, and was computed")


def in_store(store: Store) -> dict[str, bytes]:
    system, root = fsspec.core.url_to_fs(store.address)
    return {path.removeprefix(root.rstrip("/") + "/"): system.cat_file(path) for path in system.find(root)}


def change(store: Store, name: str, contents: bytes | None) -> None:
    system, root = fsspec.core.url_to_fs(store.address)
    if contents is None:
        system.rm_file(f"{root.rstrip('/')}/{name}")
    else:
        system.pipe_file(f"{root.rstrip('/')}/{name}", contents)


def test_what_one_computed_the_other_fetches(caches, caplog):
    caplog.set_level("INFO")
    one, two = caches
    made, hit = one.run("encode", "a1", write)
    assert not hit
    found, hit = two.run("encode", "a1", refused)
    assert hit
    assert found.path == two.root / "encode" / "a1"
    assert (found.notes, found.files) == (made.notes, made.files)
    found.verify()
    assert (found.path / "sub" / "y").read_text() == "678"
    assert f"encode/a1: fetched from {two.store.address}" in caplog.text
    assert left(one) == left(two) == []
    shutil.rmtree(found.path)
    assert two.run("encode", "a1", refused, resumes=True)[1], "where a stage could resume, too"
    assert two.find("encode", "b2") is None
    assert not two.run("encode", "b2", write)[1]


def test_afresh_is_not_fetched(caches):
    one, two = caches
    one.run("encode", "a1", write)
    assert not two.run("encode", "a1", lambda folder: {"seconds": 3}, fresh=True)[1]
    assert one.run("encode", "a1", refused, fresh=False)[0].files, "the first has its own still"
    shutil.rmtree(one.root)
    assert one.run("encode", "a1", refused)[0].notes == {"seconds": 3}, "the later one is in the store"


def test_a_publication_that_dies_leaves_nothing_to_find(caches, monkeypatch, caplog):
    """Whichever file it dies with, and the notes last."""
    one, two = caches
    system = fsspec.core.url_to_fs(one.store.address)[0]
    real, files = type(system).put_file, []
    for after in range(3):
        files.clear()

        def put_file(self, local, remote, after=after, **more):
            files.append(remote)
            if len(files) > after:
                raise ConnectionError("the network is down")
            return real(self, local, remote, **more)

        with monkeypatch.context() as patch:
            patch.setattr(type(system), "put_file", put_file)
            if after == 2:
                patch.setattr(type(system), "pipe_file", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("too late")))
            made, _ = one.run("encode", f"k{after}", write)
        made.verify()
        assert f"encode/k{after} is in {one.root}, but not in the store: {VARIABLE}=" in caplog.text
        assert not any(name.endswith(NOTES) for name in in_store(one.store))
        assert not two.run("encode", f"k{after}", write)[1]
        one.root.joinpath("encode", f"k{after}", "x").unlink()
        assert one.run("encode", f"k{after}", refused)[1], "what the other computed in its place"
        for name in in_store(one.store):
            change(one.store, name, None)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "notes", "half of the notes", "no notes", "deep notes"])
def test_a_damaged_one_is_computed_again_and_replaced(caches, damage, caplog):
    one, two = caches
    one.run("encode", "a1", write)
    (name,) = (name for name in in_store(one.store) if name.endswith("/x"))
    notes = in_store(one.store)[f"encode/a1/{NOTES}"]
    changed = json.dumps({**json.loads(notes), "seconds": 1}).encode()
    change(
        one.store,
        name if damage in ("flip", "cut", "gone") else f"encode/a1/{NOTES}",
        {
            "flip": b"12346",
            "cut": b"123",
            "gone": None,
            "notes": changed,
            "half of the notes": notes[:50],
            "no notes": b"[]",
            "deep notes": b"[" * 99_999,
        }[damage],
    )
    assert not two.run("encode", "a1", write)[1]
    assert "damaged" in caplog.text
    assert one.store.address in caplog.text
    assert "encode/a1" in caplog.text
    assert left(two) == []
    shutil.rmtree(one.root)
    assert one.run("encode", "a1", refused)[1], "the store has it whole again"


def test_two_that_differ_do_no_harm(caches):
    """Each of two machines computes what rounding makes its own, and a third finds one of both whole."""
    one, two = caches
    one.run("encode", "a1", lambda folder: (folder / "x").write_text("left") and {})
    StageCache(two.root).run("encode", "a1", lambda folder: (folder / "x").write_text("right") and {})
    two.store.publish("encode", "a1", two.path("encode", "a1"))
    third = StageCache(two.root.with_name("three"), two.store)
    assert (third.run("encode", "a1", refused)[0].path / "x").read_text() == "right"
    assert sum(name.endswith("/x") for name in in_store(one.store)) == 2, "who still reads the first can go on"


def test_the_same_is_copied_once(caches):
    one, two = caches
    made, _ = one.run("encode", "a1", write)
    assert not one.store.publish("encode", "a1", made.path)
    assert two.run("encode", "a1", refused)[0].files == made.files


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a\\..\\outside", ""])
def test_names_lead_nowhere_else(caches, name, caplog):
    one, two = caches
    one.run("encode", "a1", write)
    notes = json.loads(in_store(one.store)[f"encode/a1/{NOTES}"])
    notes["files"][name] = notes["files"].pop("x")
    change(one.store, f"encode/a1/{NOTES}", json.dumps(notes).encode())
    assert not two.run("encode", "a1", write)[1]
    assert "a file of a stage cannot be" in caplog.text
    assert not list(two.root.parent.rglob("outside"))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nowhere://bucket", "ValueError: Protocol not known: nowhere"),
        ("abfs://x/y", "ImportError: Install adlfs"),
        ("/mnt/team", "ValueError: it has no protocol; a folder is file:///mnt/team"),
    ],
)
def test_an_address_that_cannot_be_used(address, why, monkeypatch):
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(StoreError, match=rf"{VARIABLE}={address}: {why}.* or unset it to use this machine's cache alone"):
        StageCache.default()
    monkeypatch.setenv(VARIABLE, "")
    assert StageCache.default().store is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_store_that_may_not_be_read(tmp_path):
    (tmp_path / "store" / "encode").mkdir(parents=True)
    (tmp_path / "store" / "encode").chmod(0)
    with pytest.raises(StoreError, match="PermissionError"):
        StageCache(tmp_path / "one", Store(f"file://{tmp_path}/store")).run("encode", "a1", refused)


def test_a_store_that_cannot_be_asked_stops_before_anything_is_computed(caches, monkeypatch):
    one, _ = caches
    system = fsspec.core.url_to_fs(one.store.address)[0]
    monkeypatch.setattr(type(system), "cat_file", lambda *_, **__: (_ for _ in ()).throw(PermissionError("Forbidden")))
    with pytest.raises(StoreError, match="PermissionError: Forbidden; give an address of fsspec"):
        one.run("encode", "a1", refused)
    assert left(one) == []


def compute(address: str, root: Path, number: int) -> None:
    for key in range(12):
        made, _ = StageCache(root / str(number % 2), Store(address)).run("encode", f"k{key}", write)
        made.verify()


def test_four_processes_on_two_machines(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=compute, args=(f"file://{tmp_path}/store", tmp_path, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(list((tmp_path / "store" / "encode").glob(f"*/{NOTES}*"))) == 12, "and nothing half written"


def test_an_experiment_of_another_machine_is_not_computed_again(tmp_path, store):
    data = write_folder(tmp_path / "fruit")
    saved = []
    for name in ("one", "two"):
        workspace = Workspace(StageCache(tmp_path / name, store))
        experiment = make(workspace, data, output=tmp_path / "records" / name)
        experiment.run("rank")
        saved.append(experiment)
    assert set(saved[0].status()["state"]) == {"computed"}
    assert set(saved[1].status()["state"]) == {"cached"}
    assert saved[0].run("rank").files == saved[1].run("rank").files


def test_push_copies_what_was_computed_before(tmp_path, monkeypatch):
    cache = StageCache.default()
    for key in ("a1", "b2"):
        cache.run("encode", key, write)
    cache.run("rank", "c3", write)
    run = CliRunner().invoke
    told = run(main, ["cache", "push"])
    assert told.exit_code == 1
    assert f"no store to copy to; set {VARIABLE} to an address of fsspec" in told.output
    monkeypatch.setenv(VARIABLE, f"file://{tmp_path}/store")
    told = run(main, ["cache", "push", "encoded"])
    assert told.exit_code == 1
    assert f"no artifacts of kind 'encoded' in {cache_root()}; there are encode, rank" in told.output
    for kinds, said in ((["rank"], "1 artifacts copied"), ([], "2 artifacts copied"), ([], "0 artifacts copied")):
        told = run(main, ["cache", "push", *kinds])
        assert told.exit_code == 0
        assert said in told.output
    assert StageCache(tmp_path / "two", StageCache.default().store).run("encode", "b2", refused)[1]
