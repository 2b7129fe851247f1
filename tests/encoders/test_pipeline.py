"""What turns texts into the vectors of an index: equal to its stages, saved, and held to the encoder that made it."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from colbert_research.config import Config
from colbert_research.encoders import HashingConfig, MultiVectorConfig, TextPipeline, TokenVectors, settings
from colbert_research.encoders.pooling import POOLERS, IdfPruningConfig, WardPoolingConfig
from colbert_research.encoders.projection import Projection
from colbert_research.encoders.reduce import RandomProjectionConfig, SVDConfig, project
from colbert_research.settings import ConfigError

ENCODER = HashingConfig(dim=16, seed=2)
TEXTS = ["green tea and breast cancer", "a study of the heart", "statins, diet and the risk of cancer", "tea", ""]


@pytest.fixture(autouse=True)
def _without_cuda(monkeypatch):
    """A pipeline that was saved runs on the best device: here the one that all the others run on."""
    monkeypatch.setattr(settings, "has_cuda", lambda: False)


def encoded() -> TokenVectors:
    return ENCODER.load().encode_documents(TEXTS)


def projection(dim: int = 8) -> np.ndarray:
    return SVDConfig(dim=dim).fit(encoded().vectors.values, seed=0).matrix


def same(one: TokenVectors, other: TokenVectors) -> bool:
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in ((x.values, y.values), (x.offsets, y.offsets))]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def full(kind: str = "prune_idf") -> TextPipeline:
    """A pipeline with everything in it."""
    pooling = POOLERS[kind](**({"factor": 1.7} if "factor" in POOLERS[kind].model_fields else {}))
    reduced = TokenVectors(encoded().vectors.map(lambda values: project(values, projection())), encoded().token_ids)
    state = {} if kind == "prune_norm" else pooling.fit(reduced)
    return TextPipeline.of(ENCODER, projection=projection(), pooling=pooling, state=state, seed=5, text_fields="text")


@pytest.mark.parametrize("kind", sorted(POOLERS))
class TestEveryPooler:
    def test_documents_are_encoded_projected_and_pooled(self, kind):
        pipeline, (vectors, token_ids) = full(kind), encoded()
        reduced = TokenVectors(vectors.map(lambda values: project(values, projection())), token_ids)
        expected = pipeline.pooling.pool(reduced, pipeline.state, seed=5)
        assert same(pipeline.documents(TEXTS), expected)
        assert pipeline.documents(TEXTS).vectors.dim == pipeline.dim == 8

    def test_what_is_saved_gives_the_same_bytes(self, kind, tmp_path):
        pipeline = full(kind)
        pipeline.save(tmp_path / "p")
        opened = TextPipeline.open(tmp_path / "p")
        assert same(opened.documents(TEXTS), pipeline.documents(TEXTS))
        assert same(opened.query_tokens(TEXTS), pipeline.query_tokens(TEXTS))
        assert opened.fingerprint() == pipeline.fingerprint()
        assert (opened.encoder_config, opened.pooling, opened.seed, opened.text_fields) == (
            ENCODER,
            pipeline.pooling,
            5,
            "text",
        )


def test_queries_are_projected_and_not_pooled():
    found = full().query_tokens(TEXTS)
    plain = ENCODER.load().encode_queries(TEXTS)
    assert same(found, TokenVectors(plain.vectors.map(lambda values: values @ projection()).map(unit), plain.token_ids))
    assert same(TokenVectors(full().queries(TEXTS), found.token_ids), found)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_an_encoder_alone():
    pipeline = TextPipeline.of(ENCODER)
    assert pipeline.dim == 16
    assert same(pipeline.documents(TEXTS), encoded())
    assert len(pipeline.queries([])) == 0


class Counting(Config):
    """Loads a hashing encoder, and counts how often."""

    kind: str = "counting"
    dim: int = 16

    def fingerprint(self) -> str:
        return HashingConfig(dim=self.dim).fingerprint()

    def load(self):
        LOADED.append(self)
        return HashingConfig(dim=self.dim).load()


LOADED: list[Counting] = []


@pytest.fixture
def loaded():
    LOADED.clear()
    return LOADED


def test_an_encoder_is_loaded_once_and_only_when_it_is_needed(loaded, tmp_path):
    pipeline = TextPipeline.of(Counting(), dim=16)
    pipeline.save(tmp_path)
    assert not loaded
    threads = [threading.Thread(target=pipeline.queries, args=(["tea"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipeline.documents(["tea"])
    assert len(loaded) == 1


def test_an_encoder_loaded_for_its_width_is_kept(loaded):
    TextPipeline.of(Counting()).queries(["tea"])
    assert len(loaded) == 1


def test_an_encoder_is_handed_in(loaded):
    encoder = HashingConfig(dim=16).load()
    pipeline = TextPipeline.of(Counting(), dim=16).with_encoder(encoder)
    assert pipeline.encoder is encoder
    pipeline.queries(["tea"])
    assert not loaded


def test_another_encoder_is_refused():
    pipeline, other = TextPipeline.of(ENCODER), HashingConfig(dim=16, seed=3)
    with pytest.raises(ConfigError) as error:
        pipeline.with_encoder(other.load())
    said = str(error.value)
    for part in (other.fingerprint(), ENCODER.fingerprint(), "the encoder handed in did not make these vectors", "seed=2"):
        assert part in said


def test_an_encoder_of_another_width_than_was_said():
    with pytest.raises(ConfigError, match="the encoder gives 16 dimensions, and this pipeline was made for 12"):
        _ = TextPipeline.of(ENCODER, dim=12).encoder


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.eye(16, 8, dtype=np.float64), r"a projection to 8 dimensions is float32 \(dim, 8\); given float64 \(16, 8\)"),
        (np.zeros(8, np.float32), r"given float32 \(8,\)"),
        (np.full((16, 8), np.nan, np.float32), "values that are not finite; fit the reducer again"),
        (
            Projection(projection(), np.zeros(8, np.float32)),
            r"the mean of a projection is float32 \(16,\); given float32 \(8,\)",
        ),
        (Projection(projection(), np.full(16, np.inf, np.float32)), "values that are not finite; fit the reducer again"),
    ],
)
def test_a_projection_that_is_none(wrong, message):
    with pytest.raises(ValueError, match=message):
        TextPipeline.of(ENCODER, projection=wrong)


def test_a_mean_is_subtracted_saved_and_read_again(tmp_path):
    """In version 2: a package that knows version 1 alone would leave the mean out, and refuses instead."""
    mean = np.linspace(-0.1, 0.1, 16, dtype=np.float32)
    centred = TextPipeline.of(ENCODER, projection=Projection(projection(), mean))
    plain = TextPipeline.of(ENCODER)
    expected = plain.queries(TEXTS).map(lambda values: (values - mean) @ projection()).map(unit)
    assert np.array_equal(centred.queries(TEXTS).values, expected.values)
    for i, (pipeline, version) in enumerate([(centred, 2), (full(), 1), (plain, 1)]):
        pipeline.save(tmp_path / str(i))
        assert json.loads((tmp_path / str(i) / "pipeline.json").read_text())["version"] == version
        opened = TextPipeline.open(tmp_path / str(i))
        assert opened.fingerprint() == pipeline.fingerprint()
        assert np.array_equal(opened.queries(TEXTS).values, pipeline.queries(TEXTS).values)


def test_fingerprint():
    """Of everything that decides the vectors."""
    base = full()
    others = [
        TextPipeline.of(ENCODER),
        TextPipeline.of(ENCODER, projection=projection()),
        TextPipeline.of(ENCODER, projection=Projection(projection(), np.full(16, 0.1, np.float32))),
        TextPipeline.of(ENCODER, projection=RandomProjectionConfig(dim=8).fit(encoded().vectors.values, seed=0)),
        TextPipeline.of(ENCODER, pooling=WardPoolingConfig()),
        TextPipeline.of(ENCODER, pooling=IdfPruningConfig(), state=base.state),
        TextPipeline.of(HashingConfig(dim=16)),
        TextPipeline.of(ENCODER, text_fields="text"),
    ]
    assert len({pipeline.fingerprint() for pipeline in [base, *others]}) == len(others) + 1
    assert full().fingerprint() == base.fingerprint()


@pytest.fixture
def checkpoint(folders, tmp_path):
    return shutil.copytree(folders["stanford"], tmp_path / "checkpoint")


def of_checkpoint(folder, tiny) -> TextPipeline:
    return TextPipeline.of(MultiVectorConfig(model=str(folder), device="cpu", batch_tokens=64), dim=tiny.DIM)


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_vectors(checkpoint, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = of_checkpoint("checkpoint", tiny)  # by a relative path
    pipeline.save(tmp_path / "saved")
    code = (
        "import sys, numpy as np; from colbert_research.encoders import TextPipeline; p = TextPipeline.open(sys.argv[1]); "
        "assert 'torch' not in sys.modules; np.save(sys.argv[2], p.queries(sys.argv[3:]).values)"
    )
    arguments = [str(tmp_path / "saved"), str(tmp_path / "found.npy"), *TEXTS]
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        cwd="/",
        capture_output=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert np.array_equal(np.load(tmp_path / "found.npy"), pipeline.queries(TEXTS).values)


def test_a_checkpoint_that_was_trained_on_is_refused(checkpoint, tiny, tmp_path):
    of_checkpoint(checkpoint, tiny).save(tmp_path / "saved")
    weights = {name: value.clone() for name, value in tiny.load_file(checkpoint / "model.safetensors").items()}
    weights["linear.weight"][0, 0] += 1
    tiny.save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    opened = TextPipeline.open(tmp_path / "saved")
    with pytest.raises(
        ConfigError, match=r"the encoder as its files are now did not make these vectors.*encode and index anew"
    ):
        opened.queries(TEXTS)


def test_a_model_that_lies_elsewhere(checkpoint, tiny, tmp_path):
    pipeline = of_checkpoint(checkpoint, tiny)
    pipeline.save(tmp_path / "saved")
    expected = pipeline.query_tokens(TEXTS)
    moved = checkpoint.rename(tmp_path / "moved")
    opened = TextPipeline.open(tmp_path / "saved")
    with pytest.raises(ConfigError) as error:
        opened.queries(TEXTS)
    for part in (str(checkpoint), "cannot be loaded on this machine", "with_model(folder)", "with_encoder(encoder)"):
        assert part in str(error.value)
    assert same(opened.with_model(moved).query_tokens(TEXTS), expected)
    config = MultiVectorConfig(model=str(moved), device="cpu", batch_tokens=64)
    assert same(opened.with_encoder(config.load()).query_tokens(TEXTS), expected)
    tiny.edit(moved / "artifact.metadata", query_maxlen=11)
    with pytest.raises(ConfigError, match=r"the model in '.*moved' did not make these vectors"):
        opened.with_model(moved)
    with pytest.raises(ConfigError, match=r"the encoder of these vectors \(hashing dim=16 seed=2\) reads no model"):
        TextPipeline.of(ENCODER).with_model(moved)


def test_what_only_one_machine_can_do_is_not_written_down(checkpoint, tiny, tmp_path):
    config = MultiVectorConfig(
        model=str(checkpoint), device="cuda:1", precision="bfloat16", trust_remote_code=True, batch_tokens=64
    )
    TextPipeline.of(config, dim=tiny.DIM).save(tmp_path / "saved")
    found = TextPipeline.open(tmp_path / "saved").encoder_config
    assert found == MultiVectorConfig(model=str(checkpoint), precision="bfloat16", batch_tokens=64)
    assert found.fingerprint() == config.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "it has version 3, this package reads up to 2; update colbert_research"),
        ({"format": "something"}, "format: Input should be 'colbert_research pipeline'"),
        ({"encoder": {"kind": "hashin"}}, "did you mean 'hashing'"),
        ({"pooling": {"kind": "wards"}}, "did you mean 'ward'"),
        ({"encoder_fingerprint": "x"}, "encoder_fingerprint: String should match"),
        ({"dim": 0}, "dim: Input should be greater than or equal to 1"),
        ({"dim": 7}, "a projection to 7 dimensions"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_settings_that_are_damaged(tmp_path, change, message):
    full().save(tmp_path)
    file = tmp_path / "pipeline.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ConfigError, match=message) as error:
        TextPipeline.open(tmp_path)
    assert f"the pipeline in {tmp_path} cannot be opened" in str(error.value)


@pytest.mark.parametrize("name", ["pipeline.json", "arrays.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[]"])
def test_files_that_are_damaged(tmp_path, name, damage):
    full().save(tmp_path)
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(ConfigError, match="cannot be opened"):
        TextPipeline.open(tmp_path)


def test_files_that_are_missing(tmp_path):
    full().save(tmp_path)
    (tmp_path / "arrays.safetensors").unlink()
    with pytest.raises(ConfigError, match="cannot be opened"):
        TextPipeline.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="no pipeline in"):
        TextPipeline.open(tmp_path / "nowhere")
