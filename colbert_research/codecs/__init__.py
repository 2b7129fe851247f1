"""Codecs: token vectors to compact codes and back. `CODECS` is the registry of the axis."""

from colbert_research.codecs.base import Codec, CodecConfig, bytes_per_token
from colbert_research.codecs.centroid import CentroidCodec, CentroidConfig
from colbert_research.codecs.exact import ExactCodec, ExactConfig
from colbert_research.codecs.files import open_codec, save_codec
from colbert_research.codecs.product import ProductCodec, ProductConfig, ResidualProductConfig
from colbert_research.codecs.rabitq import RabitqCodec, RabitqConfig, ResidualRabitqConfig
from colbert_research.codecs.registry import CODECS
from colbert_research.codecs.residual import ResidualCodec, ResidualConfig
from colbert_research.codecs.scalar import ScalarCodec, ScalarConfig
from colbert_research.codecs.table import TableCodec

__all__ = [
    "CODECS",
    "CentroidCodec",
    "CentroidConfig",
    "Codec",
    "CodecConfig",
    "ExactCodec",
    "ExactConfig",
    "ProductCodec",
    "ProductConfig",
    "RabitqCodec",
    "RabitqConfig",
    "ResidualCodec",
    "ResidualConfig",
    "ResidualProductConfig",
    "ResidualRabitqConfig",
    "ScalarCodec",
    "ScalarConfig",
    "TableCodec",
    "bytes_per_token",
    "open_codec",
    "save_codec",
]
