"""What every encoder promises, whatever it is made of."""

import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import ValidationError

from colbert_research.config import Config
from colbert_research.encoders import ENCODERS, Encoder, TokenVectors, fingerprint_of, processor, rounding_of
from colbert_research.settings import ConfigError

_SPEC = importlib.util.spec_from_file_location("tiny", Path(__file__).parent.parent / "encoders" / "tiny.py")
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

TEXTS = [
    *tiny.TEXTS,
    "green tea!",  # once more
    "Größe naïve façade",
    "日本語のテキスト",
    "😀 \u200b\u0000 \ufffd",
    "   \n\t ",
    "the cell and the heart " * 500,
    "x" * 5000,
]
QUERY_LENGTH, DOCUMENT_LENGTH = 12, 20


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """For each kind, the settings of a small member of it."""
    folder = tmp_path_factory.mktemp("contract")
    lengths = {"query_length": QUERY_LENGTH, "document_length": DOCUMENT_LENGTH}
    small = {"device": "cpu", "batch_tokens": 128, **lengths}
    return {
        "hashing": lengths,
        "transformer": {"model": str(tiny.bare(folder / "bare")), **small},
        "multivector": {"model": str(tiny.stanford(folder / "stanford")), **small},
    }


@pytest.fixture(scope="module", params=sorted(ENCODERS))
def config(request, settings):
    assert request.param in settings, f"add a small {request.param!r} to this suite"
    return ENCODERS[request.param].model_validate({"kind": request.param, **settings[request.param]})


@pytest.fixture(scope="module")
def encoder(config):
    return config.load()


@pytest.fixture(params=["encode_queries", "encode_documents"])
def encode(encoder, request):
    return getattr(encoder, request.param)


def same_bytes(one: TokenVectors, other: TokenVectors) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(a.values, b.values) and np.array_equal(a.offsets, b.offsets) for a, b in pairs)


def assert_close(one: TokenVectors, other: TokenVectors) -> None:
    """The same tokens, and vectors that differ by the rounding of another batch shape; see `tiny.BOUND` for its derivation."""
    assert np.array_equal(one.token_ids.offsets, other.token_ids.offsets)
    assert np.array_equal(one.token_ids.values, other.token_ids.values)
    assert np.abs(one.vectors.values - other.vectors.values).max(initial=0.0) <= tiny.BOUND


def test_is_an_encoder_of_its_kind(config, encoder):
    assert isinstance(config, Config) and ENCODERS[config.kind] is type(config)
    assert isinstance(encoder, Encoder)
    assert encoder.dim >= 1


def test_shapes_and_dtypes(encoder, encode):
    found = encode(TEXTS)
    assert isinstance(found, TokenVectors)
    assert found.vectors.values.shape == (found.token_ids.n_rows, encoder.dim)
    assert found.vectors.values.dtype == np.float32 and found.token_ids.values.dtype == np.int32
    assert len(found.vectors) == len(found.token_ids) == len(TEXTS)
    assert np.array_equal(found.vectors.offsets, found.token_ids.offsets)


def test_vectors_are_l2_normalised(encoder, encode):
    norms = np.linalg.norm(encode(TEXTS).vectors.values.astype(np.float64), axis=1)
    # dim squares, their sum, a root, a division, each with a relative error of eps / 2
    assert np.abs(norms - 1).max() <= (encoder.dim + 3) * tiny.EPS / 2


def test_same_bytes_twice(config, encode, request):
    first = encode(TEXTS)
    assert same_bytes(first, encode(TEXTS))
    assert same_bytes(first, getattr(config.load(), encode.__name__)(TEXTS))


def other_value(config, name):
    """A valid value of a setting that is not the one it has."""
    value, annotation = getattr(config, name), type(config).model_fields[name].annotation
    if get_origin(annotation) is Literal:
        return next(option for option in get_args(annotation) if option != value)
    if isinstance(value, bool) or annotation == bool | None:
        return not value
    return f"{value or ''} x" if annotation in (str, str | None) else (value or 10) + 1


def test_fingerprint(config, encoder):
    fingerprint = encoder.fingerprint()
    assert len(fingerprint) == 12 and int(fingerprint, 16) >= 0
    assert fingerprint == config.fingerprint() == fingerprint_of(config) == config.load().fingerprint()
    encoder.encode_documents(TEXTS[:2])
    assert fingerprint == encoder.fingerprint()


def test_fingerprint_follows_every_setting_but_those_of_rounding_and_place(config):
    for name in type(config).model_fields:
        if name not in ("kind", "model", "revision"):
            changed = config.model_copy(update={name: other_value(config, name)})
            outside = name in ("device", "batch_tokens", "trust_remote_code")
            assert (changed.fingerprint() == config.fingerprint()) == outside, name


def test_rounding(config, encoder):
    assert encoder.rounding() == config.rounding() == rounding_of(config) == json.loads(json.dumps(config.rounding()))
    if "batch_tokens" in type(config).model_fields:
        assert config.rounding() == {"device": "cpu", "dtype": "float32", "batch_tokens": 128}
    else:
        assert config.rounding() == {}


def test_precision_is_for_encoders_with_a_network_and_named_nowhere_unless_it_is_asked_for(config):
    """So that a fingerprint, an id and a config of an earlier version stay what they are."""
    assert "precision" not in config.identity()
    if "model" not in type(config).model_fields:
        with pytest.raises(ValidationError, match="precision"):
            type(config)(precision="bfloat16")
        return
    assert config == type(config).model_validate({**config.model_dump(), "dtype": "auto"})
    prints = {config.model_copy(update={"precision": p}).fingerprint() for p in ("float32", "bfloat16", "float16")}
    assert len(prints) == 3 and config.fingerprint() in prints


