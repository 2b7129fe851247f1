"""The load on a server: what it counts as what, and the command."""

import json

import pytest
from click.testing import CliRunner

from tests.serving.served import WORDS, built


def test_an_answer_is_judged(scripts):
    judged = scripts("serve").judged

    def reply(*hits, answered=1.0):
        return {"answered": answered, "results": [{"hits": [{"id": name, "score": score} for name, score in hits]}]}

    expected = [("a", 3.0), ("b", 2.5)]
    assert judged(reply(("a", 3.0), ("b", 2.5)), expected) == "identical"
    assert judged(reply(("a", 3.00001), ("b", 2.5)), expected) == "rounded"
    assert judged(reply(("a", 3.0), ("b", 2.4)), expected) == "wrong"
    assert judged(reply(("a", 3.0)), expected) == "wrong"
    assert judged(reply(("c", 3.0), ("b", 2.5)), expected) == "wrong"
    assert judged(reply(("a", 3.0), answered=0.5), expected) == "in part"


@pytest.fixture
def given(tmp_path):
    """Arguments of the command: an index, queries, a few clients."""
    path = built(tmp_path / "index")
    queries = tmp_path / "queries.jsonl"
    queries.write_text("".join(json.dumps({"_id": word, "text": f"{word} note {i}"}) + "\n" for i, word in enumerate(WORDS)))
    return [str(path), str(queries), "--clients", "3", "--k", "4"]


@pytest.fixture
def line_of(scripts, given):
    def run(*more):
        done = CliRunner().invoke(scripts("serve").main, [*given, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


@pytest.mark.slow
def test_the_command(line_of, tmp_path):
    line = line_of("--seconds", "0.5", "--option", "running=2", "--output", str(tmp_path / "lines.jsonl"))
    assert json.loads((tmp_path / "lines.jsonl").read_text()) == line
    assert list(line["answers"]) == ["identical"]
    assert line["answers"]["identical"] > 3
    assert 0 < line["ms"]["p50"] <= line["ms"]["p95"] <= line["ms"]["p99"] <= line["ms"]["most"]
    assert 0 < line["alone ms"]["of which encoding"] < line["alone ms"]["search"]
    assert line["rss MB"]["first"] > 10


@pytest.mark.slow
def test_workers_that_are_killed(line_of):
    line = line_of("--seconds", "4", "--option", "shards=2", "--option", "replicas=2", "--kill-every", "1")
    assert line["killed"] >= 2
    assert line["answers"]["identical"] > 10
    assert not {"wrong", "rounded"} & set(line["answers"])


@pytest.mark.slow
def test_without_workers_none_can_be_killed(scripts, given):
    done = CliRunner().invoke(scripts("serve").main, [*given, "--kill-every", "1"])
    assert done.exit_code == 2
    assert "this server has no workers; give it some by --option shards=4" in done.output
