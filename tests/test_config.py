"""Configs: what is understood, what is refused and how, and what identifies an experiment."""

from typing import Literal

import pytest

from colbert_research.config import (
    Config,
    Threshold,
    canonical_json,
    component,
    config_id,
    content_hash,
    load_config,
    no_imports,
)
from colbert_research.settings import ConfigError, merge, parse_overrides


class SmallConfig(Config):
    kind: Literal["small"] = "small"
    size: Literal[1, 2, 4] = 2
    rate: float = 0.5


class LargeConfig(Config):
    kind: Literal["large"] = "large"
    limit: Threshold | None = None


SHAPES: dict[str, type[Config]] = {"small": SmallConfig, "large": LargeConfig}


class Whole(Config):
    shape: component("shape", SHAPES, default="small") = "small"  # type: ignore[valid-type]
    names: tuple[str, ...] = ("a",)
    flag: bool = False
    number: int | Literal["auto"] = "auto"


def test_overrides():
    text = "shape.kind=large shape.limit.quantile=1e-1 names=[x,'y z'] flag=false number=12"
    config = load_config(Whole, None, text)
    assert config.shape == LargeConfig(limit=Threshold(quantile=0.1))
    assert config.names == ("x", "y z")
    assert config.flag is False
    assert config.number == 12
    assert load_config(Whole, None, "shape.size=4").shape.size == 4
    assert load_config(Whole, None, {"shape.rate": "1e-6"}).shape.rate == 1e-6
    assert load_config(Whole, None, "shape.kind=large shape.limit=null").shape.limit is None
    assert parse_overrides("a.b='c d' e=") == {"a": {"b": "c d"}, "e": ""}


