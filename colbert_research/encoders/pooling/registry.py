"""The registry of the pooling axis; a notebook cell may add to it."""

from colbert_research.config import Config
from colbert_research.encoders.pooling.base import NoPoolingConfig
from colbert_research.encoders.pooling.dominance import DominancePruningConfig
from colbert_research.encoders.pooling.kmeans import KMeansPoolingConfig
from colbert_research.encoders.pooling.merge import SequentialPoolingConfig
from colbert_research.encoders.pooling.prune import (
    IdfPruningConfig,
    NormPruningConfig,
    PositionPruningConfig,
    RandomPruningConfig,
)
from colbert_research.encoders.pooling.voronoi import VoronoiPruningConfig
from colbert_research.encoders.pooling.ward import WardPoolingConfig

POOLERS: dict[str, type[Config]] = {
    "none": NoPoolingConfig,
    "ward": WardPoolingConfig,
    "kmeans": KMeansPoolingConfig,
    "sequential": SequentialPoolingConfig,
    "prune_idf": IdfPruningConfig,
    "prune_norm": NormPruningConfig,
    "prune_position": PositionPruningConfig,
    "prune_voronoi": VoronoiPruningConfig,
    "prune_dominance": DominancePruningConfig,
    "prune_random": RandomPruningConfig,
}
