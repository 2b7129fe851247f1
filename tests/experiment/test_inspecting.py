"""The command that looks into a query of a record: what papermill makes of it is what was meant."""

import shlex

import pytest

from colbert_research.experiment.inspecting import inspect_command


@pytest.mark.parametrize("query_id", ["12", "PLAIN-2", "a b", "it's", "$HOME", "true", "1e-6"])
def test_ids_reach_the_notebook_as_they_are(query_id, tmp_path):
    words = shlex.split(inspect_command(tmp_path / "my records" / "0123", query_id))
    assert words[:3] == ["papermill", "notebooks/inspect.ipynb", "inspect-out.ipynb"]
    raw = {words[i + 1]: words[i + 2] for i in range(3, len(words), 3)}
    assert {words[i] for i in range(3, len(words), 3)} == {"-r"}, "which makes no number of it"
    assert raw == {"config": str(tmp_path / "my records" / "0123" / "config.yaml"), "query_id": query_id}


def test_modules_of_ones_own_are_found():
    assert inspect_command("r", "1", paths=["/a b", "/c"]).startswith("PYTHONPATH='/a b:/c' papermill ")
