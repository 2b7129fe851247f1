"""`ExperimentConfig`: every choice of one experiment, each axis by its `kind`."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from colbert_research.codecs import CODECS
from colbert_research.config import Config, Seed, component, config_class, content_hash
from colbert_research.data import DATASETS
from colbert_research.encoders import ENCODERS
from colbert_research.encoders.pooling import POOLERS
from colbert_research.encoders.reduce import REDUCERS
from colbert_research.executors import EXECUTORS
from colbert_research.index.writing import BuildConfig
from colbert_research.search import STRATEGIES
from colbert_research.settings import ConfigError, flat

AXES: dict[str, Mapping[str, type[Any]]] = {
    "dataset": DATASETS,
    "encoder": ENCODERS,
    "reducer": REDUCERS,
    "pooling": POOLERS,
    "codec": CODECS,
    "search": STRATEGIES,
}
COMPUTED_WITH = ("device", "batch_tokens")
"""Settings of an encoder that are not in its fingerprint and still move the last bits of its vectors."""


class LatencyConfig(Config):
    """How search is timed: each query `repeats` times on `threads` threads (all that the process may use), the median counts.

    `queries`: only so many, the first ones.
    """

    repeats: int = Field(3, ge=1)
    threads: int | None = Field(None, ge=1)
    queries: int | None = Field(None, ge=1)


class ExperimentConfig(Config):
    """Dataset, encoder, reducer, pooling, codec, index and search of one experiment, and what is measured.

    `k`: documents retrieved for each query; no measure may look deeper. `vectors`: precision in which token vectors are kept
    between stages. `latency`: time the search too; left out, only its ranking is computed. `executor`: where texts are encoded
    and segments of the index written; it decides no byte, and is no part of what the experiment is.
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
    latency: LatencyConfig | None = None
    seed: Seed = 42
    executor: component("executor", EXECUTORS, default="inline") = "inline"  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _measures_can_be_computed(self) -> Self:
        from colbert_research.evaluation.measures import check_depth, parse_measures

        check_depth(parse_measures(self.measures), self.k)
        return self

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity().items() if name != "executor"}

    def check_kinds(self) -> None:
        """Raise ConfigError for a component whose `kind` is not its own, so that its `config.yaml` would run another one."""
        for axis, registry in AXES.items():
            given: Any = getattr(self, axis)
            try:
                found = config_class(axis, registry, str(given.kind))
            except ValueError as error:
                raise ConfigError(f"{axis}: {type(given).__qualname__} could not be run from a config.yaml: {error}") from error
            if found is not type(given):
                raise ConfigError(
                    f"{axis}: {type(given).__qualname__} says that its kind is {given.kind!r}, which is that of "
                    f"{found.__qualname__}, and its config.yaml would run that one; give it a kind of its own, as in "
                    f"`kind: Literal['mine'] = 'mine'`, and register it under that name, or let it be 'module:Class'"
                )

    def table(self, *, full: bool = False) -> Any:
        """The settings that are not at their default, by dotted name, as a table; with `full`, all settings."""
        import pandas as pd

        rows = dict(flat(self.model_dump(mode="json")))
        if not full:
            changed = {name for name, _ in flat(self.identity())}
            within = tuple(f"{name}." for name in changed)  # of a part that is there, where the default is to have none
            rows = {n: v for n, v in rows.items() if n in changed or (n.startswith(within) and v is not None)}
        axes = [*type(self).model_fields]
        kinds_first = sorted(rows, key=lambda name: (axes.index(name.split(".")[0]), name not in [f"{a}.kind" for a in axes]))
        return pd.DataFrame([(name, rows[name]) for name in kinds_first], columns=["setting", "value"]).set_index("setting")


def experiment_id(config: ExperimentConfig, *, collection: str, encoder: str) -> str:
    """12 hexadecimal digits for an experiment: a hash of its settings and of what its collection and its encoder contain.

    `collection`, `encoder`: their fingerprints, which stand for all settings of the two, names of folders among them; of the
    encoder's only those in `COMPUTED_WITH` count beside it.
    """
    settings = config.identity()
    computed_with = {name: value for name, value in config.encoder.identity().items() if name in COMPUTED_WITH}
    settings |= {"dataset": collection, "encoder": {"fingerprint": encoder, **computed_with}}
    return content_hash("experiment", settings)
