"""Fingerprints and rounding of encoders, told by their configs."""

import os
import shutil
import time

import pytest
from pydantic import ValidationError

from colbert_research.config import Config
from colbert_research.encoders import (
    HashingConfig,
    MultiVectorConfig,
    TransformerConfig,
    fingerprint_of,
    processor,
    rounding_of,
    settings,
)
from colbert_research.encoders.settings import has_cuda, place, resolved
from colbert_research.settings import ConfigError


def of(folder) -> str:
    return MultiVectorConfig(model=str(folder), device="cpu").fingerprint()


@pytest.fixture
def copy(folders, tmp_path):
    """A checkpoint whose files have not changed for a minute, so that their hashes are remembered."""
    folder = shutil.copytree(folders["native"], tmp_path / "copy")
    for path in folder.rglob("*"):
        os.utime(path, (path.stat().st_mtime - 60,) * 2)
    return folder


def test_where_a_folder_lies_does_not_matter(folders, copy):
    assert of(copy) == of(folders["native"]) == of(f"{copy}/../copy")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "1_Dense/model.safetensors", "tokenizer.json", "config.json", "2_MultiVectorMask/config.json"]
)
def test_a_file_that_changes_in_place_is_noticed(copy, name):
    before = of(copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1  # the same size, as after training on
    (copy / name).write_bytes(bytes(data))
    assert of(copy) != before


def test_a_loaded_encoder_keeps_the_fingerprint_of_what_it_read(copy, tiny):
    config = MultiVectorConfig(model=str(copy), device="cpu")
    encoder, before = config.load(), config.fingerprint()
    tiny.edit(copy / "config_sentence_transformers.json", prompts={"query": "[unused1] ", "document": "[unused1] "})
    assert encoder.fingerprint() == before != config.fingerprint() == config.load().fingerprint()


def test_hashes_are_remembered(copy, monkeypatch):
    monkeypatch.setattr("colbert_research.fingerprints.time.time_ns", lambda now=time.time_ns: now() + 60 * 10**9)  # settled
    before = of(copy)
    monkeypatch.setattr("colbert_research.fingerprints.sha256_file", lambda path: pytest.fail(f"{path} was read again"))
    assert of(copy) == before


class Outside:
    """An encoder of somebody else's, of the time when configs told nothing."""

    def fingerprint(self) -> str:
        return "0123456789ab"


class OutsideConfig(Config):
    def load(self) -> Outside:
        return Outside()


def test_an_encoder_from_outside_is_loaded_and_asked():
    assert fingerprint_of(OutsideConfig()) == "0123456789ab"
    assert rounding_of(OutsideConfig()) == {}
    assert fingerprint_of(HashingConfig()) == HashingConfig().load().fingerprint()


@pytest.mark.parametrize(
    ("given", "cuda", "meant"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cuda:1", False, "cuda:1"), ("mps", False, "mps")],
)
def test_auto_is_resolved(monkeypatch, given, cuda, meant):
    monkeypatch.setattr(settings, "has_cuda", lambda: cuda)
    assert resolved(given, "float32") == meant
    found = TransformerConfig(device=given, batch_tokens=7).rounding()
    assert found == {"device": meant.partition(":")[0], "dtype": "float32", "batch_tokens": 7}


@pytest.mark.parametrize(
    ("precision", "features", "fits"),
    [
        ("float32", {}, True),
        ("bfloat16", {"avx2", "avx512fp16", "avx512vnni", "amx-int8"}, False),
        ("bfloat16", {"avx512bf16"}, True),
        ("bfloat16", {"amx-bf16"}, True),
        ("float16", {"f16c", "avx512bf16", "amx-bf16"}, False),
        ("float16", {"avx512fp16"}, True),
    ],
)
def test_a_cpu_takes_the_precisions_that_it_multiplies_in(monkeypatch, precision, features, fits):
    monkeypatch.setattr(processor, "features", lambda: frozenset(features))
    monkeypatch.setattr(settings, "has_cuda", lambda: False)
    for device in ("cpu", "auto"):
        config = TransformerConfig(device=device, precision=precision)  # as such it is no error: another machine may take it
        if fits:
            assert config.rounding()["device"] == "cpu"
            continue
        with pytest.raises(ConfigError, match=f"precision {precision} on a CPU needs .* Use precision: float32"):
            config.rounding()
    assert resolved("cuda", precision) == "cuda" and resolved("mps", precision) == "mps"


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_takes_bfloat16_unless_it_emulates_it(monkeypatch, native):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert place("cuda", "float16").type == place("cuda", "float32").type == "cuda"
    if native:
        assert place("cuda", "bfloat16").type == "cuda"
    else:
        with pytest.raises(ConfigError, match="Tesla T4 would emulate it: use precision: float16"):
            place("cuda", "bfloat16")


def test_the_features_of_this_processor_are_known():
    assert processor.features() and all(isinstance(name, str) for name in processor.features())


def test_dtype_of_earlier_versions():
    assert TransformerConfig.model_validate({"dtype": "auto"}) == TransformerConfig.model_validate({"dtype": "float32"})
    assert "dtype" not in TransformerConfig.model_validate({"dtype": "auto"}).model_dump()
    with pytest.raises(ValidationError, match="use precision: float16"):
        TransformerConfig.model_validate({"dtype": "float16"})


def test_torch_is_asked_only_where_there_is_a_driver(monkeypatch):
    import torch

    monkeypatch.setattr(settings, "_has_driver", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("torch was asked"))
    assert not has_cuda()
    monkeypatch.setattr(settings, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert has_cuda()
