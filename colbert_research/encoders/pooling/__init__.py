"""Poolers: fewer token vectors per document, by merging some or leaving some out. `POOLERS` is the registry of the axis.

Documents alone are pooled, after the reducer; queries keep all their tokens. Sources: token pooling (Clavié, Chaffin and Adams
2024, arXiv 2409.14683) for merging, each pruner's own for leaving out.
"""

from colbert_research.encoders.pooling.base import NoPoolingConfig, Pooler, Pooling, Proportional, State
from colbert_research.encoders.pooling.dominance import DominancePruningConfig
from colbert_research.encoders.pooling.kmeans import KMeansPoolingConfig
from colbert_research.encoders.pooling.merge import Merging, SequentialPoolingConfig, merge
from colbert_research.encoders.pooling.prune import (
    IdfPruningConfig,
    NormPruningConfig,
    PositionPruningConfig,
    Pruning,
    RandomPruningConfig,
)
from colbert_research.encoders.pooling.registry import POOLERS
from colbert_research.encoders.pooling.voronoi import VoronoiPruningConfig
from colbert_research.encoders.pooling.ward import WardPoolingConfig

__all__ = [
    "POOLERS",
    "DominancePruningConfig",
    "IdfPruningConfig",
    "KMeansPoolingConfig",
    "Merging",
    "NoPoolingConfig",
    "NormPruningConfig",
    "Pooler",
    "Pooling",
    "PositionPruningConfig",
    "Proportional",
    "Pruning",
    "RandomPruningConfig",
    "SequentialPoolingConfig",
    "State",
    "VoronoiPruningConfig",
    "WardPoolingConfig",
    "merge",
]