def test_a_precision_that_the_processor_emulates_is_refused_before_anything_is_loaded(config, monkeypatch):
    if "model" not in type(config).model_fields:
        pytest.skip("no network")
    half = config.model_copy(update={"precision": "bfloat16"})
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2", "avx512fp16"}))
    for told in (half.rounding, half.load):
        with pytest.raises(ConfigError, match="bfloat16 on a CPU needs the instructions avx512bf16 or amx-bf16, and this"):
            told()


def test_half_precision_moves_vectors_by_its_rounding_and_leaves_them_l2_normalised(config, encode, monkeypatch):
    if "model" not in type(config).model_fields:
        pytest.skip("no network")
    monkeypatch.setattr(processor, "features", lambda: frozenset({"amx-bf16"}))
    wanted = encode(TEXTS)
    half = config.model_copy(update={"precision": "bfloat16"}).load()
    assert half.rounding() == config.rounding() and half.fingerprint() != config.fingerprint()
    handed_on = set()
    for module in half.model:
        module.register_forward_hook(lambda module, given, features: handed_on.add(str(features["token_embeddings"].dtype)))
    found = getattr(half, encode.__name__)(TEXTS)
    assert handed_on == {"torch.float32"}, "projection and normalisation compute in it"
    assert np.array_equal(found.token_ids.values, wanted.token_ids.values)
    assert found.vectors.values.dtype == np.float32
    moved = np.linalg.norm(found.vectors.values - wanted.vectors.values, axis=1)
    # 8 products a layer one after another, each rounded to 8 bits, add up as independent errors do; 8 for what weights amplify
    assert tiny.BOUND < np.sqrt(np.mean(moved**2)) <= 8 * np.sqrt(8 * tiny.LAYERS) * 2.0**-8
    norms = np.linalg.norm(found.vectors.values.astype(np.float64), axis=1)
    assert np.abs(norms - 1).max() <= (half.dim + 3) * tiny.EPS / 2


def test_a_config_tells_without_loading_anything(config):
    """A fresh process, so that it is this that imports nothing heavy."""
    code = (
        "import sys, json; from colbert_research.encoders import ENCODERS, fingerprint_of, rounding_of; "
        "from colbert_research.encoders import settings; settings._has_driver = lambda: False; "
        f"config = ENCODERS[{config.kind!r}].model_validate_json(sys.argv[1]); "
        "told = [fingerprint_of(config), rounding_of(config)]; heavy = {'torch', 'transformers', 'sentence_transformers', "
        "'huggingface_hub'}; print(json.dumps([*told, sorted(heavy & set(sys.modules))]))"
    )
    auto = config.model_copy(update={"device": "auto"}) if hasattr(config, "device") else config
    ran = subprocess.run([sys.executable, "-c", code, auto.model_dump_json()], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [config.fingerprint(), config.rounding(), []]


def test_permuted_texts_permute_the_result(encode, rng):
    order = rng.permutation(len(TEXTS))
    found, wanted = encode([TEXTS[i] for i in order]), encode(TEXTS)
    assert_close(found, TokenVectors(*(part.take(order) for part in wanted)))


def test_a_text_alone_is_as_among_others(encode):
    among = encode(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = encode([text])
        assert_close(alone, TokenVectors(*(part.slice(i, i + 1) for part in among)))


def test_the_batch_budget_changes_rounding_only(config, encode):
    if "batch_tokens" not in type(config).model_fields:
        pytest.skip("no batches")
    for budget in (1, 10_000):
        assert_close(getattr(config.model_copy(update={"batch_tokens": budget}).load(), encode.__name__)(TEXTS), encode(TEXTS))


def test_no_texts(encoder, encode):
    found = encode([])
    assert len(found.vectors) == len(found.token_ids) == 0
    assert found.vectors.values.shape == (0, encoder.dim) and found.token_ids.values.shape == (0,)
    assert found.vectors.values.dtype == np.float32 and found.token_ids.values.dtype == np.int32


def test_equal_texts_have_equal_tokens(encode):
    found = encode(["green tea", "heart", "green tea"])
    assert found.token_ids[0].tolist() == found.token_ids[2].tolist()
    assert np.abs(found.vectors[0] - found.vectors[2]).max() <= tiny.BOUND


def test_long_texts_are_cut(encoder):
    text = "the cell and the heart " * 500
    assert encoder.encode_documents([text]).vectors.lengths.tolist() == [DOCUMENT_LENGTH]
    assert encoder.encode_queries([text]).vectors.lengths.tolist() == [QUERY_LENGTH]


def test_tokens_are_readable(encoder):
    ids = encoder.encode_documents(["Tea heart"]).token_ids[0]
    words = encoder.tokens(ids)
    assert len(words) == len(ids) and all(isinstance(word, str) for word in words)
    assert [word for word in words if not word.startswith("[")] == ["tea", "heart"]
    assert encoder.tokens([]) == []


def test_texts_may_be_any_sequence(encode):
    assert same_bytes(encode(tuple(TEXTS)), encode(TEXTS))
    assert same_bytes(encode(np.array(["tea", "heart"])), encode(["tea", "heart"]))


@pytest.mark.parametrize("wrong", [None, 3, b"tea", ["tea"]])
def test_what_is_no_text_is_named(encode, wrong):
    with pytest.raises(TypeError, match="text 1 is a"):
        encode(["tea", wrong])


def test_a_lone_string_is_no_list(encode):
    with pytest.raises(TypeError, match="Put it into a list"):
        encode("tea")


def test_kinds_differ(settings):
    prints = [ENCODERS[kind].model_validate(values).fingerprint() for kind, values in settings.items()]
    assert all(one != other for one, other in itertools.combinations(prints, 2))
