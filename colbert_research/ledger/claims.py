"""`claims.yaml`: what papers say on one question, where, and the rule by which records decide whether it holds here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator

from colbert_research.config import Config, explain, load_config
from colbert_research.experiment.anatomies import measure_clusters
from colbert_research.experiment.overlaps import compare_rankings
from colbert_research.experiment.record import FILE as RECORD
from colbert_research.ledger.rules import RULES, AnyRule, Untestable
from colbert_research.settings import nearest

FILE = "claims.yaml"


class Claim(Config):
    """One claim. There is no place to write a verdict: `rule` computes it from records.

    `rule` asks for what the paper reports. `trend`: a weaker rule, of the direction alone, say, where `rule` asks for a size or
    cannot be tested here; that it holds makes the verdict the trend, no more.

    `claim`: in a sentence. `paper`: authors and year. `where`: its table, figure or section. `published`: the paper's number,
    in its words. `setup`: engine, encoder and data of the paper where they are not ours. `needs`: what a machine must have to
    make the records, where not every one can.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    claim: str = Field(min_length=10)
    paper: str = Field(min_length=3)
    where: str = Field(min_length=2)
    published: str = Field(min_length=1)
    setup: str = ""
    needs: str = ""
    rule: AnyRule
    trend: AnyRule | None = None

    @property
    def rules(self) -> tuple[AnyRule, ...]:
        """Those of its rules that records can be asked."""
        return tuple(each for each in (self.rule, self.trend) if each is not None and not isinstance(each, Untestable))

    @field_validator("rule", "trend", mode="before")
    @classmethod
    def _has_a_known_kind(cls, rule: Any) -> Any:
        if (isinstance(rule, Mapping) and "kind" not in rule) or isinstance(rule, str):
            raise ValueError(f"a rule is a mapping with a `kind` ({', '.join(RULES)}); given {rule!r}")
        if isinstance(rule, Mapping) and rule["kind"] not in RULES:
            raise ValueError(f"unknown kind {rule['kind']!r}: {nearest(str(rule['kind']), RULES)}")
        return rule


class Ablation(Config):
    """One question, its claims, and where their records lie.

    `records`: folders of records relative to that of the file, the most telling first, one for each grid: a claim is judged by
    the first whose records it can be judged by; a folder may hold lines of benchmarks, too. `ours`: engine, encoder and data of
    these records. `clusters`: whether claims ask for figures of clusters, which are then computed beside the records where
    their artifacts are in the cache.
    """

    name: str
    question: str
    ours: str
    records: tuple[str, ...] = Field(("full", "quick"), min_length=1)
    clusters: bool = False
    claims: tuple[Claim, ...] = Field(min_length=1)

    @field_validator("claims", mode="before")
    @classmethod
    def _errors_name_the_claim(cls, claims: Any) -> Any:
        """Each by itself, so that what is wrong in it is told by its id and not by its number."""
        for number, claim in enumerate(claims if isinstance(claims, list | tuple) else ()):
            try:
                Claim.model_validate(claim)
            except ValidationError as error:
                name = claim.get("id") if isinstance(claim, Mapping) else None
                raise ValueError(f"{f'claim {name!r}' if name else number}: {explain(error, Claim)}") from None
        return claims

    @field_validator("claims")
    @classmethod
    def _ids_are_unique(cls, claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
        ids = [claim.id for claim in claims]
        if twice := sorted({each for each in ids if ids.count(each) > 1}):
            raise ValueError(f"two claims are called {twice[0]!r}; give each an id of its own")
        return claims

    def folder(self, beside: Path) -> Path:
        """The first of the folders of `records`, beside the file's, that holds finished records; the last where none does."""
        folders = [beside / name for name in self.records]
        return next((folder for folder in folders if any(folder.rglob(RECORD))), folders[-1])

    def measure(self, folder: Path) -> None:
        """Compute beside the records below a folder what they do not hold themselves: agreement with exact search, clusters."""
        compare_rankings(folder)
        if self.clusters:
            measure_clusters(folder)

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read a `claims.yaml`. Raises ConfigError that names the file and what is wrong in it."""
        return load_config(cls, file)
