"""Every numeric setting of every member of every axis has its range, and what lies outside is refused by name."""

import math
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import ValidationError

from colbert_research.codecs import CODECS
from colbert_research.config import Config, Threshold, explain
from colbert_research.data import DATASETS
from colbert_research.encoders import ENCODERS
from colbert_research.encoders.pooling import POOLERS
from colbert_research.encoders.reduce import REDUCERS
from colbert_research.executors import EXECUTORS, Resources
from colbert_research.experiment import ExperimentConfig
from colbert_research.index.build import BuildConfig
from colbert_research.search import STRATEGIES
from colbert_research.search.ann import ANNS
from colbert_research.search.first_stages import FIRST_STAGES
from colbert_research.search.graphs import GRAPHS
from colbert_research.search.imputation import IMPUTATIONS

AXES = [DATASETS, ENCODERS, POOLERS, REDUCERS, CODECS, STRATEGIES, ANNS, FIRST_STAGES, GRAPHS, IMPUTATIONS, EXECUTORS]
MEMBERS = {cls for axis in AXES for cls in axis.values()} | {BuildConfig, ExperimentConfig, Resources, Threshold}
SCORES = {
    ("Threshold", "value"),
    ("StanfordPlaid", "centroid_score_threshold"),
    ("NextPlaid", "centroid_score_threshold"),
    ("ConstantImputation", "value"),
}
"""Any finite number may be a score: vectors need not be L2-normalised."""


def options(annotation: Any) -> Iterator[Any]:
    """The types and literal values that an annotation allows, without its unions."""
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from options(part)
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        yield annotation


def numeric_settings() -> Iterator[tuple[type[Config], str, bool]]:
    """`(class, setting, whether it is whole)`."""
    for cls in sorted(MEMBERS, key=lambda cls: cls.__name__):
        for name, info in cls.model_fields.items():
            numbers = [a for a in options(info.annotation) if a in (int, float) or type(a) in (int, float)]
            if numbers:
                yield cls, name, float not in numbers


SETTINGS = list(numeric_settings())
IDS = [f"{cls.__name__}-{name}" for cls, name, _ in SETTINGS]


def assert_refused(cls: type[Config], name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        cls.model_validate({name: value})
    assert any(each["loc"][:1] == (name,) for each in caught.value.errors()), f"{name}={value!r}: {caught.value}"
    assert f"{name}: " in explain(caught.value, cls)
    assert f"given {value!r}" in explain(caught.value, cls)


def test_the_walk_finds_them():
    assert {(cls.__name__, name) for cls, name, _ in SETTINGS} >= {
        ("Plaid", "ncells"), ("ResidualConfig", "nbits"), ("ResidualConfig", "centroids"), ("WardPoolingConfig", "factor"),
        ("IvfAnn", "nprobe"), ("TopKImputation", "k_tokens"), ("StanfordPlaid", "ndocs"), ("ExperimentConfig", "k"),
    }  # fmt: skip


@pytest.mark.parametrize(("cls", "name", "whole"), SETTINGS, ids=IDS)
class TestNumbers:
    def test_what_is_no_number(self, cls, name, whole):
        for value in ("many", "", [1], {"a": 1}, math.nan, math.inf, -math.inf, "nan", "inf", *([1.5, "1.5"] if whole else [])):
            assert_refused(cls, name, value)

    def test_it_has_a_range(self, cls, name, whole):
        if (cls.__name__, name) not in SCORES:
            for value in (-1, "-1", -(10**12), *([] if whole else [-0.001])):
                assert_refused(cls, name, value)


@pytest.mark.parametrize("seed", [-1, 2**31, 10**20])
def test_seeds_that_some_library_would_not_take(seed):
    seeded = [cls for cls, name, _ in SETTINGS if name == "seed"]
    assert len(seeded) >= 4
    for cls in seeded:
        assert_refused(cls, "seed", seed)


@pytest.mark.parametrize("value", [0.4, "0.4", None])
def test_a_threshold_says_what_it_is(value):
    with pytest.raises(ValidationError, match="is it a value or a quantile"):
        STRATEGIES["emvb"].model_validate({"bit_threshold": value})


@pytest.mark.parametrize("quantile", [-0.01, 1.01, "2"])
def test_quantiles_outside(quantile):
    for kind, name in (("emvb", "bit_threshold"), ("emvb", "term_threshold"), ("plaid", "centroid_score_threshold")):
        with pytest.raises(ValidationError, match=rf"{name}.quantile\n  Input should be (greater|less) than or equal to [01]"):
            STRATEGIES[kind].model_validate({name: {"quantile": quantile}})


@pytest.mark.parametrize("measure", ["nDCG@0", "R@0", "RR@0"])
def test_a_measure_of_no_document(measure):
    with pytest.raises(ValidationError, match="its cutoff must be at least 1"):
        ExperimentConfig(measures=(measure,))
