"""Fingerprints and rounding of encoders, told by their configs."""

import os
import shutil
import time

import pytest

from colbert_research.config import Config
from colbert_research.encoders import HashingConfig, MultiVectorConfig, TransformerConfig, fingerprint_of, rounding_of, settings
from colbert_research.encoders.settings import has_cuda, resolved


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
    [
        (("auto", "auto"), False, ("cpu", "float32")),
        (("auto", "auto"), True, ("cuda", "float16")),
        (("auto", "float32"), True, ("cuda", "float32")),
        (("cuda:1", "auto"), False, ("cuda:1", "float16")),
        (("mps", "auto"), False, ("mps", "float32")),
        (("mps", "bfloat16"), False, ("mps", "bfloat16")),
    ],
)
def test_auto_is_resolved(monkeypatch, given, cuda, meant):
    monkeypatch.setattr(settings, "has_cuda", lambda: cuda)
    assert resolved(*given) == meant
    device, dtype = given
    found = TransformerConfig(device=device, dtype=dtype, batch_tokens=7).rounding()
    assert found == {"device": meant[0].partition(":")[0], "dtype": meant[1], "batch_tokens": 7}


def test_torch_is_asked_only_where_there_is_a_driver(monkeypatch):
    import torch

    monkeypatch.setattr(settings, "_has_driver", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("torch was asked"))
    assert not has_cuda()
    monkeypatch.setattr(settings, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert has_cuda()
