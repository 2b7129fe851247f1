"""The registry, the bundled collection, and real collections where a checkout has them beside it."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from colbert_research.config import component
from colbert_research.data import DATASETS, BeirConfig, DatasetConfig, HubConfig

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data"


def test_registry_names_each_by_its_kind():
    assert set(DATASETS) == {"beir", "hub", "ir_datasets", "texts"}
    for kind, cls in DATASETS.items():
        assert cls.model_fields["kind"].default == kind
        assert issubclass(cls, DatasetConfig)


def test_a_dataset_is_chosen_by_kind():
    class Experiment(BaseModel):
        dataset: component("dataset", DATASETS) = BeirConfig()

    assert Experiment(dataset={"kind": "hub", "name": "BeIR/scifact"}).dataset == HubConfig(name="BeIR/scifact")
    with pytest.raises(ValidationError, match="unknown key 'splits', did you mean 'split'"):
        Experiment(dataset={"kind": "beir", "splits": "dev"})


def test_the_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        DatasetConfig()


def test_import_is_cheap():
    heavy = ("datasets", "pandas", "torch", "pyarrow", "ir_datasets", "numpy")
    code = f"import sys, colbert_research.data; sys.exit(', '.join(sorted(set({heavy}) & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bundled_collection():
    bundled = BeirConfig().load()
    assert bundled.name == "bundled"
    assert len(bundled) >= 250
    assert len(bundled.query_ids) >= 60
    assert len({metadata["page"] for metadata in bundled.metadata}) >= 30
    assert len(set(bundled.texts)) == len(bundled)
    assert all(bundled.texts)
    assert all(max(grades.values()) == 2 for grades in bundled.qrels.values())
    assert "What animation studio did Miyazaki found?" in bundled.query_texts


@pytest.mark.parametrize(
    ("settings", "documents", "queries", "judgements"),
    [
        ({"path": "nfcorpus"}, 3_633, 323, 12_334),
        ({"path": "scifact"}, 5_183, 300, 339),
        ({"path": "squad", "split": "dev", "only_documents": "dev_corpus_ids.txt"}, 2_067, 10_570, 10_570),
    ],
)
def test_real_collections(settings, documents, queries, judgements):
    folder = REAL / settings["path"]
    if not folder.is_dir():
        pytest.skip(f"no real collection {folder.name!r} beside this checkout")
    loaded = BeirConfig(**settings | {"path": str(folder)}).load()
    counts = (len(loaded), len(loaded.query_ids), sum(map(len, loaded.qrels.values())))
    assert counts == (documents, queries, judgements)
    assert all(loaded.document_texts())
