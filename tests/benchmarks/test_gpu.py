"""The measurement of CUDA kernels, emulated: the lines that it writes and the table that reads them."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from colbert_research.evaluation.gpu import compiled_kernels, gpu_records, plot_roofline, score_errors
from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import arrays, codes, topk
from colbert_research.kernels.cuda.launch import gpu_is_here
from tests.conftest import random_ragged
from tests.kernels.conftest import device, emulate, emulated  # noqa: F401


def call_once(calls, *, waits=False):
    """A timer without a clock: every call is run, and takes two milliseconds. Where a graph would be captured, it is run once
    more, and may then copy nothing between the processor's memory and the device's: a graph could not."""
    for call in calls:
        call()
    with pytest.MonkeyPatch.context() as patch:
        for module in [] if waits else (arrays, codes, cuda_backend, topk):
            for name in {"upload", "to_numpy"} & set(vars(module)):
                patch.setattr(module, name, lambda *_, name=name: pytest.fail(f"{name} while a graph is captured"))
        for call in calls:
            call()
    return {"ms": 2.0, "eager_ms": 3.0, "host_us": 5.0, "timed": "graph"}


@pytest.fixture
def gpu(scripts):
    return scripts("gpu")


@pytest.mark.slow
def test_lines_of_every_kind_of_case(gpu, emulated, tmp_path):  # noqa: F811
    limits = gpu.machine(call_once, "cpu", 2**16)
    cases = [
        gpu.Case("one", 1, 5, 30, 7, dim=48),
        gpu.Case("some", 5, 4, 9, 8, kind="bfloat16", dim=64),
        gpu.Case("training", 3, 4, 2, 6, dim=64, train=True),
        gpu.Case("one, ragged", 1, 5, 30, 7, dim=48, ragged=True),
        gpu.Case("training, ragged", 3, 4, 3, 6, dim=64, train=True, ragged=True),
    ]
    with emulated():
        lines = [line for case in cases for line in gpu.measure(case, limits, call_once, "cpu")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [limits, *lines]))
    records = gpu_records(tmp_path)
    assert records["case"].tolist() == ["one", "some", "training", "one, ragged", "training, ragged"]
    assert records["engine"].tolist() == ["ours"] * 5
    assert records["ragged"].tolist() == [False] * 3 + [True] * 2
    assert records["timed"].tolist() == ["graph"] * 5
    sizes = [30 * 7 * 48, 9 * 8 * 64, 2 * 6 * 64, 30 * 7 * 48, 3 * 6 * 64]
    assert records["bytes"].tolist() == [2 * size for size in sizes]
    assert records["flop"].tolist() == [2 * q * size for q, size in zip((5, 20, 12, 5, 12), sizes, strict=True)]
    assert records["gb_s"].tolist() == pytest.approx([b / 2e-3 / 1e9 for b in records["bytes"]])
    assert records["tflop_s"].tolist() == pytest.approx([f / 2e-3 / 1e12 for f in records["flop"]])
    assert records["of_floor"].tolist() == pytest.approx([f / 2 for f in records["floor_ms"]])
    assert (records["error"] < 1e-5).all()  # scores below 5 of float32 sums of 64 numbers
    assert records["copy_gb_s"].tolist() == [2 * 2**16 / 2e-3 / 1e9] * 5
    assert plot_roofline(records).axes[0].get_legend()


@pytest.mark.parametrize(("documents", "tokens"), [(1000, 128), (7, 1), (1, 30), (64, 180)])
def test_ragged_documents_have_as_many_tokens(gpu, documents, tokens):
    equal, ragged = (gpu.Case("a", 1, 32, documents, tokens, ragged=ragged) for ragged in (False, True))
    assert equal.lengths.tolist() == [tokens] * documents
    assert ragged.lengths.sum() == equal.lengths.sum() == documents * tokens
    assert len(ragged.lengths) == documents
    assert ragged.lengths.min() >= 1
    assert ragged.lengths.max() < 2 * tokens
    if documents >= 64:
        assert ragged.lengths.std() > tokens / 2  # of a uniform one, 0.58 of the mean
    assert (ragged.bytes, ragged.flop) == (equal.bytes, equal.flop)


def test_every_case_is_measured_ragged_too(gpu):
    twins = [(replace(case, name="", ragged=False), case.ragged) for case in gpu.CASES]
    assert len(set(twins)) == len(gpu.CASES) == 2 * len({case for case, _ in twins})


def test_a_case_that_fails_leaves_a_line_and_the_others(gpu, tmp_path, capsys):
    def half(limits, timer, place):
        yield {"case": "half", "engine": "ours", "flop": 2, "bytes": 1, "tflop_s": 3}
        raise RuntimeError("out of memory\nand more")

    def whole(limits, timer, place):
        assert [json.loads(line)["case"] for line in output.read_text().splitlines()] == ["machine", "half", "half"]
        yield {"case": "whole", "engine": "ours", "flop": 2, "bytes": 1, "tflop_s": 3}

    limits = {"case": "machine", "gpu": "none", "date": "today", "copy_gb_s": 1.0, "product_tflop_s": 2.0}
    output = tmp_path / "a.jsonl"
    assert gpu.write_lines(output, limits, {"half": half, "whole": whole}, call_once, "cpu") == ["half"]
    assert capsys.readouterr().out == output.read_text()
    records = gpu_records(tmp_path)
    assert records["case"].tolist() == ["half", "half", "whole"]
    assert records["failed"].tolist()[1] == "RuntimeError: out of memory\nand more"
    assert records["failed"].isna().tolist() == [True, False, True]
    assert len(plot_roofline(records).axes[0].texts) == 2
    assert not plot_roofline(records.iloc[1:2][["gpu", "date", "case", "failed"]]).axes[0].texts


@pytest.mark.slow
def test_lines_of_searches(scripts, device, tmp_path):  # noqa: F811
    searches = scripts("gpu_search")
    limits = {"copy_gb_s": 100.0, "product_tflop_s": 1.0, "case": "machine", "gpu": "none", "date": "today"}
    codes_of = searches.Codes("codes", 1_000, 2, dim=32, document_tokens=12, query_tokens=5, centroids=20, k=7)
    index = searches.Strategies("index", 4_000, n_queries=3, dim=16, k=5, ndocs=20, n_exact=10, streamed_gb=1e-5)
    with device():
        there = "cuda:0" if gpu_is_here() else "cpu"
        lines = [line for search in (codes_of, index) for line in search.measure(limits, call_once, there)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [limits, *lines]))
    records = gpu_records(tmp_path).set_index("engine")
    ours, strategies = records.loc["ours"], records.drop("ours")
    assert (ours["bytes"], ours["flop"], ours["documents"]) == (1_000 * 12, 2 * 5 * 1_000 * 32, 84)
    assert ours["tokens_s"] == 1_000 / 2e-3
    assert ours["same_scores"]
    assert ours["same_best"]
    assert ours["timed"] == "graph"
    assert (strategies["timed"] == "eager").all()
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


class FakeCuda:
    """As much of torch.cuda as the timer asks for. A capture that fails stays on its stream, as torch's does."""

    def __init__(self):
        self.current, self.capturing, self.replays = "default", False, 0
        self.CUDAGraph = lambda: SimpleNamespace(replay=self.replay)

    def replay(self):
        self.replays += 1

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    def Event(self, *, enable_timing):
        return SimpleNamespace(record=lambda: None, synchronize=lambda: None, elapsed_time=lambda other: 4.0)

    def current_stream(self):
        return SimpleNamespace(wait_stream=lambda other: None, name=self.current)

    def synchronize(self):
        assert not self.capturing

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph, *, stream):
        self.current, self.capturing = "capturing", True
        try:
            yield
        except RuntimeError:
            self.capturing = False
            raise RuntimeError("the end of the capture failed")  # noqa: B904
        self.current, self.capturing = stream, False


