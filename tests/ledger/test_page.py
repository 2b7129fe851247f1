"""The verdicts in README are those that the committed records give."""

import pytest

from colbert_research.ledger import Ledger
from colbert_research.settings import ConfigError
from tests.experiment.small import ROOT


@pytest.mark.slow
def test_readme_shows_the_ledger(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(readme, encoding="utf-8")
    Ledger.load(ROOT / "experiments" / "ablations").put_into(page, "experiments/ablations")
    assert page.read_text(encoding="utf-8") == readme, "run: colbert-research ledger --into README.md"


def test_a_page_without_a_place_for_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match="lacks the lines '<!-- ledger of claims -->' and '<!-- end of ledger -->'"):
        Ledger(()).put_into(page, "claims")


def test_a_part_of_the_claims_does_not_take_the_place_of_all(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- ledger of claims -->\nall\n<!-- end of ledger -->\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="lacks the lines '<!-- ledger of claims/03 -->'"):
        Ledger(()).put_into(page, "claims/03")
    assert "\nall\n" in page.read_text(encoding="utf-8")
