"""The measurement of CUDA kernels, emulated: the lines that it writes and the table that reads them."""

import json

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from colbert_research.evaluation.gpu import compiled_kernels, gpu_records, plot_roofline, score_errors
from tests.conftest import random_ragged
from tests.kernels.conftest import build_folder, device, emulate, emulated  # noqa: F401


def call_once(calls):
    """A timer without a clock: every call is run, and takes two milliseconds."""
    for call in calls:
        call()
    return {"ms": 2.0, "eager_ms": 3.0, "host_us": 5.0}


@pytest.fixture
def gpu(scripts):
    return scripts("gpu")


def test_lines_of_every_kind_of_case(gpu, emulated, tmp_path):  # noqa: F811
    limits = gpu.machine(call_once, "cpu", 2**16)
    cases = [
        gpu.Case("one", 1, 5, 30, 7, dim=48),
        gpu.Case("some", 5, 4, 9, 8, kind="bfloat16", dim=64),
        gpu.Case("training", 3, 4, 2, 6, dim=64, train=True),
    ]
    with emulated():
        lines = [line for case in cases for line in gpu.measure(case, limits, call_once, "cpu")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [limits, *lines]))
    records = gpu_records(tmp_path)
    assert records["case"].tolist() == ["one", "some", "training"]
    assert records["engine"].tolist() == ["ours"] * 3
    assert records["bytes"].tolist() == [30 * 7 * 48 * 2, 9 * 8 * 64 * 2, 2 * 6 * 64 * 2]
    assert records["flop"].tolist() == [2 * 5 * 30 * 7 * 48, 2 * 5 * 4 * 9 * 8 * 64, 2 * 3 * 4 * 2 * 6 * 64]
    assert records["gb_s"].tolist() == pytest.approx([b / 2e-3 / 1e9 for b in records["bytes"]])
    assert records["tflop_s"].tolist() == pytest.approx([f / 2e-3 / 1e12 for f in records["flop"]])
    assert records["of_floor"].tolist() == pytest.approx([f / 2 for f in records["floor_ms"]])
    assert (records["error"] < 1e-5).all()  # scores below 5 of float32 sums of 64 numbers
    assert records["copy_gb_s"].tolist() == [2 * 2**16 / 2e-3 / 1e9] * 3
    assert plot_roofline(records).axes[0].get_legend()


def test_lines_of_searches(scripts, device, tmp_path):  # noqa: F811
    searches = scripts("gpu_search")
    limits = {"copy_gb_s": 100.0, "product_tflop_s": 1.0, "case": "machine", "gpu": "none", "date": "today"}
    codes = searches.Codes("codes", 1_000, 2, dim=32, document_tokens=12, query_tokens=5, centroids=20, k=7)
    index = searches.Strategies("index", 4_000, n_queries=3, dim=16, k=5, ndocs=20, n_exact=10, streamed_gb=1e-5)
    with device():
        lines = [line for search in (codes, index) for line in search.measure(limits, call_once, "cpu")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [limits, *lines]))
    records = gpu_records(tmp_path).set_index("engine")
    ours, strategies = records.loc["ours"], records.drop("ours")
    assert (ours["bytes"], ours["flop"], ours["documents"]) == (1_000 * 12, 2 * 5 * 1_000 * 32, 84)
    assert ours["tokens_s"] == 1_000 / 2e-3
    assert ours["same_scores"]
    assert ours["same_best"]
    assert strategies.index.tolist() == [
        "exhaustive",
        "plaid",
        "cuda_exhaustive",
        "cuda_exhaustive centroid_scores=float16",
        "cuda_plaid",
        "cuda_exhaustive memory_gb=1e-05",
    ]
    assert strategies.drop("cuda_exhaustive centroid_scores=float16")["same_ranking"].all()
    assert strategies["bytes"]["cuda_exhaustive"] == strategies["bytes"]["exhaustive"] > strategies["bytes"]["cuda_plaid"]


def test_the_goals_are_among_the_cases(gpu):
    assert {(c.queries, c.documents, c.tokens, c.train) for c in gpu.CASES} >= {
        (1, 100_000, 128, False),
        (1, 1_000, 128, False),
        (32, 100_000, 128, False),
        (64, 512, 180, True),
    }
    codes = [c for c in gpu.SEARCHES if hasattr(c, "bits")]
    assert {(c.tokens, c.bits, c.k) for c in codes} >= {(600_000_000, 2, 1000), (12_800_000, 2, 1000), (12_800_000, 4, 1000)}
    assert len(gpu.MEASUREMENTS) == len(gpu.CASES) + len(gpu.SEARCHES) + len(gpu.SELECTIONS), "no two have one name"


def test_command_line_errors(gpu):
    done = CliRunner().invoke(gpu.main, ["--case", "2 x 2"])
    assert done.exit_code == 1
    assert "there is no case '2 x 2'; valid: 1 x 100k x 128" in done.output
    if not torch.cuda.is_available():
        done = CliRunner().invoke(gpu.main, [])
        assert done.exit_code == 1
        assert "there is no CUDA device here; nothing was measured" in done.output


def test_no_records_and_bad_ones(tmp_path):
    assert gpu_records(tmp_path / "absent").equals(pd.DataFrame([]))
    (tmp_path / "b.jsonl").write_text('{"case": "one"}\n')
    with pytest.raises(ValueError, match=r"b\.jsonl must begin with a line of the case 'machine'; given 'one'"):
        gpu_records(tmp_path)


def test_what_the_compiler_says(build_folder, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(build_folder.parent))  # where tests/kernels compile the same
    pytest.importorskip("cuda.bindings", reason="NVRTC is not installed")
    table = compiled_kernels("sm_80")
    assert ("dense.cu", "maxsim<half, false>") in table.index
    assert (table[["stack", "spills"]] == 0).all(axis=None)
    assert table["registers"].between(16, 128).all()


def test_errors_of_backends(rng):
    table = score_errors(random_ragged(rng, [3, 5], 32), random_ragged(rng, [4, 0, 9], 32))
    assert {backend for _, backend in table.index} >= {"reference", "torch", "cpu"}
    exact = table.xs("reference", level="backend")
    assert (exact == 0).all(axis=None)
    # five maxima of 32 products below one, in float32
    assert (table["largest"] <= 2 * 5 * 32 * 2.0**-23).all()