class Texts(Config):
    prefix: str = ""
    maybe: str | None = None
    path: str = ""
    names: tuple[str, ...] = ()
    number: int = 1
    rate: float | None = None
    flag: bool = False
    shape: component("shape", SHAPES, default="small") = "small"  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("prefix='[Q] '", {"prefix": "[Q] "}),
        ("prefix='{a: 1}'", {"prefix": "{a: 1}"}),
        ("maybe='[D]' path=x", {"maybe": "[D]", "path": "x"}),
        ('prefix="it\'s" maybe=null', {"prefix": "it's"}),
        ("prefix=it's", {"prefix": "it's"}),
        ("prefix='null'", {"prefix": "null"}),
        (r"path=C:\data\new", {"path": r"C:\data\new"}),
        (r"path='C:\my data\x'", {"path": r"C:\my data\x"}),
        ("'path=my data' number=2", {"path": "my data", "number": 2}),
        ("names='[a, b]'", {"names": ("a", "b")}),
        ("names=['a b', c]  number=3", {"names": ("a b", "c"), "number": 3}),
        ("shape='{kind: large, limit: {value: 1}}'", {"shape": LargeConfig(limit=Threshold(value=1))}),
        ("shape={kind: 'large'}", {"shape": LargeConfig()}),
        ("  number=5\n flag=true ", {"number": 5, "flag": True}),
        ({"prefix": "[Q] "}, {"prefix": "[Q] "}),
    ],
)
def test_a_string_stays_a_string_where_the_field_is_one(overrides, expected):
    assert load_config(Texts, None, overrides) == Texts(**expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("prefix=[Q]", "prefix: .*valid string.*given \\['Q'\\]"),
        ("number=1 number=2", "overrides give 'number' twice"),
        ("prefix='a'b", "expected a space at 'b'"),
        ({"number": True}, "number: expected a number; given True"),
        ({"rate": False}, "rate: expected a number; given False"),
    ],
)
def test_what_would_be_taken_for_something_else(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(Texts, None, overrides)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"flag: \xff\n", "is not UTF-8"),
        (b"flag: true\nflag: false\n", "the key 'flag' is there twice"),
        (b"shape: {kind: small, size: 1, size: 2}", "the key 'size' is there twice"),
        (b"names: " + b"[" * 5000, "nested too deeply|not valid YAML"),
        (b"number: true", "number: expected a number; given True"),
    ],
)
def test_files_that_say_nothing_sensible(tmp_path, data, message):
    (tmp_path / "a.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load_config(Whole, tmp_path / "a.yaml")


def test_a_file_may_extend_several(tmp_path):
    (tmp_path / "one.yaml").write_text("shape: {kind: small, size: 4}\nnumber: 1\n")
    (tmp_path / "two.yaml").write_text("shape: {rate: 0.25}\nnumber: 2\n")
    (tmp_path / "both.yaml").write_text("extends: [one.yaml, two.yaml]\nflag: true\n")
    assert load_config(Whole, tmp_path / "both.yaml") == Whole(shape=SmallConfig(size=4, rate=0.25), number=2, flag=True)


def test_a_class_outside_that_calls_itself_otherwise(tmp_path, monkeypatch):
    source = "from typing import Literal\nfrom colbert_research.config import Config\n"
    source += "class Mine(Config):\n    kind: Literal['mine'] = 'mine'\n"
    (tmp_path / "calls_itself.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"says that its kind is 'mine'.*write `kind: Literal\['calls_itself:Mine'\]"):
        load_config(Whole, None, "shape.kind=calls_itself:Mine")
    (tmp_path / "calls_rightly.py").write_text(source.replace("'mine'", "'calls_rightly:Mine'"))
    shape = load_config(Whole, None, "shape.kind=calls_rightly:Mine").shape
    assert load_config(Whole, None, {"shape": shape.model_dump()}).shape == shape


def test_what_a_file_says_loads_no_code(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with no_imports(), pytest.raises(ConfigError, match="if you trust where the file comes from, `import planted` first"):
        load_config(Whole, None, "shape.kind=planted:Thing")
    assert not (tmp_path / "planted.ran").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("shap=small", "unknown key 'shap', did you mean 'shape'"),
        ("shape.sise=2", "unknown key 'sise', did you mean 'size'"),
        ("shape.kind=large shape.limit.quantil=0.1", "did you mean 'quantile'"),
        ("shape.kind=smal", "did you mean 'small'"),
        ("shape.size=3", "1, 2 or 4"),
        ("shape.kind=nowhere:Thing", "cannot be imported"),
        ("shape.kind=pathlib:Path", "is not a Config class"),
        ("flag=perhaps", "flag: .*given 'perhaps'"),
        ("flag", "not of the form name=value"),
        ("names=[a", "not a valid list"),
        ("shape.kind=large shape.limit='{value: 1, quantile: 0.5}'", "either a value or a quantile"),
        ("shape.kind=large shape.limit.quantile=2", "less than or equal to 1"),
    ],
)
def test_what_is_not_understood_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(Whole, None, overrides)


def test_files(tmp_path, monkeypatch):
    (tmp_path / "base.yaml").write_text("shape: {kind: small, size: 4}\nnames: [p]\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nshape: {rate: 0.25}\n")
    (tmp_path / "other.yaml").write_text("extends: child.yaml\nshape: {kind: large}\n")
    child = load_config(Whole, tmp_path / "child.yaml")
    assert child.shape == SmallConfig(size=4, rate=0.25)
    assert child.names == ("p",)
    assert load_config(Whole, tmp_path / "other.yaml").shape == LargeConfig()
    with pytest.raises(ConfigError, match=r"no config file.*did you mean '.*child\.yaml'"):
        load_config(Whole, tmp_path / "chlid.yaml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"no config file.*did you mean '/.*/configs/plaid\.yaml'"):
        load_config(Whole, "configs/plaid.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(Whole, tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(Whole, tmp_path / "list.yaml")


def test_an_axis_can_be_extended(monkeypatch):
    class MineConfig(Config):
        kind: Literal["mine"] = "mine"

    with pytest.raises(ConfigError, match="unknown shape kind 'mine'"):
        load_config(Whole, None, "shape.kind=mine")
    monkeypatch.setitem(SHAPES, "mine", MineConfig)
    assert isinstance(load_config(Whole, None, "shape.kind=mine").shape, MineConfig)


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        SmallConfig().size = 4


def test_the_id_is_of_the_resolved_config():
    one = load_config(Whole, None, "shape.size=4 flag=true")
    two = load_config(Whole, None, {"flag": True, "shape": {"size": 4, "kind": "small"}})
    assert config_id(one) == config_id(two)
    assert len(config_id(one)) == 12
    assert int(config_id(one), 16) >= 0
    assert config_id(one) != config_id(load_config(Whole, None, "shape.size=4"))


def test_merge_keeps_the_settings_of_the_same_kind_only():
    base = {"a": {"kind": "x", "p": 1}, "b": 2}
    assert merge(base, {"a": {"q": 3}}) == {"a": {"kind": "x", "p": 1, "q": 3}, "b": 2}
    assert merge(base, {"a": {"kind": "y"}}) == {"a": {"kind": "y"}, "b": 2}


def test_assignments_may_come_in_any_order_and_hold_spaces():
    assert load_config(Whole, None, "shape.limit.value=3 shape.kind=large").shape == LargeConfig(limit=Threshold(value=3))
    assert load_config(Whole, None, {"shape.size": 4, "shape.kind": "small"}).shape.size == 4
    assert load_config(Whole, None, "names=[a, b] flag=true").names == ("a", "b")
    assert load_config(Whole, None, "shape={kind: large, limit: {value: 1}} flag=true").shape.limit == Threshold(value=1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("names='a", "No closing quotation"),
        ("=3", "not of the form"),
        ("names=[a flag=true", "not a valid list"),
        ("shape=[1]", "expected a mapping with a `kind`"),
        ("shape.kind=.nowhere:Thing", "cannot be imported"),
        ("shape.kind=:Thing", "cannot be imported"),
        ("shape.kind=large shape.limit='{}'", "either a value or a quantile"),
        ("shape.kind=large shape.limit.value=nan", "finite"),
        ("shape.rate=[1]", "rate: .*given"),
    ],
)
def test_malformed_overrides(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(Whole, None, overrides)


def test_a_class_outside_the_package(tmp_path, monkeypatch):
    source = "from colbert_research.config import Config\nclass Round(Config):\n    kind: str\n    radius: float = 1.0\n"
    (tmp_path / "outside_shapes.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    shape = load_config(Whole, None, "shape.kind=outside_shapes:Round shape.radius=2").shape
    assert (type(shape).__name__, shape.radius) == ("Round", 2.0)
    with pytest.raises(ConfigError, match="did you mean 'radius'"):
        load_config(Whole, None, "shape.kind=outside_shapes:Round shape.radios=2")


def test_extends_is_relative_to_the_file_that_says_it(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "base.yaml").write_text("flag: true\nnumber: 1\n")
    (tmp_path / "below" / "middle.yaml").write_text("extends: ../base.yaml\nnumber: 2\n")
    (tmp_path / "leaf.yaml").write_text("extends: below/middle.yaml\nnames: [z]\n")
    assert load_config(Whole, tmp_path / "leaf.yaml", "number=3") == Whole(flag=True, number=3, names=("z",))
    (tmp_path / "base.yaml").write_text("extends: leaf.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(Whole, tmp_path / "leaf.yaml")
    (tmp_path / "base.yaml").write_text("extends: leef.yaml\n")
    with pytest.raises(ConfigError, match=r"did you mean '.*leaf\.yaml'"):
        load_config(Whole, tmp_path / "leaf.yaml")


def test_one_resolved_config_has_one_id_however_it_was_given(tmp_path):
    (tmp_path / "base.yaml").write_text("shape: {kind: large, limit: {value: 1.0}}\n")
    (tmp_path / "one.yaml").write_text("extends: base.yaml\nflag: yes\nnumber: 7\n")
    (tmp_path / "two.yaml").write_text("number: '7'\nshape: {limit: {value: 1, quantile: null}, kind: large}\nflag: 'true'\n")
    given = [
        load_config(Whole, tmp_path / "one.yaml"),
        load_config(Whole, tmp_path / "two.yaml"),
        load_config(Whole, tmp_path / "base.yaml", "number=7 flag=True"),
        load_config(Whole, None, "shape.limit.value=1.0 flag=1 shape.kind=large names=[a] number=7"),
        Whole(number=7, flag=True, shape=LargeConfig(limit=Threshold(value=1))),
    ]
    assert len({config_id(config) for config in given}) == 1
    changes = ["number=8", "flag=false", "names=[a,b]", "shape.limit.value=1.5", "shape.limit={value: null, quantile: 1}"]
    ids = {config_id(load_config(Whole, tmp_path / "one.yaml", change)) for change in changes}
    assert len(ids | {config_id(given[0])}) == len(changes) + 1
    assert all(len(one) == 12 and set(one) <= set("0123456789abcdef") for one in ids)


def test_canonical_json_has_one_text():
    assert canonical_json({"b": (1, None), "a": {"d": "é", "c": 0.5}}) == '{"a":{"c":0.5,"d":"é"},"b":[1,null]}'
    assert canonical_json(Threshold(value=1)) == '{"value":1.0}'
    assert content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1}) != content_hash({"a": 2}, {"b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
