import shutil

import numpy as np
import pytest
from pydantic import ValidationError

from colbert_research.encoders import MultiVectorConfig
from colbert_research.encoders.base import Encoder
from colbert_research.encoders.multivector import _with_prompt
from colbert_research.settings import ConfigError

MARKERS = {"stanford": ("[unused0]", "[unused1]"), "pylate": ("[Q] ", "[D] "), "native": ("[unused0]", "[unused1]")}
LAYOUTS = sorted(MARKERS)


def load(folder, **settings):
    return MultiVectorConfig(model=str(folder), device="cpu", **settings).load()


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


def test_documents(layout, folders, tiny):
    """Marker at position 1, cut at 20, punctuation without vectors, L2-normalised."""
    encoder = load(folders[layout])
    assert isinstance(encoder, Encoder) and encoder.dim == tiny.DIM
    expected = tiny.Expected(folders[layout], tiny.projection())
    wanted = [expected.document(text, marker=MARKERS[layout][1], length=20) for text in tiny.TEXTS]
    tiny.assert_same(encoder.encode_documents(tiny.TEXTS), wanted)
    assert any(
        len(ids) < len(expected.ids(t, marker="[CLS]", length=20)) for (_, ids), t in zip(wanted, tiny.TEXTS, strict=True)
    )


def test_queries_are_expanded_with_masks_that_are_scored_and_not_attended(layout, folders, tiny):
    expected = tiny.Expected(folders[layout], tiny.projection())
    wanted = [expected.query(text, marker=MARKERS[layout][0], length=12, expand=True) for text in tiny.TEXTS]
    found = load(folders[layout]).encode_queries(tiny.TEXTS)
    assert found.vectors.lengths.tolist() == [12] * len(tiny.TEXTS)
    tiny.assert_same(found, wanted)
    attended, _ = expected.query(tiny.TEXTS[1], marker=MARKERS[layout][0], length=12, expand=True, attend=True)
    assert np.abs(wanted[1][0] - attended).max() > 10 * tiny.BOUND  # the test can tell the two apart


def test_attended_expansion(layout, folders, tiny):
    expected = tiny.Expected(folders[layout], tiny.projection())
    marker = MARKERS[layout][0]
    wanted = [expected.query(text, marker=marker, length=12, expand=True, attend=True) for text in tiny.TEXTS]
    tiny.assert_same(load(folders[layout], attend_to_expansion=True).encode_queries(tiny.TEXTS), wanted)


def test_the_checkpoints_own_attention_rule(folders, tiny, tmp_path):
    folder = tiny.stanford(tmp_path / "attending", attend=True)
    expected = tiny.Expected(folder, tiny.projection())
    wanted = [expected.query(text, marker="[unused0]", length=12, expand=True, attend=True) for text in tiny.TEXTS]
    tiny.assert_same(load(folder).encode_queries(tiny.TEXTS), wanted)
    plain = [expected.query(text, marker="[unused0]", length=12, expand=True) for text in tiny.TEXTS]
    tiny.assert_same(load(folder, attend_to_expansion=False).encode_queries(tiny.TEXTS), plain)


def test_no_expansion_cuts_where_the_checkpoint_cut(layout, folders, tiny):
    expected = tiny.Expected(folders[layout], tiny.projection())
    wanted = [expected.query(text, marker=MARKERS[layout][0], length=12, expand=False) for text in tiny.TEXTS]
    tiny.assert_same(load(folders[layout], expansion="none").encode_queries(tiny.TEXTS), wanted)


def test_a_checkpoint_that_does_not_expand(tiny, tmp_path):
    folder = tiny.pylate(tmp_path / "pylate", expand=False)
    expected = tiny.Expected(folder, tiny.projection())
    wanted = [expected.query(text, marker="[Q] ", length=12, expand=False) for text in tiny.TEXTS]
    tiny.assert_same(load(folder).encode_queries(tiny.TEXTS), wanted)
    wanted = [expected.query(text, marker="[Q] ", length=9, expand=True) for text in tiny.TEXTS]
    tiny.assert_same(load(folder, expansion="fixed", query_length=9).encode_queries(tiny.TEXTS), wanted)
    with pytest.raises(ConfigError, match="expands no query"):
        load(folder, attend_to_expansion=True)


