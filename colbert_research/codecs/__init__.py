"""Codecs: token vectors to compact codes and back. `CODECS` is the table of contents of the axis."""

from colbert_research.codecs.base import Codec, CodecConfig, bytes_per_token, open_codec, save_codec
from colbert_research.codecs.exact import ExactCodec, ExactConfig
from colbert_research.codecs.registry import CODECS
from colbert_research.codecs.residual import ResidualCodec, ResidualConfig

__all__ = [
    "CODECS",
    "Codec",
    "CodecConfig",
    "ExactCodec",
    "ExactConfig",
    "ResidualCodec",
    "ResidualConfig",
    "bytes_per_token",
    "open_codec",
    "save_codec",
]
