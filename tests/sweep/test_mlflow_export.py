"""Records in MLflow: once each, whatever happens in between."""

import pytest
from click.testing import CliRunner

from colbert_research.artifacts import read_json, write_json
from colbert_research.cli import main
from colbert_research.config import content_hash
from colbert_research.experiment import Record
from colbert_research.settings import ConfigError
from colbert_research.sweep import Sweep, mlflow_export
from colbert_research.sweep.mlflow_export import name_of, settings
from tests.experiment.small import ROOT, make

GRID = {"grid": {"codec.nbits": [1, 4]}, "notebook": str(ROOT / "notebooks" / "evaluate.ipynb")}


def test_names():
    assert [name_of(name) for name in ("nDCG@10", "RR(rel=2)@10", "codec.nbits", "Judged@5")] == [
        "nDCG_10", "RR_rel_2_10", "codec.nbits", "Judged_5",
    ]  # fmt: skip


def test_settings_off_their_defaults(data, tmp_path):
    record = make(tmp_path / "cache", data, output=tmp_path / "out").save()
    told = settings(record.config)
    assert told["codec.kind"] == "residual"
    assert told["codec.centroids"] == 8
    assert "codec.points_per_centroid" not in told
    assert settings(record.config, ["k", "seed"])["seed"] == 42
    assert settings({"of": {"another": "version"}}) == {"of.another": "version"}


def test_without_mlflow(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"MLflow is not there .*pip install 'colbert-research\[mlflow\]'"):
        mlflow_export.export([], uri="sqlite:///x", experiment="x", location=tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_each_record_is_there_once(write, tmp_path, here, monkeypatch):
    """Also where an export was interrupted, and where a record was computed anew since."""
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = write(**GRID)
    sweep = Sweep.load(path, folder=tmp_path / "records" / "bits")
    _, second = sweep.runs
    sweep.run(only="codec.nbits=1")
    words = ["export", str(path), "--folder", str(sweep.folder), "--to", "mlflow"]
    database = f"sqlite:///{tmp_path / 'records' / 'mlflow.db'}"
    assert CliRunner().invoke(main, words).output.endswith(f"{database}: records added 1, replaced 0, there already 0\n")
    sweep.run()
    client = mlflow.MlflowClient(database)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_terminated", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sweep.export_mlflow()
    said = [sweep.export_mlflow() for _ in range(2)]
    assert [(each.added, each.replaced, each.there) for each in said] == [(0, 1, 1), (0, 0, 2)]
    data = {name: value for name, value in read_json(second.folder / "record.json").items() if name != "check"}
    data["recorded"] |= {"commit": "another"}
    write_json(second.folder / "record.json", data | {"check": content_hash(data)})
    assert sweep.export_mlflow(database).replaced == 1

    found = client.search_runs([client.get_experiment_by_name("bits").experiment_id])
    assert sorted(run.data.tags["colbert_research.id"] for run in found) == sorted(run.id for run in sweep.runs)
    for run in found:
        record = Record.open(sweep.folder / run.info.run_name)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["nDCG_10"] == record.metrics["nDCG@10"]
        assert run.data.metrics["bytes in all"] == record.bytes_in_all
        assert run.data.params["codec.nbits"] == str(record.config["codec"]["nbits"])
        assert run.data.tags["folder"] == str(sweep.folder / record.id)
    assert {run.data.tags["mlflow.source.git.commit"] for run in found} >= {"another"}
