import subprocess
import sys

import numpy as np
import pytest

from colbert_research.encoders import HashingConfig


def test_a_word_stands_for_itself_everywhere():
    """Ids are pinned: 31 bits of BLAKE2b, the same in every process, version and platform."""
    found = HashingConfig().load().encode_documents(["Tea, tea"])
    assert found.token_ids[0].tolist() == [648460319, 792503551, 648460319]


@pytest.mark.slow
def test_another_process_gives_the_same_bytes():
    code = (
        "import hashlib; from colbert_research.encoders import HashingConfig; "
        "r = HashingConfig(dim=70, seed=3).load().encode_documents(['Green tea!', 'ein Käse']); "
        "print(hashlib.sha256(r.vectors.values.tobytes() + r.token_ids.values.tobytes()).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("dim", "queries"),
    [
        (32, ["cholesterol statins", "tea", "whale heart", "breast cancer"]),
        (256, ["statin", "drinking teas", "whales", "breast-cancer studies"]),  # other forms of the words
    ],
)
def test_lexical_overlap_ranks_first(dim, queries):
    encoder = HashingConfig(dim=dim).load()
    documents = ["statins lower cholesterol", "green tea and cancer", "the heart of a whale", "a study of breast cancer"]
    vectors = encoder.encode_documents(documents).vectors
    for best, query in enumerate(queries):
        tokens = encoder.encode_queries([query]).vectors[0]
        scores = [(tokens @ document.T).max(axis=1).sum() for document in vectors]
        assert int(np.argmax(scores)) == best


def test_context_moves_a_vector_and_stops_at_the_text():
    encoder = HashingConfig().load()
    alone, pair, among = (encoder.encode_documents(t).vectors for t in (["tea"], ["green tea"], ["green", "tea", "cup"]))
    assert 0.9 < float(alone[0][0] @ pair[0][1]) < 0.9999
    assert np.array_equal(alone[0], among[1])


def test_blank_texts_have_no_tokens():
    found = HashingConfig().load().encode_documents(["", "tea", "  \n", ""])
    assert found.vectors.lengths.tolist() == [0, 1, 0, 0]


def test_readable_tokens():
    encoder = HashingConfig().load()
    ids = encoder.encode_documents(["Green tea"]).token_ids[0]
    assert encoder.tokens(ids) == ["green", "tea"]
    assert HashingConfig().load().tokens(ids[:1]) == [f"#{ids[0]}"]


def test_seed_and_dim():
    vectors = [
        HashingConfig(dim=dim, seed=seed).load().encode_documents(["tea"]).vectors.values
        for dim, seed in [(128, 0), (128, 1), (200, 0)]
    ]
    assert abs(float(vectors[0][0] @ vectors[1][0])) < 6 / np.sqrt(128)  # six deviations of independent directions
    assert vectors[2].shape == (1, 200)
    prints = {
        HashingConfig(**settings).load().fingerprint() for settings in ({}, {"dim": 33}, {"seed": 1}, {"query_length": 7})
    }
    assert len(prints) == 4


def test_vocabulary_grows():
    encoder = HashingConfig().load()
    words = [f"word{i}" for i in range(3000)]
    together = encoder.encode_documents(words).vectors.values
    again = np.concatenate([HashingConfig().load().encode_documents([word]).vectors.values for word in words[::500]])
    assert np.array_equal(together[::500], again)
