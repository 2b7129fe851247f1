"""The file of a sweep: which points it stands for, and what it refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colbert_research.settings import ConfigError, flat, parse_overrides, written
from colbert_research.sweep import SweepConfig
from colbert_research.sweep.config import Point


def points(**given) -> list[dict]:
    return [dict(point.overrides) for point in SweepConfig(base="a.yaml", **given).expand()]


def test_a_grid_is_every_value_with_every_other():
    found = points(grid={"codec.nbits": [1, 2], "k": [10, 20, 30]})
    assert found == [{"codec.nbits": b, "k": k} for b in (1, 2) for k in (10, 20, 30)]


def test_what_goes_together_goes_together():
    found = points(
        points=[{"codec": {"kind": "exact"}}, {"codec.kind": "residual", "codec.nbits": 2}],
        zip={"search.ndocs": [100, 200], "search.n_exact": [10, 20]},
        repeat=[1, 2],
        overrides={"k": 5},
    )
    assert len(found) == 8
    assert found[0] == {"k": 5, "codec.kind": "exact", "search.ndocs": 100, "search.n_exact": 10, "seed": 1}
    assert found[-1] == {
        "k": 5, "codec.kind": "residual", "codec.nbits": 2, "search.ndocs": 200, "search.n_exact": 20, "seed": 2,
    }  # fmt: skip


def test_several_bases_and_none_of_the_excluded():
    config = SweepConfig(
        base=["a.yaml", "b.yaml"], grid={"x": [1, 2], "y": [1, 2, 3]}, exclude=[{"x": 1, "y": [2, 3]}, {"y": 1, "x": 2}]
    )
    found = [(point.base, point.overrides["x"], point.overrides["y"]) for point in config.expand()]
    assert found == [(base, x, y) for base in ("a.yaml", "b.yaml") for x, y in [(1, 1), (2, 2), (2, 3)]]
    assert config.size == 12


def test_a_point_is_laid_over_what_all_have_setting_by_setting():
    (found,) = points(overrides={"codec.nbits": 4, "k": 5}, grid={"codec": [{"kind": "residual", "nbits": 2}]})
    assert found == {"k": 5, "codec.kind": "residual", "codec.nbits": 2}
    assert Point("a.yaml", found).text.count("nbits") == 1


def test_what_is_excluded_may_be_written_as_text():
    assert points(grid={"x": [1, 2]}, exclude=[{"x": "2"}]) == [{"x": 1}]


def test_latency_is_a_setting_of_all():
    assert points(latency={"repeats": 5}) == [{"latency": {"repeats": 5}}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grid": {"codec.nbits": []}}, "codec.nbits has no values, so there would be no experiments"),
        ({"zip": {"a": [1, 2], "b": [1]}}, "zip: all lists must be of one length; given {'a': 2, 'b': 1}"),
        ({"grid": {"a": [1]}, "zip": {"a": [2]}}, "a is set by zip too"),
        ({"grid": {"codec": [{"kind": "exact"}]}, "points": [{"codec.nbits": 2}]}, "codec is set by points too"),
        ({"grid": {"seed": [1]}, "repeat": [2]}, "repeat: seed is set by grid too"),
        ({"grid": {"a": [1]}, "exclude": [{"b": 1}]}, "exclude: b is none of the settings that vary; .*Valid: a"),
        ({"grid": {"a": 3}}, "grid"),
        ({"gird": {"a": [3]}}, "did you mean 'grid'"),
        ({"repeat": [-1]}, "repeat"),
        ({"base": []}, "base"),
    ],
)
def test_what_is_refused(tmp_path, given, message):
    import yaml

    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"base": "a.yaml", **given}))
    with pytest.raises(ConfigError, match=rf"s\.yaml is not valid: .*{message}"):
        SweepConfig.load(tmp_path / "s.yaml")


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
        st.sampled_from(["null", "true", "1e-6", "007", "a b", "C:\\x", "[Q] ", "{a}", "a'b", 'a"b', "", "x:", "~", "a#b"]),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["a.b", "a.c", "k", "x.y.z"]), VALUES, max_size=4))
def test_the_text_of_overrides_leads_back_to_them(overrides):
    """Numbers and truth values arrive as text, which a field of their type understands; all else as it was."""
    try:
        text = Point("a.yaml", overrides).text
    except ConfigError as error:
        assert "cannot be written as an override; put it into a config file" in str(error)
        return
    found = dict(flat(parse_overrides(text)))
    assert set(found) == set(overrides)
    for name, value in overrides.items():
        plain = isinstance(value, (bool, int, float)) and value is not None
        assert found[name] == ({True: "true", False: "false"}.get(value, str(value)) if plain else value) or (
            plain and float(found[name]) == value
        )


def test_text_that_no_quotes_hold():
    with pytest.raises(ConfigError, match="cannot be written as an override"):
        written({"a": "'\" "})
