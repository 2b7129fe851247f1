"""The measurement of the CUDA kernels that choose, emulated: every line is written, and every result is the host's."""

import json

import pytest

from colbert_research.evaluation.gpu import gpu_records
from colbert_research.kernels.cuda import interaction, products, tally, topk
from tests.benchmarks.test_gpu import call_once
from tests.kernels.conftest import emulate as emulate
from tests.kernels.cuda_arenas import arena_of, numpy_of
from tests.kernels.cuda_tally_cases import assert_counted

arena = arena_of([*tally.KERNELS, *topk.KERNELS, *interaction.KERNELS, *products.KERNELS])


@pytest.fixture
def select(scripts):
    return scripts("gpu_select")


def test_lines_of_every_case(select, arena, tmp_path):
    tasks = {
        "best": (select.best_of, 3000, 50),
        "greatest": (select.greatest_of, 3, 200, 4),
        "union": (select.union_of, 4, 30, 1000),
        "interaction": (select.interaction_of, 20, 9, 50, 5),
        "products": (select.products_of, 5, 40, 24),
        "assign": (select.assignment_of, 60, 30, 24),
    }
    limits = {"copy_gb_s": 100.0, "product_tflop_s": 1.0, "case": "machine", "gpu": "none", "date": "today"}
    with arena:
        device = "cpu" if arena._device is None else f"cuda:{arena._device}"
        lines = []
        for name, (build, *sizes) in tasks.items():
            lines += select.measure_selection(name, lambda d, f=build, s=sizes: f(d, *s), limits, call_once, device)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [limits, *lines]))
    records = gpu_records(tmp_path)
    ours = records[records["engine"] == "ours"]
    assert ours["case"].tolist() == list(tasks)
    assert ours["same"].tolist() == [True] * len(tasks)
    assert records["engine"].tolist().count("torch") == len(tasks) - 1
    assert (records["gb_s"] == records["bytes"] / 2e-3 / 1e9).all()


def test_scores_are_counted_as_kernels_count_them(select, arena, monkeypatch):
    """Else the best would be chosen by what is meant for too many equal scores."""
    counted = []
    monkeypatch.setattr(tally, "best", lambda scores, counts, k: counted.append((scores, counts)) or [[scores[0]]])
    monkeypatch.setattr(select, "PIECE", 700)
    with arena:
        select.best_of("cpu" if arena._device is None else f"cuda:{arena._device}", 3000, 5).engines["ours"]()
    ((scores, counts),) = counted
    assert_counted(counts, numpy_of(scores))
