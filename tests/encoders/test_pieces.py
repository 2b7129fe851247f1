"""The word pieces that an encoder counts are those that it makes vectors of."""

import pytest

from colbert_research.data.splitting import split
from colbert_research.encoders import HashingConfig, MultiVectorConfig, TransformerConfig
from colbert_research.encoders.pieces import WordPieces, word_pieces
from colbert_research.settings import ConfigError

TEXTS = ["the diet of the heart", "", "Heart, diet; sea!", "diet " * 30]


@pytest.fixture(params=["hashing", "transformer", "multivector"])
def encoder(request, tiny, tmp_path):
    if request.param == "hashing":
        return HashingConfig(query_length=6, document_length=12).load()
    if request.param == "transformer":
        return TransformerConfig(model=str(tiny.bare(tmp_path / "m")), query_length=6, document_length=12).load()
    folder = tiny.stanford(tmp_path / "m", document_length=12)
    return MultiVectorConfig(model=str(folder), query_length=6, expansion="none", skiplist="none").load()


@pytest.mark.parametrize("task", ["query", "document"])
def test_so_many_vectors_come_out(encoder, task):
    pieces = word_pieces(encoder, task)
    encode = encoder.encode_queries if task == "query" else encoder.encode_documents
    counted = [len(pieces.starts(text)) for text in TEXTS]
    assert encode(TEXTS).vectors.lengths.tolist() == [min(n + pieces.added, pieces.most) for n in counted]
    assert pieces.too_long(TEXTS) == [i for i, n in enumerate(counted) if n + pieces.added > pieces.most]
    assert pieces.too_long(TEXTS)[-1] == 3


def test_passages_are_never_cut(encoder):
    pieces = word_pieces(encoder)
    passages = [passage.text for passage in split(" ".join(TEXTS), starts=pieces.starts, max_pieces=pieces.room)]
    assert len(passages) > 2
    assert pieces.too_long(passages) == []


def test_where_the_limit_is(tiny, tmp_path):
    encoder = TransformerConfig(model=str(tiny.bare(tmp_path / "m")), query_length=6, document_length=12).load()
    pieces = word_pieces(encoder)
    assert pieces.positions == encoder.model[0].config.max_position_embeddings
    assert (pieces.added, pieces.most, pieces.room) == (2, 12, 10)


def test_an_encoder_of_ones_own():
    class Own:
        def word_pieces(self, task):
            return WordPieces(HashingConfig().load, 1, None)

    assert word_pieces(Own()).room is None
    assert word_pieces(Own()).too_long(["a text"]) == []
    with pytest.raises(ConfigError, match=r"object does not tell where the word pieces of a text lie.*word_pieces\(task\)"):
        word_pieces(object())
