"""The measurement of CUDA kernels, emulated: the lines that it writes and the table that reads them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from colbert_research.evaluation.gpu import compiled_kernels, gpu_records, plot_roofline, score_errors
from colbert_research.kernels.cuda import codes, select
from tests.conftest import random_ragged
from tests.kernels.conftest import Arena, build_folder, emulate, emulated  # noqa: F401


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


def test_a_line_of_codes(gpu, emulate, tmp_path):  # noqa: F811
    limits = gpu.machine(call_once, "cpu", 2**16)
    arena = Arena(emulate([*codes.KERNELS, *select.KERNELS]), None)
    cases = [gpu.CodesCase("two", 30, 7, 2, centroids=11), gpu.CodesCase("best", 9, 5, 4, best=3, centroids=11)]
    with arena:
        lines = [gpu.measure_codes(case, limits, call_once, "cpu") for case in cases]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [limits, *lines]))
    records = gpu_records(tmp_path)
    assert records["case"].tolist() == ["two", "best"]
    assert records["bytes"].tolist() == [30 * 7 * 38, 9 * 5 * 70]
    assert records["equal_to_cpu"].all()
    assert records["error"].between(0, np.inf, inclusive="neither").all()  # what whole numbers cost
    assert plot_roofline(records).axes[0].get_legend()


def test_the_goals_are_among_the_cases(gpu):
    assert {(c.queries, c.documents, c.tokens, c.train) for c in gpu.CASES} >= {
        (1, 100_000, 128, False),
        (1, 1_000, 128, False),
        (32, 100_000, 128, False),
        (64, 512, 180, True),
    }
    assert {(c.documents, c.tokens, c.bits, c.best) for c in gpu.CODES_CASES} >= {(100_000, 128, 2, 0), (100_000, 128, 4, 0)}
    assert any(c.documents * c.tokens > 590_000_000 and c.bits == 2 and c.best == 1000 for c in gpu.CODES_CASES)
    cases = (*gpu.CASES, *gpu.CODES_CASES)
    assert len({case.name for case in cases}) == len(cases)


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
    assert table["registers"].between(8, 128).all()


def test_errors_of_backends(rng):
    table = score_errors(random_ragged(rng, [3, 5], 32), random_ragged(rng, [4, 0, 9], 32))
    assert {backend for _, backend in table.index} >= {"reference", "torch", "cpu"}
    exact = table.xs("reference", level="backend")
    assert (exact == 0).all(axis=None)
    # five maxima of 32 products below one, in float32
    assert (table["largest"] <= 2 * 5 * 32 * 2.0**-23).all()