class TestTimer:
    @pytest.fixture
    def cuda(self, monkeypatch):
        return FakeCuda()

    @pytest.fixture
    def timer(self, scripts, monkeypatch, cuda):
        module = scripts("gpu_timer")
        monkeypatch.setattr(module, "torch", SimpleNamespace(cuda=cuda))
        return module

    def test_a_graph(self, timer, cuda):
        called = []
        timed = timer.on_cuda([lambda: called.append(cuda.capturing)] * 2, repeats=3)
        assert (timed["timed"], timed["ms"], timed["eager_ms"]) == ("graph", 2.0, 2.0)
        assert timer.ms_of(timed | {"ms": 1.5}) == 1.5
        assert cuda.replays == 3
        assert called[-2:] == [True, True]
        assert not any(called[:-2])
        assert cuda.current == "default"

    def test_what_cannot_be_captured_is_said(self, timer, cuda):
        def call():
            if cuda.capturing:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")

        timed = timer.on_cuda([call], repeats=3)
        assert timed["timed"] == "eager"
        assert timed["not_captured"] == "RuntimeError: operation not permitted when stream is capturing"
        assert "ms" not in timed
        assert timer.ms_of(timed) == timed["eager_ms"] == 4.0
        assert cuda.current == "default"

    def test_what_waits_is_not_captured(self, timer, cuda):
        timed = timer.on_cuda([lambda: pytest.fail("captured") if cuda.capturing else None], waits=True)
        assert (timed["timed"], timed["not_captured"]) == ("eager", "its calls wait for the device")


def test_no_records_and_bad_ones(tmp_path):
    assert gpu_records(tmp_path / "absent").equals(pd.DataFrame([]))
    (tmp_path / "b.jsonl").write_text('{"case": "one"}\n')
    with pytest.raises(ValueError, match=r"b\.jsonl must begin with a line of the case 'machine'; given 'one'"):
        gpu_records(tmp_path)


def test_what_the_compiler_says(build_folder, monkeypatch):
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
