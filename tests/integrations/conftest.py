"""A small index of passages, for every adapter."""

import asyncio
import inspect

import pytest

from colbert_research.encoders import HashingConfig
from colbert_research.rag import RAGPretrainedModel

TEXTS = [
    "Green tea is a drink from Asia. It is made of leaves.",
    "Whales have large hearts. A whale swims in the sea and sings.",
    "Bees make honey. Bees live in a hive with a queen.",
]
IDS = ["tea", "whale", "bee"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is a coroutine, as those of langchain-tests are."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}))
    return True


@pytest.fixture(scope="session")
def rag(tmp_path_factory) -> RAGPretrainedModel:
    made = RAGPretrainedModel.from_pretrained(HashingConfig(dim=32), index_root=tmp_path_factory.mktemp("adapters"))
    made.index(TEXTS, IDS, [{"kind": "plant"}, {"kind": "animal", "score": "high"}, {}], max_document_length=12)
    return made


@pytest.fixture
def retriever(rag):
    return rag.retriever
