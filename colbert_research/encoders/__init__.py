"""Encoders: text to token vectors. `ENCODERS` is the registry of the axis.

Importing this package imports neither torch nor transformers; the weights are read by a config's `load`.
"""

from colbert_research.encoders.base import Encoder, TokenVectors
from colbert_research.encoders.hashing import HashingConfig
from colbert_research.encoders.identity import fingerprint_of, rounding_of
from colbert_research.encoders.multivector import MultiVectorConfig
from colbert_research.encoders.pipeline import TextPipeline
from colbert_research.encoders.registry import ENCODERS
from colbert_research.encoders.store import encode_to_folder, open_vectors
from colbert_research.encoders.transformer import TransformerConfig

__all__ = [
    "ENCODERS",
    "Encoder",
    "HashingConfig",
    "MultiVectorConfig",
    "TextPipeline",
    "TokenVectors",
    "TransformerConfig",
    "encode_to_folder",
    "fingerprint_of",
    "open_vectors",
    "rounding_of",
]
