"""Pages that are made from the code say what the code says."""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from colbert_research.config import config_class
from colbert_research.experiment.config import AXES, ExperimentConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _hooks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "hooks")


@pytest.fixture
def settings():
    import setting_pages

    return setting_pages.settings(ROOT / "configs")


def rows_of(page: str, anchor: str) -> dict[str, str]:
    """The settings and defaults under a heading."""
    section = page.split(f"{{ #{anchor} }}")[1].split("\n## ")[0].split("\n### ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", section, re.MULTILINE))


def test_every_setting_of_every_member_is_there_with_its_default(settings):
    """Laid over a config of that kind, the defaults that the page tells change nothing."""
    for axis, registry in AXES.items():
        for kind in registry:
            fields = config_class(axis, registry, kind).model_fields
            rows = rows_of(settings, f"{axis}-{kind}")
            assert set(rows) == {f"{axis}.{name}" for name in fields if name != "kind"}, (axis, kind)
            for name, told in rows.items():
                info = fields[name.split(".")[1]]
                if info.is_required():
                    assert told == "**required**"
                else:
                    default = info.get_default(call_default_factory=True)
                    assert yaml.safe_load(told.strip("`")) == json.loads(json.dumps(plain(default))), name


def plain(value):
    return value.model_dump(mode="json", exclude_none=True) if hasattr(value, "model_dump") else value


def test_the_parts_of_an_experiment_are_there(settings):
    top = settings.split("## An experiment")[1].split("\n## ")[0]
    for name in ExperimentConfig.model_fields:
        assert f"| `{name}` |" in top
    assert "`latency.repeats`" in top
    assert "`index." in top


