"""Settings that tell experiments apart, whatever version wrote them down."""

import sys

import pytest

from colbert_research.experiment.differing import as_of_now, differing, labels, settings_of_now, value_text
from colbert_research.experiment.experiment import Experiment
from tests.experiment.small import make

SETTINGS = [
    {"dataset.path": "a", "codec.kind": "residual", "codec.nbits": 4, "codec.seed": 1, "k": 10, "latency": None},
    {"dataset.path": "b", "codec.kind": "residual", "codec.nbits": 2, "codec.seed": 1, "k": 10, "latency.repeats": 2},
    {"dataset.path": "b", "codec.kind": "exact", "codec.dtype": "float16", "k": 10, "latency": None},
]


def config(cache, folder, overrides: str = "") -> dict:
    made: Experiment = make(cache, folder, overrides)
    return made.config.model_dump(mode="json")


def test_settings_that_differ_or_that_some_lack():
    expected = ["dataset.path", "codec.kind", "codec.nbits", "codec.seed", "codec.dtype", "latency", "latency.repeats"]
    assert differing(SETTINGS) == expected
    assert differing(SETTINGS[:1]) == differing([]) == []
    assert differing([{"measures": ["AP"]}, {"measures": ("AP",)}]) == []


def test_labels_are_what_decides_a_ranking():
    assert labels(SETTINGS) == ["codec.kind=residual codec.nbits=4", "codec.kind=residual codec.nbits=2", "codec.kind=exact"]
    assert labels(SETTINGS[:1]) == [""]
    assert labels([{"k": None, "a": [1, 2]}, {"k": 3, "a": [1]}]) == ["k=null a=[1,2]", "k=3 a=[1]"]


@pytest.mark.parametrize(("value", "text"), [(None, "null"), ([1, [2]], "[1,[2]]"), ({}, "{}"), (0.5, "0.5"), ("x", "x")])
def test_values_as_overrides_give_them(value, text):
    assert value_text(value) == text


def test_a_setting_that_has_come_since_stands_at_its_default(cache, folder):
    now = config(cache, folder)
    earlier = {name: value for name, value in now.items() if name != "pooling"}
    assert settings_of_now(earlier) == settings_of_now(now)
    assert differing([settings_of_now(earlier), settings_of_now(now)]) == []
    no_more = now | {"k": "many"}
    assert as_of_now(no_more) == no_more


def test_reading_settings_loads_no_code(cache, folder, tmp_path, monkeypatch):
    (tmp_path / "a_codec_of_mine.py").write_text("raise SystemExit('loaded')")
    monkeypatch.syspath_prepend(tmp_path)
    own = config(cache, folder) | {"codec": {"kind": "a_codec_of_mine:MineConfig", "size": 3}}
    assert settings_of_now(own)["codec.size"] == 3
    assert "a_codec_of_mine" not in sys.modules
