"""The benchmark commands: our lines beside other engines', and growth with the collection."""

import json
import os
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from colbert_research.data.synthetic import Synthetic
from colbert_research.evaluation.timing import strategy_of
from tests.benchmarks.conftest import ROOT

PEERS = ROOT.parent / "shared" / "bench" / "peers.py"
OURS = ["--strategy", "exhaustive", "--strategy", "plaid ncells=2 ndocs=120 n_exact=120", "--threads", "1", "--repeats", "1"]
SCRIPT = """
import json, sys
folder, engine, *rest = sys.argv[1:]
if engine == "warp":
    sys.exit("no such index")
options = dict(zip(rest[:8:2], rest[1:8:2]))
print("a word from the engine")
nbits, threads = (int(options[name]) for name in ("--nbits", "--threads"))
print(json.dumps({"engine": engine, "nbits": nbits, "threads": threads, "ms_median": 1.5, "opt": rest[8:]}))
"""


@pytest.fixture
def folder(scripts, vectors, tmp_path):
    documents, queries, ids = vectors
    scripts("bench_folder").write_bench_folder(tmp_path / "bench", documents, queries, **ids)
    return tmp_path / "bench"


def run(main, *arguments) -> tuple[list[dict], str]:
    """The JSON lines and the table that a command prints."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines], result.stdout.split("\n\n", 1)[1]


@pytest.mark.slow
def test_ours(scripts, folder, tmp_path):
    codecs = ["--codec", "exact", "--codec", "residual nbits=8 centroids=8"]
    with pytest.raises(AssertionError, match="plaid needs an index whose codec has centroids"):
        run(scripts("search").main, "--vectors", folder, *codecs, *OURS)
    lines, _ = run(scripts("search").main, "--vectors", folder, "--codec", "exact", *OURS[:2], *OURS[4:])
    assert (lines[0]["overlap10"], lines[0]["overlap100"]) == (1, 1), "the exact codec finds the exact results"
    lines, table = run(scripts("search").main, "--vectors", folder, *codecs[2:], *OURS, "--output", tmp_path / "lines.jsonl")
    assert [line["strategy"] for line in lines] == ["exhaustive", "plaid ncells=2 ndocs=120 n_exact=120"]
    for line in lines:
        assert (line["docs"], line["codec"], line["threads"]) == (120, "residual nbits=8 centroids=8", 1)
        assert line["build_s"] == pytest.approx(sum(line["build_parts"].values()), abs=0.01)  # rounded to hundredths
        assert 0 < line["ms_median"] <= line["ms_p95"]
        assert line["index_mb"] > 0
    assert lines[0]["overlap100"] > 0.95
    written = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert written == lines
    rows = table.splitlines()
    assert len(rows) == 3
    assert " 1.00 " in rows[1]


@pytest.mark.slow
def test_peers_and_their_failures(scripts, folder, tmp_path):
    script = tmp_path / "peers.py"
    script.write_text(SCRIPT)
    peers = ["--peers", sys.executable, "--peers-script", script, "--nbits", "2"]
    wanted = ["--peer", "fastplaid n_ivf_probe=8", "--peer", "warp"]
    lines, table = run(scripts("search").main, "--vectors", folder, "--codec", "residual centroids=8", *OURS, *peers, *wanted)
    expected = {"engine": "fastplaid", "nbits": 2, "threads": 1, "ms_median": 1.5, "strategy": "n_ivf_probe=8"}
    assert lines[2] == {**expected, "opt": ["--set", "n_ivf_probe=8"]}
    assert lines[3] == {"engine": "warp", "strategy": "", "error": "no such index"}
    assert "no such index" in table.splitlines()[-1]
    assert f"{1.5 / lines[0]['ms_median']:.2f}" in table.splitlines()[-2]


@pytest.mark.slow
def test_without_the_peers_script_ours_are_measured_all_the_same(scripts, folder, tmp_path):
    lines, _ = run(
        scripts("search").main,
        *("--vectors", folder, "--codec", "residual centroids=8", *OURS),
        *("--peers", sys.executable, "--peers-script", tmp_path / "nowhere.py"),
    )
    assert {line["engine"] for line in lines} == {"colbert_research"}


@pytest.mark.slow
def test_the_engines_of_an_environment_are_found_by_their_packages(scripts):
    found = scripts("search").peers_found(sys.executable)
    assert "exact" in found, "torch is here"
    assert set(found) <= set(scripts("search").PEERS)


@pytest.mark.skipif(not PEERS.is_file(), reason="the peers' script is not here")
@pytest.mark.slow
def test_the_peers_own_exact_search_agrees_with_ours(scripts, folder):
    """Two implementations of search, overlap and nDCG, written apart, on the same vectors."""
    options = ["--nbits", "4", "--threads", "1", "--k", "100", "--max-queries", "5"]
    theirs = scripts("search").peer(sys.executable, PEERS, folder, "exact", options)
    arguments = ["--vectors", folder, "--codec", "exact", *OURS[:2], *OURS[4:], "--max-queries", "5"]
    ours = run(scripts("search").main, *arguments)[0][0]
    names = ("docs", "tokens", "threads", "overlap10", "overlap100", "ndcg10")
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "plaids"], "did you mean 'plaid'"),
        (["--codec", "residual nbits=3"], "nbits"),
        (["--vectors", "nowhere"], "nowhere is no bench folder"),
        (["--threads", "100000"], "is not in the range"),
        (["--k", "10"], "is not in the range"),
    ],
)
def test_what_search_refuses(scripts, folder, arguments, message):
    result = CliRunner().invoke(scripts("search").main, ["--vectors", str(folder), *arguments])
    assert result.exit_code != 0
    assert message in result.output


class TestScaling:
    def test_exponent_of_a_power_law(self, scripts):
        sizes = [1e5, 3e5, 1e6, 2e6]
        # a slope from logarithms of about 10, each off by eps: eps * 10 / (range of about 3), with room for four points
        tolerance = float(np.finfo(np.float64).eps) * 100
        exponent = scripts("scaling").exponent
        assert exponent(sizes, [7 * s**0.5 for s in sizes]) == pytest.approx(0.5, abs=tolerance)
        assert exponent(sizes, [3.0] * 4) == pytest.approx(0, abs=tolerance)
        assert np.isnan(exponent(sizes[:1], [1.0]))
        assert np.isnan(exponent(sizes, [0.0, 1, 2, 3]))

    def test_memory_of_its_own_is_seen(self, scripts):
        if not os.path.exists("/proc/self/status"):
            pytest.skip("looks at /proc")
        with scripts("scaling").peak_anonymous(0.01) as before:
            pass
        with scripts("scaling").peak_anonymous(0.01) as peak:
            held = np.ones(2**26, np.uint8)
        assert peak[0] - before[0] >= held.nbytes / 2

    @pytest.mark.slow
    def test_one_size(self, scripts):
        settings = {"dim": 16, "model": "tokens", "queries": 5, "threads": 1, "k": 10, "strategies": ["exhaustive"]}
        codec = scripts("bench_build").codec_of("residual nbits=4 centroids=64")
        line = scripts("scaling").measure(20_000, {"exhaustive": strategy_of("exhaustive")}, codec, settings)
        tokens = sum(part.vectors.n_rows for part in Synthetic(tokens=20_000, dim=16).parts())
        assert (line["documents"], line["tokens"], line["centroids"]) == (250, tokens, 64)
        # 8 bytes of residuals, 2 of a centroid id and 2 of a norm for each token, and three headers
        assert line["index_bytes"]["codes"] == 12 * tokens + 3 * 128
        assert line["strategies"]["exhaustive"]["work"]["score"]["tokens"] == 5 * tokens
        assert line["strategies"]["exhaustive"]["answers_first"] >= 0.8

    @pytest.mark.slow
    def test_the_command(self, scripts, tmp_path):
        """Each size in a process of its own, with the settings that were given."""
        command = ["--tokens", "20000", "--tokens", "10000", "--dim", "16"]
        command += ["--codec", "residual nbits=2 centroids=32", "--strategy", "plaid ncells=2 ndocs=90 n_exact=90"]
        command += ["--threads", "1", "--queries", "4", "--k", "10", "--output", str(tmp_path / "lines.jsonl")]
        out = CliRunner().invoke(scripts("scaling").main, command, catch_exceptions=False)
        assert out.exit_code == 0, out.output
        lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
        assert [line["documents"] for line in lines] == [125, 250]
        assert all(list(line["strategies"]) == ["plaid ncells=2 ndocs=90 n_exact=90"] for line in lines)
        assert all((line["settings"]["k"], line["centroids"]) == (10, 32) for line in lines)
        codes = next(line for line in out.stdout.splitlines() if line.startswith("index codes"))
        assert float(codes.split()[-1]) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_kernels(scripts, tmp_path):
    output = tmp_path / "lines.jsonl"
    arguments = ["--tiers", "generic", "--documents", "3", "--repeats", "1", "--threads", "1", "--output", output]
    _, table = run(scripts("kernels").main, *arguments)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {line["tier"] for line in lines} == {"generic"}
    assert {"residual 2 bits", "product m=32", "centroid interaction", "float32", "assign"} <= {
        line["kernel"] for line in lines
    }
    assert all(line["ns_per_token"] > 0 for line in lines)
    assert "generic" in table


def test_fetch(scripts):
    result = CliRunner().invoke(scripts("fetch").main, ["--documents", "50", "--repeats", "3"], catch_exceptions=False)
    line = json.loads(result.stdout)
    assert (line["documents"], line["wanted"]) == (50, 10)
    assert 0 < line["median_ms"] <= line["p95_ms"]
    assert line["bytes"] > 0


@pytest.mark.slow
def test_filters_over_some_of_the_queries(scripts):
    """More texts than queries were handed on where not all were asked for."""
    asked = ["encoder={kind: hashing}", "--queries", 3, "--repeats", 1, "--strategy", "exhaustive", "--strategy", "rerank"]
    result = CliRunner().invoke(scripts("filters").main, [str(each) for each in asked], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert {line["strategy"] for line in lines} == {"exhaustive", "rerank"}
    assert all(line["median_ms"] > 0 for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_of_several_workers_lasts_no_longer(scripts, workers):
    given = ["--job", "1", "--executor", f"processes workers={workers}"]
    result = CliRunner().invoke(scripts("fan_out").main, given, catch_exceptions=False)
    line = json.loads(result.stdout)
    assert (line["workers"], line["calls"]) == (workers, 2 * workers)
    assert line["start_s"] > 0
    assert line["ms_a_call"] >= 0
    assert float(line["added"].rstrip("%")) > 0


@pytest.mark.slow
def test_fan_out(scripts):
    given = ["--config", ROOT / "configs" / "tiny.yaml", "--strategy", "exhaustive", "--executor", "inline", "--queries", "2"]
    command = scripts("fan_out").main
    result = CliRunner().invoke(command, [str(a) for a in [*given, "--repeats", "1", "--shards", "3"]], catch_exceptions=False)
    (line,) = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert (line["strategy"], line["shards"]) == ("exhaustive", 3)
    assert 0 < line["one process"]["median_ms"] <= line["one process"]["p95_ms"]
    assert line["inline"]["added_ms"] == pytest.approx(line["inline"]["median_ms"] - line["one process"]["median_ms"], abs=2e-3)
    assert line["inline, no work"]["median_ms"] > 0