def test_lengths(layout, folders, tiny):
    encoder = load(folders[layout], query_length=7, document_length=9)
    expected = tiny.Expected(folders[layout], tiny.projection())
    query, document = MARKERS[layout]
    wanted = [expected.query(text, marker=query, length=7, expand=True) for text in tiny.TEXTS]
    tiny.assert_same(encoder.encode_queries(tiny.TEXTS), wanted)
    wanted = [expected.document(text, marker=document, length=9) for text in tiny.TEXTS]
    tiny.assert_same(encoder.encode_documents(tiny.TEXTS), wanted)


def test_skiplist(layout, folders, tiny):
    expected = tiny.Expected(folders[layout], tiny.projection())
    marker = MARKERS[layout][1]
    wanted = [expected.document(text, marker=marker, length=20, skip="") for text in tiny.TEXTS]
    tiny.assert_same(load(folders[layout], skiplist="none").encode_documents(tiny.TEXTS), wanted)
    wanted = [expected.document(text, marker=marker, length=20) for text in tiny.TEXTS]
    tiny.assert_same(load(folders[layout], skiplist="punctuation").encode_documents(tiny.TEXTS), wanted)


def test_other_prefixes(layout, folders, tiny):
    """The two markers exchanged, a prefix of ordinary words, and none."""
    expected = tiny.Expected(folders[layout], tiny.projection())
    query, document = MARKERS[layout]
    swapped = load(folders[layout], query_prefix=f"{document.strip()} ", document_prefix=f"{query.strip()} ")
    wanted = [expected.document(text, marker=query, length=20) for text in tiny.TEXTS]
    tiny.assert_same(swapped.encode_documents(tiny.TEXTS), wanted)
    wanted = [expected.query(text, marker=document, length=12, expand=True) for text in tiny.TEXTS]
    tiny.assert_same(swapped.encode_queries(tiny.TEXTS), wanted)
    words = load(folders[layout], document_prefix="study of the ")
    wanted = [expected.document("study of the " + text, marker=None, length=20) for text in tiny.TEXTS]
    tiny.assert_same(words.encode_documents(tiny.TEXTS), wanted)
    wanted = [expected.document(text, marker=None, length=20) for text in tiny.TEXTS]
    tiny.assert_same(load(folders[layout], document_prefix="").encode_documents(tiny.TEXTS), wanted)


def test_a_marker_that_the_tokenizer_does_not_know(folders):
    with pytest.raises(ConfigError, match=r"query_prefix '\[QueryMarker\] ' is a marker"):
        load(folders["stanford"], query_prefix="[QueryMarker] ")


def test_an_old_pylate_checkpoint_without_a_model_type(folders, tiny, tmp_path):
    folder = tiny.pylate(tmp_path / "old", model_type=None)
    found, wanted = load(folder).encode_documents(tiny.TEXTS), load(folders["pylate"]).encode_documents(tiny.TEXTS)
    assert np.array_equal(found.vectors.values, wanted.vectors.values)


def test_a_floor_for_query_lengths(tiny, tmp_path):
    """Strategy `min` of sentence-transformers: short queries are padded, long ones are not cut."""
    folder = tiny.native(tmp_path / "minimum", strategy="min")
    assert load(folder).encode_queries(tiny.TEXTS).vectors.lengths.min() == 12
    assert load(folder).encode_queries(tiny.TEXTS).vectors.lengths.max() > 12
    assert load(folder, query_length=14).encode_queries(tiny.TEXTS).vectors.lengths.max() == 14
    with pytest.raises(ConfigError, match="shorter than the 12 tokens"):
        load(folder, query_length=8)


def test_refusals(folders, tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"bare transformer \(BertModel\).*Use kind: transformer"):
        load(folders["bare"])
    with pytest.raises(ConfigError, match="HierarchicalTokenPooling"):
        load(tiny.native(tmp_path / "pooled", pooling=True))
    with pytest.raises(ConfigError, match="document_length 65 is more than the 64 positions"):
        load(folders["stanford"], document_length=65)
    copy = shutil.copytree(folders["stanford"], tmp_path / "copy")
    (copy / "artifact.metadata").unlink()
    with pytest.raises(ConfigError, match=r"without its artifact\.metadata"):
        load(copy)
    tiny.edit(copy / "config.json", architectures=["ColPaliForRetrieval"])
    with pytest.raises(ConfigError, match="retrieves images"):
        load(copy)


