"""Three documents, and a model that indexes them at once."""

import pytest

from colbert_research.encoders import HashingConfig
from colbert_research.rag import RAGPretrainedModel

ENCODER = HashingConfig(dim=32, document_length=30)
TEXTS = [
    "Green tea is a drink from Asia. It is made of leaves. People drink tea hot, and some drink tea cold with ice.",
    "Whales have large hearts. A whale swims in the sea and sings. Whales eat krill, which is small.",
    "Bees make honey. Bees live in a hive with a queen, and they dance to show where flowers are.",
]
IDS = ["tea", "whale", "bee"]


@pytest.fixture
def rag(tmp_path):
    return RAGPretrainedModel.from_pretrained(ENCODER, index_root=tmp_path)


@pytest.fixture
def indexed(rag):
    rag.index(TEXTS, IDS, [{"kind": "plant"}, {"kind": "animal", "legs": 0}, {}], "things", max_document_length=12)
    return rag


def ids_of(results) -> list[str]:
    return [each["document_id"] for each in results]
