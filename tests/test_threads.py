"""One number of threads: where it comes from, whom it reaches, and that it is put back."""

import os
import re
import subprocess
import sys

import faiss
import numba
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from colbert_research import threads
from tests.conftest import same_in_a_forked_child


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv(threads.VARIABLE, raising=False)


def reached() -> set[int]:
    """The numbers of threads that the libraries would use."""
    pools = {pool["num_threads"] for pool in threadpool_info()}
    return pools | {torch.get_num_threads(), faiss.omp_get_max_threads(), numba.get_num_threads()}


def test_the_default_is_the_cpus_of_this_process():
    one_cpu = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    program = one_cpu + "from colbert_research import threads; print(threads.count(), threads.available())"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["1", "1"]
    assert threads.count() == threads.available() >= 1


def test_the_variable_overrides_the_default(monkeypatch):
    monkeypatch.setattr(threads, "available", lambda: 64)
    monkeypatch.setenv(threads.VARIABLE, "17")
    assert threads.count() == 17


@pytest.mark.parametrize("written", ["0", "-1", "many", "1.5", "65"])
def test_a_variable_that_is_no_number_of_threads(monkeypatch, written):
    monkeypatch.setattr(threads, "available", lambda: 64)
    monkeypatch.setenv(threads.VARIABLE, written)
    with pytest.raises(ValueError, match=f"COLBERT_RESEARCH_THREADS must be a whole number from 1 to 64.*{written}"):
        threads.count()


def of_mkl() -> str:
    """What torch's own MKL, which threadpoolctl does not know, is told; nothing where torch has none."""
    return "".join(re.findall(r"mkl_get_max_threads\(\) : \d+", torch.__config__.parallel_info()))


def test_the_products_of_torch_use_as_many_threads_as_before():
    """They round otherwise with another number: after a latency stage, an encoder gave other last bits."""
    before = of_mkl()
    with threads.pinned_threads(1):
        assert before == "" or of_mkl() == "mkl_get_max_threads() : 1"
    assert of_mkl() == before


def test_a_block_reaches_every_library_and_puts_the_numbers_back():
    before, default = reached(), threads.count()
    with threads.pinned_threads(1):
        assert reached() == {1}
        assert threads.count() == 1
    assert reached() == before
    assert threads.count() == default


def test_blocks_nest_and_an_error_puts_the_numbers_back(monkeypatch):
    before, most = reached(), threads.available()
    monkeypatch.setenv(threads.VARIABLE, "1")
    with pytest.raises(RuntimeError, match="within"), threads.pinned_threads(most):
        assert threads.count() == most, "a block is nearer than the variable"
        with threads.pinned_threads(1):
            assert reached() == {1}
        assert threads.count() == most
        assert torch.get_num_threads() == most
        raise RuntimeError("within")
    assert threads.count() == 1
    assert reached() == before


@pytest.mark.parametrize("n", [0, -2, 1.5, None, "two", 10_000])
def test_what_is_no_number_of_threads_changes_nothing(n):
    before = reached()
    with pytest.raises(ValueError, match="must be a whole number from 1 to"), threads.pinned_threads(n):
        pass
    assert reached() == before


@pytest.mark.parametrize("n", [0, -2, "two", 10_000])
def test_use_takes_no_other_number(n):
    before = reached()
    with pytest.raises(ValueError, match="must be a whole number from 1 to"):
        threads.use(n)
    assert reached() == before


def test_no_library_is_loaded_for_it():
    program = (
        "import sys; from colbert_research.threads import pinned_threads\n"
        "with pinned_threads(1): pass\n"
        "print(sorted({'torch', 'faiss', 'numba'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000"}, 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_quota_of_a_container(tmp_path, monkeypatch, files, expected):
    version_1 = any(name.startswith("cpu/") for name in files)
    (tmp_path / "cgroup").write_text("4:cpu,cpuacct:/\n1:name=systemd:/x\n" if version_1 else "0::/a/b\n")
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "fs")
    threads._quota.cache_clear()
    try:
        assert threads._quota() == expected
        assert threads.available() >= 1
        if expected < 1:
            assert threads.available() == threads.count() == 1
    finally:
        threads._quota.cache_clear()


@pytest.mark.parametrize(
    ("written", "expected"), [("1", 1), ("1,2", 1), ("", None), ("0", None), ("many", None), ("4096", None)]
)
def test_openmps_variable_is_heeded_where_ours_is_not_set(monkeypatch, written, expected):
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", written)
    assert threads.count() == (expected or threads.available())
    monkeypatch.setenv(threads.VARIABLE, str(threads.available()))
    assert threads.count() == threads.available()


@pytest.mark.parametrize("used", ["faiss", "torch"])
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_libraries_of_openmp_compute_after_a_fork(rng, used, pinned):
    """They waited for threads that a child does not have, forever."""
    vectors = rng.standard_normal((20_000, 64)).astype(np.float32)
    index = faiss.IndexFlatIP(64)
    index.add(vectors)

    def compute():
        with threads.pinned_threads(threads.available()) if pinned else threads.one_blas_thread():
            if used == "faiss":
                return index.search(vectors[:200], 5)[1]
            return (torch.from_numpy(vectors[:4000]) @ torch.from_numpy(vectors[:4000]).T).argmax(dim=1).numpy()

    assert same_in_a_forked_child(compute)
