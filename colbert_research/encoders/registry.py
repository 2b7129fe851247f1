"""The registry of the encoder axis; a notebook cell may add to it."""

from colbert_research.config import Config
from colbert_research.encoders.hashing import HashingConfig
from colbert_research.encoders.multivector import MultiVectorConfig
from colbert_research.encoders.transformer import TransformerConfig

ENCODERS: dict[str, type[Config]] = {
    "multivector": MultiVectorConfig,
    "transformer": TransformerConfig,
    "hashing": HashingConfig,
}
