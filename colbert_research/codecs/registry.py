"""The table of contents of the codec axis; a notebook cell may add to it."""

from colbert_research.codecs.exact import ExactConfig
from colbert_research.codecs.residual import ResidualConfig
from colbert_research.config import Config

CODECS: dict[str, type[Config]] = {"exact": ExactConfig, "residual": ResidualConfig}
