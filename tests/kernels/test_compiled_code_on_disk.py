"""Compiled code that is kept on disk: found again, and compiled again where a file of it is damaged."""

import numba.core.caching
import numpy as np
import pytest

from colbert_research.kernels.cpu import compile as compiling
from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import load_i64, store_i64
from colbert_research.kernels.cpu.team import Job, in_team
from colbert_research.ragged import offsets_of


def twice(number):
    return 2 * number


def write_numbers(low, high, scratch, arguments):
    for i in range(low, high):
        store_i64(load_i64(arguments) + 8 * i, 3 * i)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "_FOLDER", str(tmp_path))
    return tmp_path


def files(folder):
    return sorted(path for path in folder.rglob("*.nb?") if path.is_file())


def run() -> tuple[int, float, int]:
    """A function of two signatures, compiled or found; and how many of them were found."""
    function = compiled(twice)
    found = function(21), function(0.5)
    return *found, sum(function.stats.cache_hits.values())


def test_it_is_found_again(folder):
    assert run() == (42, 1.0, 0)
    assert len(files(folder)) == 3  # an index, and the code of each signature
    assert run() == (42, 1.0, 2)


def test_every_checkout_of_these_sources_finds_it(folder, monkeypatch):
    """Numba looks in a folder that is named after where the sources lie; of functions from elsewhere each file has its own."""

    def kept(file: str, stamp: str) -> compiling.CheckedFiles:
        return compiling.CheckedFiles(
            str(folder / numba.core.caching._CacheLocator.get_suitable_cache_subpath(file)), "f", stamp
        )

    kept(compiling.__file__, "then").save("key", "code")
    monkeypatch.setattr(compiling, "__file__", str(folder / "other" / "compile.py"))
    assert kept(compiling.__file__, "now").load("key") == "code"
    assert kept(str(folder / "mine.py"), "now").load("key") is None


DAMAGES = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "a bit in the digest": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a bit in the middle": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :],
    "the last bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "somebody else's": lambda data: b"not ours, but long enough to hold a digest and more" * 3,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [1, 2], ids=["code", "index"])
def test_a_damaged_file_is_compiled_again(folder, damage, which):
    run()
    file = files(folder)[which]
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    number, half, hits = run()
    assert (number, half) == (42, 1.0)
    assert hits < 2
    assert run() == (42, 1.0, 2), "it was written again"


@pytest.mark.parametrize("which", [1, 2], ids=["code", "index"])
def test_a_folder_in_the_place_of_a_file(folder, which):
    """Numba would raise IsADirectoryError at the first call of a kernel, again and again."""
    run()
    file = files(folder)[which]
    file.unlink()
    (file / "within").mkdir(parents=True)
    assert run()[:2] == (42, 1.0)
    assert file.is_file()
    assert run() == (42, 1.0, 2)


def test_on_a_full_disk_it_is_compiled_and_not_kept(folder, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(numba.core.caching.os, "replace", full)
        assert run() == (42, 1.0, 0)
    assert "compiled code is not kept: [Errno 28] No space left on device" in caplog.text
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert run() == (42, 1.0, 0)
    assert run() == (42, 1.0, 2)


def test_two_processes_that_compile_at_once(folder, monkeypatch):
    """Neither sees what the other has begun to write; each would call its own code the first, and the later would be run."""
    first, second = (compiling.CheckedFiles(str(folder), "function", "stamp") for _ in range(2))
    save, begun = compiling.CheckedFiles._save_data, []

    def interrupted(self, name, data):
        if not begun:
            begun.append(name)
            with monkeypatch.context() as patch:
                patch.setattr(second, "_load_index", dict)
                second.save("other key", "code of the other")
        save(self, name, data)

    monkeypatch.setattr(compiling.CheckedFiles, "_save_data", interrupted)
    first.save("one key", "code of the one")
    assert first.load("one key") in ("code of the one", None)
    assert first.load("other key") in ("code of the other", None)


def test_a_file_that_somebody_deleted(folder):
    run()
    for file in files(folder):
        file.unlink()
        assert run()[:2] == (42, 1.0)


def test_nobody_elses_functions_are_kept_our_way(folder):
    before = numba.core.caching.IndexDataCacheFile
    run()
    assert numba.core.caching.IndexDataCacheFile is before is not compiling.CheckedFiles


@pytest.mark.parametrize("damage", [None, *DAMAGES])
def test_a_job_of_the_team(folder, damage):
    """Its function is compiled for a signature at once, another way through Numba."""
    for again in range(2):
        numbers = np.zeros(10, np.int64)
        in_team(Job(write_numbers), offsets_of([1] * 10), None, (numbers.ctypes.data,))
        assert numbers.tolist() == list(range(0, 30, 3))
        for file in files(folder) if damage and not again else ():
            file.write_bytes(DAMAGES[damage](file.read_bytes()))
