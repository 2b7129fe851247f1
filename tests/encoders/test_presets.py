"""The shipped presets: complete, valid, and with the rules that their comments cite."""

import re
from pathlib import Path

import pytest

from colbert_research.config import Config, component, load_config
from colbert_research.encoders import ENCODERS, MultiVectorConfig
from colbert_research.encoders.weights import MINILM
from colbert_research.settings import read_yaml

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "encoders"
PRESETS = sorted(FOLDER.glob("*.yaml"))
MODELS = {
    "colbert-ir/colbertv2.0",
    "answerdotai/answerai-colbert-small-v1",
    "lightonai/GTE-ModernColBERT-v1",
    "jinaai/jina-colbert-v2",
    "mixedbread-ai/mxbai-edge-colbert-v0-17m",
    "mixedbread-ai/mxbai-edge-colbert-v0-32m",
    "lightonai/LateOn",
    MINILM,
}


class Whole(Config):
    encoder: component("encoder", ENCODERS)


@pytest.fixture(params=PRESETS, ids=[path.stem for path in PRESETS])
def path(request):
    return request.param


def test_is_valid_and_says_everything(path):
    assert list(read_yaml(path)) == ["encoder"]
    written = read_yaml(path)["encoder"]
    encoder = load_config(Whole, path).encoder
    assert type(encoder) is ENCODERS[written["kind"]]
    # how it runs is the user's; what it computes is stated, though it be the default
    assert set(type(encoder).model_fields) - set(written) <= {"device", "precision", "batch_tokens", "trust_remote_code"}


def test_revision_is_a_commit_or_explained(path):
    encoder = load_config(Whole, path).encoder
    text = path.read_text(encoding="utf-8")
    assert "revision" in text and re.search(r"\d+ dimensions", text)
    if "revision" in type(encoder).model_fields and not re.fullmatch("[0-9a-f]{40}", encoder.revision or ""):
        assert encoder.revision == "main" and "could not be looked up" in text


def test_can_be_extended(path, tmp_path):
    child = tmp_path / "child.yaml"
    child.write_text(f"extends: {path}\nencoder:\n  document_length: 100\n", encoding="utf-8")
    assert load_config(Whole, child).encoder.document_length == 100


def test_every_model_has_one():
    found = [load_config(Whole, path).encoder for path in PRESETS]
    assert {encoder.model for encoder in found if hasattr(encoder, "model")} == MODELS
    assert {encoder.kind for encoder in found} == set(ENCODERS)
    for encoder in found:
        if isinstance(encoder, MultiVectorConfig) and encoder.trust_remote_code:
            assert encoder.model == "jinaai/jina-colbert-v2"
