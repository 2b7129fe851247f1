"""The command as it is typed."""

import json

import pytest
from click.testing import CliRunner

from colbert_research.cli import main
from tests.costs.test_measurements import LINE

SMALL = ("cost", "--documents", "8841823", "--tokens-per-document", "68")


def run(*arguments):
    return CliRunner().invoke(main, [*arguments])


def test_a_plan_is_printed_with_its_sources():
    result = run("cost", "--documents", "138e6", "--tokens-per-document", "70", "--nbits", "2", "--queries-per-second", "50")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("138,000,000 documents, 9,660,000,000 tokens of 128 dimensions, residual nbits=2\n")
    for said in ("computed from the codec", "measured", "Intel Xeon amx", "extrapolated", "machines for 50/s", "plaid"):
        assert said in result.output


@pytest.mark.parametrize("every", [(), ("--all",)])
@pytest.mark.parametrize("documents", ["1e5", "12.5e6", "1e10"])
def test_a_plan_fits_a_hundred_columns(documents, every):
    more = ("--shards", "100") if documents == "12.5e6" else ()
    result = run("cost", "--documents", documents, "--tokens-per-document", "80", "--queries-per-second", "50", *more, *every)
    assert max(map(len, result.output.splitlines())) <= 100, result.output


def test_json_has_the_same_figures():
    result = run(*SMALL, "--json")
    found = json.loads(result.output)
    assert found["request"]["documents"] == 8841823
    codes = next(each for each in found["bytes"] if each["part"] == "codes")
    assert codes["per_token"] == pytest.approx(38, rel=1e-4), "128 dimensions of 2 bits, one of 2^18 centroids, an inverse norm"


def test_records_of_ones_own_take_the_place_of_those_that_ship(tmp_path):
    (tmp_path / "lines.jsonl").write_text(json.dumps(LINE))
    result = run(*SMALL, "--records", str(tmp_path), "--dim", "8")
    assert result.exit_code == 0, result.output
    assert "A processor avx2" in result.output
    assert f"measurements: {tmp_path}" in result.output
    assert "not measured, and not predicted: the time of encode" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--documents", "1.5", "--tokens-per-document", "70"), "no whole number from 1"),
        (("--documents", "many", "--tokens-per-document", "70"), "'many' is no whole number from 1"),
        ((*SMALL[1:], "--codec", "exact", "--nbits", "2"), "give one of the two"),
        ((*SMALL[1:], "--nbits", "3"), "codec 'residual nbits=3'"),
        ((*SMALL[1:], "--machine", "abacus"), "Valid: "),
        (("--documents", "10", "--tokens-per-document", "0"), "tokens_per_document is a number from"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments, said):
    result = run("cost", *arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
