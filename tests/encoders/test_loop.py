"""The encode loop against the model's own encoding, and its batches."""

import numpy as np
import pytest

from colbert_research.encoders import MultiVectorConfig
from colbert_research.encoders import loop as encode_loop


@pytest.fixture(scope="module")
def encoder(folders):
    return MultiVectorConfig(model=str(folders["stanford"]), device="cpu").load()


@pytest.fixture
def texts(tiny, rng):
    return [" ".join(rng.choice(tiny.WORDS, rng.integers(0, 30))) + "." * int(rng.integers(0, 3)) for _ in range(60)]


def test_equals_sentence_transformers(encoder, texts, tiny):
    for found, wanted in (
        (encoder.encode_documents(texts), encoder.model.encode_document(texts, convert_to_numpy=True)),
        (encoder.encode_queries(texts), encoder.model.encode_query(texts, convert_to_numpy=True)),
    ):
        assert found.vectors.lengths.tolist() == [len(vectors) for vectors in wanted]
        assert np.abs(found.vectors.values - np.concatenate(wanted)).max() <= tiny.BOUND


@pytest.mark.parametrize("block", [1, 7, 60])
def test_blocks_only_bound_memory(encoder, texts, tiny, block, monkeypatch):
    wanted = encoder.encode_documents(texts)
    monkeypatch.setattr(encode_loop, "BLOCK", block)
    found = encoder.encode_documents(texts)
    assert np.array_equal(found.token_ids.values, wanted.token_ids.values)
    assert np.abs(found.vectors.values - wanted.vectors.values).max() <= tiny.BOUND


@pytest.mark.parametrize("budget", [1, 20, 45, 10_000])
def test_batches_keep_the_budget_and_waste_no_column(encoder, texts, budget):
    seen, widths = [], []
    for items, features in encode_loop._batches(
        encoder.model, texts, task="document", prompt="[unused1] ", batch_tokens=budget
    ):
        rows, width = features["input_ids"].shape
        assert features["attention_mask"].sum(dim=1).max() == width  # as wide as its longest text
        assert rows * width <= budget or rows == 1
        assert len(items) == rows
        seen.extend(items.tolist())
        widths.append(width)
    assert sorted(seen) == list(range(len(texts)))
    assert widths == sorted(widths, reverse=True) and widths[0] == 20


def test_left_padding(folders, texts, tiny):
    """A tokenizer that pads on the left, as those of decoders do, loses and gains no token."""
    encoder = MultiVectorConfig(model=str(folders["stanford"]), device="cpu", expansion="none").load()
    wanted = encoder.encode_documents(texts)
    encoder.model.tokenizer.padding_side = "left"
    assert np.array_equal(encoder.encode_documents(texts).token_ids.values, wanted.token_ids.values)


def test_texts_that_look_like_files_are_texts(encoder):
    texts = ["https://example.org/cell.jpg", "heart.mp3", "./tea.mp4", "data:image/png;base64,aa"]
    found = encoder.encode_documents(texts)
    assert found.vectors.lengths.min() >= 3 and len(found.vectors) == 4
