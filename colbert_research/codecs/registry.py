"""The registry of the codec axis; a notebook cell may add to it."""

from colbert_research.codecs.centroid import CentroidConfig
from colbert_research.codecs.exact import ExactConfig
from colbert_research.codecs.product import ProductConfig, ResidualProductConfig
from colbert_research.codecs.rabitq import RabitqConfig, ResidualRabitqConfig
from colbert_research.codecs.residual import ResidualConfig
from colbert_research.codecs.scalar import ScalarConfig
from colbert_research.config import Config

CODECS: dict[str, type[Config]] = {
    "exact": ExactConfig,
    "scalar": ScalarConfig,
    "product": ProductConfig,
    "rabitq": RabitqConfig,
    "residual": ResidualConfig,
    "residual_product": ResidualProductConfig,
    "residual_rabitq": ResidualRabitqConfig,
    "centroid": CentroidConfig,
}
