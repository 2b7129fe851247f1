"""`ExperimentConfig`: every choice of one experiment, each axis by its `kind`."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from colbert_research.codecs import CODECS
from colbert_research.config import Config, Seed, component, flat
from colbert_research.data import DATASETS
from colbert_research.encoders import ENCODERS
from colbert_research.encoders.pooling import POOLERS
from colbert_research.encoders.reduce import REDUCERS
from colbert_research.index.build import BuildConfig
from colbert_research.search import STRATEGIES


class ExperimentConfig(Config):
    """Dataset, encoder, reducer, pooling, codec, index and search of one experiment, and what is measured.

    `k`: documents retrieved for each query. `vectors`: precision in which token vectors are kept between stages. `repeats`: how
    often the search is run after a warm-up; times are medians, and repeats must give identical rankings.
    """

    dataset: component("dataset", DATASETS, default="beir") = "beir"  # type: ignore[valid-type]
    encoder: component("encoder", ENCODERS, default="transformer") = "transformer"  # type: ignore[valid-type]
    vectors: Literal["float32", "float16"] = "float32"
    reducer: component("reducer", REDUCERS, default="identity") = "identity"  # type: ignore[valid-type]
    pooling: component("pooling", POOLERS, default="none") = "none"  # type: ignore[valid-type]
    codec: component("codec", CODECS, default="exact") = "exact"  # type: ignore[valid-type]
    index: BuildConfig = BuildConfig()
    search: component("search", STRATEGIES, default="exhaustive") = "exhaustive"  # type: ignore[valid-type]
    k: int = Field(1000, ge=1)
    measures: tuple[str, ...] = ("nDCG@10", "R@10", "R@50", "R@100", "R@1000", "RR@10", "Success@5", "AP")
    repeats: int = Field(1, ge=1)
    seed: Seed = 42

    @model_validator(mode="after")
    def _measures_exist(self) -> Self:
        from colbert_research.evaluation.measures import parse_measures

        parse_measures(self.measures)
        return self

    def identity(self) -> dict[str, Any]:
        """All settings, without `pooling` where there is none: experiments from before that axis keep their ids."""
        settings = super().identity()
        if self.pooling.kind == "none":
            del settings["pooling"]
        return settings

    def table(self) -> Any:
        """Every setting by its dotted name, as a table."""
        import pandas as pd

        return pd.DataFrame(list(flat(self.model_dump(mode="json"))), columns=["setting", "value"]).set_index("setting")
