"""A laboratory for late interaction: encode, reduce, compress, index, search, measure, compare.

The public names are listed here and imported when they are first used, so that `import colbert_research` stays cheap.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Collection": "data",
    "DATASETS": "data",
    "ENCODERS": "encoders",
    "TextPipeline": "encoders",
    "REDUCERS": "encoders.reduce",
    "POOLERS": "encoders.pooling",
    "CODECS": "codecs",
    "Index": "index",
    "build_index": "index",
    "STRATEGIES": "search",
    "Retriever": "search",
    "Trace": "search",
    "Ragged": "ragged",
    "Ranking": "ranking",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "Experiment": "experiment",
    "ExperimentConfig": "experiment",
    "Record": "experiment",
    "compare_records": "experiment",
    "load_records": "experiment",
    "start": "experiment",
    "load_config": "config",
    "Sweep": "sweep",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 (a list of strings)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"colbert_research has no {name}; it has {', '.join(__all__)}")
    return getattr(import_module(f"colbert_research.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
