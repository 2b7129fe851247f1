"""A change that dies at any operation on files, or that the disk refuses, leaves the generation before it or the next."""

import errno
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from colbert_research.artifacts import read_json
from colbert_research.codecs import ResidualConfig
from colbert_research.index import Index, IndexMissingError, build_index
from colbert_research.index.generations import lock_file
from colbert_research.index.manifest import files_of_generation, manifest_file, read_manifest, structures_of
from tests.index.changing import CODEC, DOCUMENTS, first, more
from tests.index.injection import Disk, killed_at, refused_at, watched
from tests.index.structures import Lengths, Norms

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork, and signals of POSIX")
ALL = bool(os.environ.get("ALL_TRIALS"))
OTHERS = more(30, 4)
CHANGES = {
    "build": lambda path: build_index(path, *first(), CODEC),
    "add": lambda path: Index.open(path).add(*more(20, 5)),
    "delete": lambda path: Index.open(path).delete(["d1", "d8"]),
    "update": lambda path: Index.open(path).update(*more(2, 3)),
    "compact": lambda path: Index.open(path).compact(),
    "rebuild": lambda path: Index.open(path).rebuild(ResidualConfig(nbits=2, centroids=4)),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """An index with two segments, deleted documents, structures and an older generation."""
    path = tmp_path_factory.mktemp("base") / "i"
    index = build_index(path, *first(), CODEC)
    index.structure(Lengths())
    index.structure(Norms())
    index.add(*more(14, 4)).delete(["d0", "d15"], keep=1)
    return path


def start(base: Path, path: Path, change: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if change != "build":
        shutil.copytree(base, path)


def states(base: Path, folder: Path, change: str) -> list[tuple[str, ...]]:
    """The documents before and after."""
    start(base, folder, change)
    before = () if change == "build" else Index.open(folder).document_ids
    return [before, CHANGES[change](folder).document_ids]


def named(path: Path) -> set[str]:
    """The files that an index's folder should hold."""
    found = {"manifest.json"}
    for generation in Index.open(path).generations():
        manifest = read_manifest(path, generation)
        found.add(lock_file(path, generation).name)
        if generation != read_manifest(path)["generation"]:
            found.add(manifest_file(path, generation).name)
        found |= {file.relative_to(path).as_posix() for file, _ in files_of_generation(path, manifest)}
        for name, entry in manifest["structures"].items():
            for part, known in entry["parts"].items():
                found |= {f"{structures_of(manifest)}/{name}/{part}/{file}" for file in known["files"]}
    return found


def check(path: Path, change: str, before: tuple[str, ...], after: tuple[str, ...], *, done: bool = False) -> None:
    """The index is whole, before or after the change, and the next writer leaves nothing but what is named."""
    if change == "build" and not (path / "manifest.json").exists():
        with pytest.raises(IndexMissingError):
            Index.open(path)
        assert not done
        assert build_index(path, *first(), CODEC).document_ids == after
    index = Index.open(path)
    assert index.document_ids in ([after] if done else [before, after])
    index.verify()
    assert len(index.documents(index.document_ids)) == len(index)
    later = index.add(*OTHERS)
    assert later.document_ids == index.document_ids + OTHERS[0].document_ids
    del index
    later = later.delete(["d30"])
    assert {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} == named(path)
    assert os.listdir(path.parent) == [path.name], "no lock is left"
    later.verify()
    assert np.array_equal(later.structure(Lengths()).sum(), later.n_tokens + dead_tokens(later))


def dead_tokens(index: Index) -> int:
    return sum(part["deleted"]["n_tokens"] for part in index.manifest["segments"] if "deleted" in part)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_any_operation(base, tmp_path, change):
    """SIGKILL before each operation in turn; what was not flushed by then is lost."""
    path = tmp_path / "parent" / "i"
    path.parent.mkdir()
    before, after = states(base, path, change)
    point = total = killed = 0
    while True:
        point += 1 if ALL else 1 + max(12, total // 5) * bool(point)
        start(base, path, change)
        if not killed_at(point, lambda: CHANGES[change](path), path.parent):
            break
        killed += 1
        check(path, change, before, after)
    check(path, change, before, after, done=True)
    assert killed > (20 if ALL else 1)
    logging.getLogger("tests").info("%s: killed at %d points", change, killed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=lambda n: errno.errorcode[n])
@pytest.mark.parametrize("change", CHANGES)
def test_refused_at_any_operation(base, tmp_path, change, number):
    path = tmp_path / "parent" / "i"
    path.parent.mkdir()
    before, after = states(base, path, change)
    point = 0
    while True:
        point += 1 if ALL else 7 + number
        start(base, path, change)
        reached, error = refused_at(point, number, lambda: CHANGES[change](path), path.parent)
        if error is not None:
            assert error.errno == number
        check(path, change, before, after, done=error is None)
        if not reached:
            break


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_named_before_it_is_on_the_disk(base, tmp_path, change):
    """When a manifest is renamed into place, every file that it names was flushed, and so were the folders; nothing is deleted
    before the manifest that no longer names it is."""
    path = tmp_path / "i"
    start(base, path, change)
    disk, commits = Disk(tmp_path), []

    def watcher(event, arguments):
        if event == "os.rename" and Path(arguments[1]) == path / "manifest.json":
            for name in named_by(Path(arguments[0]), path):
                assert name.stat().st_ino in disk.flushed, name
                assert name.parent.stat().st_ino not in disk.dirty, name.parent
                assert name.parent.parent.stat().st_ino not in disk.dirty, name.parent.parent
            assert Path(arguments[0]).stat().st_ino in disk.flushed
            commits.append(True)
        if event in ("os.remove", "os.rmdir") and commits and arguments[1] in (-1, None):
            assert path.stat().st_ino not in disk.dirty or Path(arguments[0]).name.startswith(("manifest-", "generation-", "."))
        disk(event, arguments)
        if event in ("os.remove", "os.rmdir"):
            disk.dirty.discard(path.stat().st_ino)

    with watched(watcher, tmp_path):
        CHANGES[change](path)
    assert len(commits) == 1


def named_by(manifest: Path, path: Path) -> list[Path]:
    found = read_json(manifest)
    files = [file for file, _ in files_of_generation(path, found)]
    for name, entry in found["structures"].items():
        for part, known in entry["parts"].items():
            files += [path / structures_of(found) / name / part / file for file in known["files"]]
    return files


@pytest.mark.parametrize("limit", [0, 100, 700])
def test_a_write_that_fails_half_way(base, tmp_path, limit):
    """A file may not grow beyond a limit, as on a full disk: an error, and the index as it was."""
    import resource
    import signal

    path = tmp_path / "i"
    shutil.copytree(base, path)
    before, child = Index.open(path).document_ids, os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            CHANGES["add"](path)
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG else 4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    index = Index.open(path)
    assert index.document_ids == before
    index.verify()
    assert len(index.add(*more(20, 5))) == len(before) + 5
    assert DOCUMENTS > 0
