"""Codecs that are not of the package: from a notebook cell, and from another module."""

import sys
from pathlib import Path

import numpy as np
import pytest

from colbert_research.codecs import CODECS, ExactConfig, bytes_per_token, open_codec, save_codec
from colbert_research.settings import ConfigError
from tests.contracts.codec_cases import DIM, clustered, fit


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(3000)


def test_a_codec_from_a_notebook_cell(monkeypatch, tmp_path):
    class MineConfig(ExactConfig):
        kind: str = "mine"

    monkeypatch.setitem(CODECS, "mine", MineConfig)
    codec = MineConfig().fit(np.zeros((1, 4), np.float32), n_tokens=1, seed=0)
    save_codec(codec, tmp_path / "codec")
    assert isinstance(open_codec(tmp_path / "codec").config, MineConfig)


TOY = """
from dataclasses import dataclass
import numpy as np
from colbert_research import kernels
from colbert_research.config import Config
from colbert_research.ragged import Ragged

class SignConfig(Config):
    kind: str = "sign_codec:SignConfig"
    scale: float = 1.0
    def sample_size(self, n_tokens):
        return min(4, n_tokens)
    def fit(self, sample, *, n_tokens, seed):
        return SignCodec(self, np.abs(sample).mean(axis=0) * self.scale)
    def restore(self, arrays):
        return SignCodec(self, arrays["size"])

@dataclass(frozen=True, eq=False)
class SignCodec:
    config: SignConfig
    size: np.ndarray
    centroids: None = None
    @property
    def dim(self):
        return len(self.size)
    @property
    def layout(self):
        return {"signs": (np.dtype(np.int8), (self.dim,))}
    def encode(self, vectors):
        return {"signs": np.where(vectors < 0, -1, 1).astype(np.int8)}
    def decode(self, codes):
        return (codes["signs"] * self.size).astype(np.float32)
    def maxsim(self, queries, codes, offsets, only=None):
        return kernels.maxsim(queries, Ragged(self.decode(codes), offsets), only=only)
    def state(self):
        return {"size": self.size}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch):
    (tmp_path / "sign_codec.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    from importlib import import_module

    yield import_module("sign_codec").SignConfig
    del sys.modules["sign_codec"]


@pytest.mark.parametrize("kind", ["sign_codec:SignConfig", "sign"])
def test_a_codec_from_outside(toy, kind, vectors, tmp_path, monkeypatch):
    if ":" not in kind:
        monkeypatch.setitem(CODECS, kind, toy)
    codec = fit(toy(kind=kind, scale=2.5), vectors)
    save_codec(codec, tmp_path / "codec")
    opened = open_codec(tmp_path / "codec")
    assert type(opened) is type(codec)
    assert opened.config == toy(kind=kind, scale=2.5)
    codes = opened.encode(vectors)
    assert np.array_equal(opened.decode(codes), np.where(vectors < 0, -1, 1) * codec.size)
    assert bytes_per_token(opened) == DIM


def test_a_codec_that_cannot_be_opened(toy, vectors, tmp_path, monkeypatch):
    save_codec(fit(toy(kind="sign"), vectors), tmp_path / "codec")
    with pytest.raises(ValueError, match="unknown codec kind 'sign'"):
        open_codec(tmp_path / "codec")
    monkeypatch.delattr(toy, "restore")
    monkeypatch.setitem(CODECS, "sign", toy)
    with pytest.raises(ConfigError, match=r"SignConfig has no restore\(arrays\)"):
        open_codec(tmp_path / "codec")
