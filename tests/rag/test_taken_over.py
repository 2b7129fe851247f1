"""An index that RAGatouille built is opened by its path, and goes on as one of ours."""

import json
import shutil
from pathlib import Path

import pytest

from colbert_research.encoders import HashingConfig
from colbert_research.rag import RAGPretrainedModel, store
from colbert_research.settings import ConfigError

FOREIGN = Path(__file__).parent.parent / "index" / "foreign" / "stanford"
ENCODER = HashingConfig(dim=32)


@pytest.fixture
def built(tmp_path):
    """Forty passages of ten documents, as RAGatouille leaves them; the vectors are of no encoder."""
    folder = Path(shutil.copytree(FOREIGN, tmp_path / "pages"))
    for file in folder.glob("*.pkl"):
        file.unlink()
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["config"] |= {"checkpoint": "some/colbert", "doc_maxlen": 77}
    files = {
        "metadata.json": metadata,
        "collection.json": [f"passage {i} about bees" for i in range(40)],
        "pid_docid_map.json": {str(i): f"page-{i // 4}" for i in range(40)},
        "docid_metadata_map.json": {"page-0": {"source": "wikipedia"}},
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def test_it_is_taken_over_once_and_changes_like_any_other(built, monkeypatch):
    asked = []
    monkeypatch.setattr(store, "pretrained", lambda name: asked.append(name) or ENCODER)
    rag = RAGPretrainedModel.from_index(built)
    found = rag.search("bees", k=40)
    assert len(found) == 40
    assert {each["document_id"] for each in found} == {f"page-{i}" for i in range(10)}
    (first,) = rag.search("bees", k=1, doc_ids=["page-0"])
    assert first["document_metadata"] == {"source": "wikipedia"}
    rag.add_to_index(["Whales sing."], ["whale"])
    rag.delete_from_index(["page-3"])
    again = RAGPretrainedModel.from_index(built)
    assert {each["document_id"] for each in again.search("whales", k=50)} == {"whale"} | {
        f"page-{i}" for i in range(10) if i != 3
    }
    assert asked == ["some/colbert"]
    assert again.retriever.pipeline.encoder_config.document_length == 77
    assert sorted(each.name for each in built.parent.iterdir() if each.is_dir()) == ["pages", "pages-imported"]


def test_a_folder_that_does_not_name_its_model_says_what_to_do(built):
    file = built / "metadata.json"
    metadata = json.loads(file.read_text())
    del metadata["config"]["checkpoint"]
    file.write_text(json.dumps(metadata))
    with pytest.raises(ConfigError, match=r"does not name the model.*import_index\(path, new_path, pipeline="):
        RAGPretrainedModel.from_index(built)