def test_a_single_vector_model_is_refused(folders, tiny, tmp_path):
    copy = shutil.copytree(folders["pylate"], tmp_path / "single")
    (copy / "config_sentence_transformers.json").write_text('{"model_type": "SentenceTransformer"}')
    with pytest.raises(ConfigError, match="no late-interaction checkpoint"):
        load(copy)


def test_settings_that_contradict():
    with pytest.raises(ValidationError, match="expansion: none makes none"):
        MultiVectorConfig(model="x/y", expansion="none", attend_to_expansion=True)


def test_fingerprint_follows_every_effective_setting(folders, tmp_path):
    """Other settings, another hash; another folder or another size of the batches, the same."""
    base = load(folders["stanford"]).fingerprint()
    others = [
        {"query_length": 11},
        {"document_length": 21},
        {"expansion": "none"},
        {"attend_to_expansion": True},
        {"query_prefix": ""},
        {"document_prefix": "the "},
        {"skiplist": "none"},
    ]
    found = {load(folders["stanford"], **settings).fingerprint() for settings in others}
    assert len(found | {base}) == len(others) + 1
    assert load(folders["stanford"], batch_tokens=64).fingerprint() == base
    copy = shutil.copytree(folders["stanford"], tmp_path / "copy")
    assert load(copy).fingerprint() == base


def test_fingerprint_follows_weights_and_tokenizer(folders, tiny, tmp_path):
    base = load(folders["stanford"]).fingerprint()
    weights = shutil.copytree(folders["stanford"], tmp_path / "weights")
    changed = {name: value.clone() for name, value in tiny.load_file(weights / "model.safetensors").items()}
    changed["linear.weight"][0, 0] += 1
    tiny.save_file(changed, weights / "model.safetensors", metadata={"format": "pt"})
    assert load(weights).fingerprint() != base
    cased = shutil.copytree(folders["stanford"], tmp_path / "cased")
    text = (cased / "tokenizer.json").read_text()
    assert '"lowercase": true' in text
    (cased / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    tiny.edit(cased / "tokenizer_config.json", do_lower_case=False)
    assert load(cased).fingerprint() != base


@pytest.mark.parametrize(("kind", "most"), [("roberta", 38), ("bert", 40)])
def test_lengths_beyond_the_positions_that_there_really_are(kind, most):
    """RoBERTa has two positions fewer than its table has rows: a length in between failed while encoding."""
    from types import SimpleNamespace

    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

    from colbert_research.encoders.settings import check_lengths

    settings = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
    config = (RobertaConfig if kind == "roberta" else BertConfig)(**settings, max_position_embeddings=40)
    model = (RobertaModel if kind == "roberta" else BertModel)(config)
    model.query_length, model.document_length = 4, most
    check_lengths(model)
    model.document_length = most + 1
    with pytest.raises(ConfigError, match=f"document_length {most + 1} is more than the {most} positions"):
        check_lengths(model)
    check_lengths(SimpleNamespace(config=SimpleNamespace(), query_length=9, document_length=None))


@pytest.mark.parametrize(
    ("prefix", "saved", "expected"),
    [
        ("[Q] ", "", "[Q] "),
        ("[Q] ", "[unused0] ", "[Q] "),
        ("[Q] ", "query: ", "[Q] query: "),
        ("[Q] ", "[unused0] query: ", "[Q] query: "),
        ("[Q] query: ", "query: ", "[Q] query: "),
        ("search for ", "[unused0] ", "search for "),
        ("", "[unused0] ", ""),
        ("", "query: ", ""),
    ],
)
def test_a_prefix_keeps_the_words_of_a_saved_prompt(prefix, saved, expected):
    """They vanished."""
    assert _with_prompt("query", prefix, saved) == expected


@pytest.mark.parametrize("prefix", ["search for ", "quer: "])
def test_a_prefix_that_would_take_the_place_of_a_prompt_is_refused(prefix):
    with pytest.raises(ConfigError, match=r"puts the prompt 'query: ' before a query.*write both, query_prefix="):
        _with_prompt("query", prefix, "query: ")