def test_every_link_of_the_settings_leads_to_a_heading(settings):
    import setting_pages

    configs = setting_pages.configs(ROOT / "configs")
    anchors = set(re.findall(r"\{ #([\w-]+) \}", settings))
    anchors |= {h.lower().replace(" ", "-") for h in re.findall(r"^###? ([\w ]+)$", settings, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", settings)) <= anchors
    assert set(re.findall(r"\]\(configs\.md#([\w-]+)\)", settings)) <= set(re.findall(r"\{ #([\w-]+) \}", configs))


def test_every_rule_of_claims_is_there_with_its_settings():
    import claim_pages

    from colbert_research.ledger import Ablation, Claim
    from colbert_research.ledger.rules import RULES

    page = claim_pages.claims()
    for kind, rule in RULES.items():
        assert set(rows_of(page, kind)) == {name for name in rule.model_fields if name != "kind"}, kind
    assert all(f"| `{name}` |" in page for name in (*Ablation.model_fields, *Claim.model_fields))
    anchors = {*re.findall(r"\{ #([\w-]+) \}", page), "a-claim", "a-condition"}
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= anchors


def test_every_command_is_there_with_its_options():
    import command_pages

    from colbert_research.cli import main

    page = command_pages.commands()
    paths = [path for path, _ in command_pages.walk(("colbert-research",), main)]
    assert {("colbert-research", "run"), ("colbert-research", "index", "import"), ("colbert-research", "cache", "gc")} <= {
        *paths
    }
    for path, command in command_pages.walk(("colbert-research",), main):
        assert f" {' '.join(path)} {{ #" in page
        for parameter in command.params:
            assert all(f"{name}" in page for name in parameter.opts if name.startswith("-"))


def test_a_section_of_readme_is_included_by_its_heading():
    import book

    found = book.section("# Title\nintro\n\n## One\n[a](experiments/RESULTS.md)\n\n## Two\nx\n", "One", "../")
    assert found == "[a](../results/index.md)"
    ledger = "# T\n\n## One\nBy paper:\n\n<!-- ledger of experiments/ablations -->\n\n| a |\n\n<!-- end of ledger -->\nx\n"
    assert book.section(ledger, "One", "../") == "By paper:\n\n[the ledger of claims](../results/ledger.md).\nx"
    assert book.section("# Title\nintro\n\n## One\nx\n", "top", "") == "intro"
    with pytest.raises(book.PluginError, match="no section 'Three'; it has top, One"):
        book.section("# T\nx\n\n## One\nx\n", "Three", "")


def test_a_notebook_is_a_page_with_its_outputs_and_pictures(tmp_path):
    import notebook_pages

    notebook = nbformat.v4.new_notebook()
    table = '<style scoped>x</style><table border="1" class="dataframe">\n\n<tr></tr></table>'
    outputs = [
        nbformat.v4.new_output("stream", text="\x1b[31mlogged\x1b[0m\n"),
        nbformat.v4.new_output("stream", text=f"into {tmp_path}/out\n"),
        nbformat.v4.new_output("display_data", {"text/html": table, "text/plain": "a table"}),
        nbformat.v4.new_output("display_data", {"image/png": "aGk=", "text/plain": "a figure"}),
    ]
    notebook.cells = [nbformat.v4.new_markdown_cell("# A title\n\nWords."), nbformat.v4.new_code_cell("1 + 1", outputs=outputs)]
    source = tmp_path / "notebooks" / "ablations" / "03_bits.ipynb"
    source.parent.mkdir(parents=True)
    nbformat.write(notebook, source)
    made = notebook_pages.pages(tmp_path, source, tmp_path / "none")
    page = made["notebooks/ablations/03_bits.md"]
    assert page.startswith("# A title\n\n!!! note")
    copy = tmp_path / "out" / "ablations" / "03_bits.ipynb"
    copy.parent.mkdir(parents=True)
    nbformat.write(notebook, copy)
    made = notebook_pages.pages(tmp_path, source, tmp_path / "out")
    page = made["notebooks/ablations/03_bits.md"]
    assert "!!! note" not in page
    assert "```text\nlogged\ninto out\n```" in page
    assert '<div class="output">\n<table class="dataframe">\n<tr></tr></table>\n</div>' in page
    assert "](03_bits-0-2.png)" in page
    assert made["notebooks/ablations/03_bits-0-2.png"] == b"hi"
    notebook.cells[1].outputs = [nbformat.v4.new_output("error", ename="ConfigError", evalue="no", traceback=[])]
    nbformat.write(notebook, copy)
    with pytest.raises(RuntimeError, match="ConfigError: no"):
        notebook_pages.pages(tmp_path, source, tmp_path / "out")


def test_an_ablation_without_records_is_not_executed(tmp_path):
    import notebook_pages

    notebook = tmp_path / "notebooks" / "ablations" / "03_bits.ipynb"
    assert not notebook_pages.has_records(notebook)
    record = tmp_path / "experiments" / "ablations" / "03" / "quick" / "0a" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert notebook_pages.has_records(notebook)
    assert notebook_pages.has_records(notebook.parents[1] / "plaid.ipynb")


def test_a_notebook_is_executed_again_where_what_it_is_made_from_changed(tmp_path):
    import notebook_pages

    notebook = tmp_path / "notebooks" / "ablations" / "03_bits.ipynb"
    record = tmp_path / "experiments" / "ablations" / "03" / "quick" / "0a" / "record.json"
    source, compiled = tmp_path / "colbert_research" / "a.py", tmp_path / "colbert_research" / "__pycache__" / "a.pyc"
    for when, file in enumerate((notebook, source, record, compiled), start=1):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        os.utime(file, (when, when))
    assert notebook_pages.changed(tmp_path, notebook) == 3
    assert notebook_pages.changed(tmp_path, Path(shutil.copy2(notebook, notebook.parents[1]))) == 2, "of no ablation"


@pytest.mark.slow
def test_a_ledger_shows_each_claim_under_its_question():
    import result_pages

    from colbert_research.ledger import Ledger

    page = result_pages.ledger(ROOT)
    for each in Ledger.load(ROOT / "experiments" / "ablations").entries:
        assert f"| **{each.finding.verdict}** | " in page
        assert " ".join(each.claim.claim.split()).replace("|", "\\|").replace("<", "&lt;") in page
