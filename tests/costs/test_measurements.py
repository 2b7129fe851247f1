"""What is read of records and of lines of benchmarks, and what ships."""

import json
from pathlib import Path

import numpy as np
import pytest

from colbert_research.codecs import CODECS
from colbert_research.config import component_of_line
from colbert_research.costs import Measurements, read_measurements
from colbert_research.costs.reading import text_of
from colbert_research.costs.tails import drawn
from colbert_research.search import STRATEGIES
from colbert_research.settings import ConfigError
from colbert_research.sweep.config import SweepConfig
from tests.ledger.made_up import config_of

ROOT = Path(__file__).resolve().parents[2]
LINE = {
    "tokens": 1000,
    "documents": 10,
    "host": {"processor": "A processor", "simd": "avx2"},
    "settings": {"codec": "residual nbits=2", "threads": 2, "dim": 8},
    "build": {"cluster_s": 1.0, "encode_s": 2.0, "write_s": 3.0, "total_s": 6.0},
    "index_bytes": {"codes": 5, "documents": 7, "total": 12},
    "strategies": {"plaid ncells=2": {"median_ms": 1.0, "p95_ms": 2.0, "mean_ms": 1.5}},
}
TAIL = {"strategy": "plaid ncells=2", "slowest": [{"shards": 2, "median": 1.5, "p95": 1.25, "p99": 1.1}]}


def test_lines_of_benchmarks_are_read_and_others_passed_over(tmp_path):
    (tmp_path / "lines.jsonl").write_text(
        "\n".join(map(json.dumps, (LINE, {"engine": "ours"}, [1], TAIL, {**LINE, "settings": {}})))
    )
    (tmp_path / "no.jsonl").write_text("{")
    (tmp_path / "stopped.jsonl").write_text(f"{json.dumps({**LINE, 'tokens': 2000})}\n{json.dumps(LINE)[:40]}")
    found = read_measurements(tmp_path)
    expected = [(tokens, *each) for tokens in (1000, 2000) for each in (("cluster", 1.0), ("codes", 5.0))]
    assert [(each.tokens, each.stage, each.seconds) for each in found.timings] == expected
    assert {each.machine for each in (*found.timings, *found.latencies)} == {"A processor avx2"}
    assert [(each.strategy, each.median, each.p95, each.mean) for each in found.latencies] == [
        ("plaid ncells=2", 1, 2, 1.5)
    ] * 2
    assert dict(found.sizes[0].bytes) == {"codes": 5, "total": 12}, "vectors without texts tell nothing of documents"
    assert [(each.strategy, each.shards, each.median) for each in found.tails] == [("plaid ncells=2", 2, 1.5)]


def test_a_folder_with_nothing_is_said_to_be_so(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no record\.json of a finished experiment"):
        read_measurements(tmp_path)


def test_what_ships_is_what_the_records_say():
    """Records that have come since may be missing; none that ships is otherwise than where it was read."""
    there, shipped = read_measurements(ROOT / "experiments"), Measurements.shipped()
    for name in ("timings", "latencies", "sizes", "tails"):
        read = {json.dumps(vars(each), sort_keys=True) for each in getattr(there, name)}
        kept = {json.dumps(vars(each), sort_keys=True) for each in getattr(shipped, name)}
        assert kept <= read
        assert kept or name == "tails"
        assert not [each.source for each in getattr(shipped, name) if each.source.startswith("scratch/")], "none of a trial's"
    again = [each for each in there.timings if each.source == shipped.timings[0].source]
    assert shipped.timings[0] in again


def test_components_of_ones_own_are_passed_over_though_their_module_is_loaded():
    """Others of the same index are then read in their place, whatever ran in this process before."""
    records = ROOT / "experiments" / "ablations" / "16" / "quick"
    grid = ROOT / "configs" / "sweeps" / "ablations" / "16_quick.yaml"
    for point in SweepConfig.load(grid).expand():
        config_of(grid, point)
    found = read_measurements(records)
    named = [json.loads((records / each.source / "record.json").read_text())["config"] for each in found.sizes]
    assert named
    assert not any(":" in each["search"]["kind"] for each in named)


def test_what_ships_is_read_as_it_was_written(tmp_path, monkeypatch):
    shipped = Measurements.shipped()
    assert json.loads(shipped.to_json()).keys() == {"timings", "latencies", "sizes", "tails"}
    assert shipped.machines()[0] == "Intel Xeon amx"


@pytest.mark.parametrize(
    ("registry", "line"),
    [
        (CODECS, "residual nbits=4"),
        (CODECS, "exact dtype=float16"),
        (CODECS, "residual nbits=1 centroids=64 levels=quantiles"),
        (STRATEGIES, "plaid ncells=4 centroid_score_threshold.value=0.4"),
        (STRATEGIES, "rerank first_stage.kind=mean_vector"),
    ],
)
def test_a_component_in_one_line_is_that_component(registry, line):
    config = component_of_line("axis", registry, line)
    assert component_of_line("axis", registry, text_of(config)) == config


def test_bits_are_named_although_they_stand_at_their_default():
    assert text_of(component_of_line("codec", CODECS, "residual")) == "residual nbits=4"


def test_shards_that_all_take_the_same_are_not_slower_together():
    same = np.repeat(np.arange(1.0, 101)[:, None], 10, axis=1)
    assert np.median(drawn(same, 50, draws=2000, seed=0)) == pytest.approx(50, abs=5)
    assert np.median(drawn(same, 50, draws=2000, seed=0, correlated=False)) > 95


def test_the_slowest_of_independent_shards_is_their_maximum():
    """Of uniform times the mean of the greatest of n is n / (n + 1), whatever queries have in common where it is nothing."""
    rng = np.random.default_rng(0)
    times = rng.random((400, 400))
    for correlated in (True, False):
        mean = drawn(times, 9, draws=20_000, seed=1, correlated=correlated).mean()
        assert mean == pytest.approx(0.9, abs=5 * 0.09 / np.sqrt(20_000) + 0.005)
