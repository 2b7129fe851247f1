"""The tables that are committed can be made again from the records that are committed with them."""

from pathlib import Path

import pytest

from colbert_research.config import load_config
from colbert_research.experiment import ExperimentConfig, summarize
from colbert_research.experiment.record import found_records
from colbert_research.experiment.summary import LOCATIONS, put_into
from colbert_research.settings import parse_overrides
from tests.experiment.small import ROOT

BASELINES = ROOT / "experiments" / "baselines"
RECORDS = list(found_records(BASELINES))


@pytest.fixture(scope="module")
def table():
    return summarize(BASELINES, configs=ROOT / "configs")


@pytest.mark.parametrize("page", ["README.md", "experiments/RESULTS.md"])
def test_a_page_shows_the_records(table, tmp_path, page):
    copy = tmp_path / "page.md"
    copy.write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    put_into(copy, "experiments/baselines", table)
    made = copy.read_text(encoding="utf-8")
    assert made == (ROOT / page).read_text(encoding="utf-8"), (
        f"run: colbert-research summary experiments/baselines --into {page}"
    )


def test_the_summary_is_that_of_the_records(table):
    assert (BASELINES / "summary.csv").read_text(encoding="utf-8") == table.to_csv(index=False)


def test_settings_lead_to_the_config(table):
    """The file of `configs` and the overrides in a row give the config of its record, but for where the data lie."""
    records = {record.id: record for _, record in RECORDS}
    assert len(table) == len(records) > 0
    for settings, record in zip(table["settings"], (records[i] for i in table["record"]), strict=True):
        base, _, overrides = settings.partition(" ")
        data = dict(record.config["dataset"])
        changed = {
            f"encoder.{name}": value for name, value in record.config["encoder"].items() if f"encoder.{name}" in LOCATIONS
        }
        made = load_config(
            ExperimentConfig, ROOT / "configs" / base, {**parse_overrides(overrides), "dataset": data, **changed}
        )
        assert made.identity() == ExperimentConfig.model_validate(record.config).identity()


@pytest.mark.parametrize(("path", "record"), RECORDS, ids=[record.id for _, record in RECORDS])
def test_a_committed_record_is_whole(path: Path, record):
    assert path.name == record.id
    record.verify(path, "config.yaml")
    assert set(record.stages) == set(record.origins)
    assert record.results["queries"] == record.dataset["queries"]
