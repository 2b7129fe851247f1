"""A build of a structure that dies, at any step, leaves the old manifest or the new one; two at once build it once."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from colbert_research import artifacts
from colbert_research.index import Index, build_index, build_structure, structure_files
from colbert_research.index.build import BuildConfig
from tests.index.conftest import CODECS, bytes_of
from tests.index.structures import LaterLengths, Lengths, Norms, Sums
from tests.index.test_crash import PowerCut, crashing

STEPS = [
    *(
        (structure_files, name)
        for name in ("_commit", "_remove_leftovers", "_write", "checksums", "write_json", "atomic_folder")
    ),
    *((artifacts, name) for name in ("sync_tree", "sync_folder", "write_text")),
    (np, "save"),
    *((os, name) for name in ("rename", "replace")),
    (shutil, "rmtree"),
]
BUILD = BuildConfig(segment_tokens=150, chunk_tokens=80)


@pytest.fixture
def path(tmp_path, collection, vectors):
    return build_index(tmp_path / "i", collection, vectors, CODECS[1], build=BUILD).path


def crashes_of(work, check) -> int:
    """Run `work` again and again, cutting the power at each call of each step; `check` looks at what is left."""
    crashes = 0
    for module, step in STEPS:
        for when in ("before", "after"):
            call, finished = 0, False
            while not finished:
                call += 1
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(module, step, crashing(getattr(module, step), call, when))
                    try:
                        work()
                        finished = True
                    except PowerCut:
                        crashes += 1
                check(finished)
    return crashes


@pytest.mark.slow
@pytest.mark.parametrize("structure", [Sums(), Norms()], ids=lambda structure: structure.kind)
def test_in_the_index(path, vectors, structure):
    first = bytes_of(path)
    Index.open(path).structure(structure)
    whole, expected = bytes_of(path), repr(Index.open(path).structure(structure))

    def start_again():
        shutil.rmtree(path / "structures")
        (path / "manifest.json").write_bytes(first["manifest.json"])

    def check(finished):
        after = Index.open(path)
        after.verify()
        named = set(after.manifest["structures"])
        assert named <= {folder.name for folder in (path / "structures").glob("*")}
        if finished:
            assert bytes_of(path) == whole, "nothing is left of the builds that died"
            assert repr(after.structure(structure)) == expected
            start_again()

    start_again()
    assert crashes_of(lambda: Index.open(path).structure(structure), check) > len(STEPS)


@pytest.mark.slow
def test_while_later_code_takes_its_place(path, vectors):
    Index.open(path).structure(Lengths())
    before = bytes_of(path)

    def check(finished):
        after = Index.open(path)
        after.verify()
        if finished:
            assert len(after.manifest["structures"]) == 1
            shutil.rmtree(path)
            for name, data in before.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(data)

    assert crashes_of(lambda: Index.open(path).structure(LaterLengths()), check) > len(STEPS)


@pytest.mark.slow
def test_outside_the_index(path, tmp_path, vectors):
    before, folder = bytes_of(path), tmp_path / "outside"
    build_structure(Index.open(path), Lengths(), folder)
    whole = bytes_of(folder)
    shutil.rmtree(folder)

    def check(finished):
        assert bytes_of(path) == before
        if (folder / "structure.json").exists():
            opened = Index.open(path, structures={Lengths(): folder})
            opened.verify()
            assert np.array_equal(opened.structure(Lengths()), vectors.lengths)
        if finished:
            assert bytes_of(folder) == whole
            shutil.rmtree(folder)

    assert crashes_of(lambda: build_structure(Index.open(path), Lengths(), folder), check) > len(STEPS)


SCRIPT = """
import sys
import numpy as np
from colbert_research.index import Index
from tests.index.structures import Norms, Sums, built
index = Index.open(sys.argv[1])
sys.stdin.readline()
found = index.structure(Sums()), index.structure(Norms())
index.verify()
print(len(built), [sums.tolist() for sums in found[0]] == [segment.offsets.tolist() for segment in index.segments])
"""


@pytest.mark.slow
def test_two_processes_at_once(path):
    command = [sys.executable, "-c", SCRIPT, str(path)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate("go\n", timeout=120)[0].split() for process in running]
    parts = len(Index.open(path).segments)
    assert sum(int(n) for n, _ in outputs) == 2 * parts + 1, "each part was built by one of them"
    assert [right for _, right in outputs] == ["True", "True"]
    Index.open(path).verify()
