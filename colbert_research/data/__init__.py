"""Collections and where they come from; `DATASETS` is the registry, and a notebook may add to it."""

from colbert_research.config import Config
from colbert_research.data.beir import BeirConfig
from colbert_research.data.collection import Collection
from colbert_research.data.given import TextsConfig
from colbert_research.data.hub import HubConfig
from colbert_research.data.irds import IrDatasetsConfig
from colbert_research.data.records import DataError, DatasetConfig, Records, assemble

DATASETS: dict[str, type[Config]] = {
    "beir": BeirConfig,
    "hub": HubConfig,
    "ir_datasets": IrDatasetsConfig,
    "texts": TextsConfig,
}

__all__ = [
    "DATASETS",
    "BeirConfig",
    "Collection",
    "DataError",
    "DatasetConfig",
    "HubConfig",
    "IrDatasetsConfig",
    "Records",
    "TextsConfig",
    "assemble",
]
