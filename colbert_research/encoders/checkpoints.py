"""Which of the published layouts a folder of a late-interaction checkpoint has, told from its JSON files alone.

Asked before loading, because `MultiVectorEncoder` gives whatever it does not know a random projection to 128 dimensions.
"""

import json
from pathlib import Path
from typing import Any, Literal

from colbert_research.settings import ConfigError

Layout = Literal["stanford", "pylate", "native"]

# keys of config_sentence_transformers.json that only PyLate writes; its first versions wrote no model_type
_PYLATE_KEYS = ("query_prefix", "document_prefix", "attend_to_expansion_tokens", "do_query_expansion")


def layout_of(folder: Path, *, model: str) -> Layout:
    """The layout of the checkpoint in `folder`.

    `stanford`: config.json of the architecture HF_ColBERT, `linear.weight` among the weights, artifact.metadata. `pylate`:
    modules.json with a Dense, and PyLate's keys. `native`: saved by MultiVectorEncoder. Raises `ConfigError` for a bare
    transformer, a single-vector model, an image retriever and a Stanford checkpoint without its artifact.metadata.
    """
    if (folder / "modules.json").is_file():
        return _of_modules(folder, model)
    architectures = [str(a) for a in read(folder / "config.json").get("architectures") or ()]
    if "HF_ColBERT" in architectures:
        if not (folder / "artifact.metadata").is_file():
            raise ConfigError(
                f"model {model!r} is a Stanford ColBERT checkpoint without its artifact.metadata, which holds its markers, "
                f"lengths and attention rule; put that file into {folder}"
            )
        return "stanford"
    if any(a.endswith("ForRetrieval") for a in architectures):
        raise ConfigError(f"model {model!r} ({architectures[0]}) retrieves images: it encodes a text as a query only")
    raise ConfigError(
        f"model {model!r} is a bare transformer ({', '.join(architectures) or 'no architecture named'}) without a projection "
        "for late interaction; with kind: multivector it would get a random one. Use kind: transformer, whose token vectors "
        "are its last hidden states"
    )


def is_late_interaction(folder: Path) -> bool:
    """Whether the folder holds a late-interaction checkpoint, of any layout."""
    if "HF_ColBERT" in (read(folder / "config.json").get("architectures") or ()):
        return True
    try:
        return bool(layout_of(folder, model=str(folder)))
    except ConfigError:
        return False


def _of_modules(folder: Path, model: str) -> Layout:
    modules: Any = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    types = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    described = read(folder / "config_sentence_transformers.json")
    pooled = [name for name in types if name.endswith("TokenPooling")]
    if pooled:
        raise ConfigError(
            f"model {model!r} ends in {pooled[0]}, whose vectors belong to no single token; take that module out of its "
            "modules.json and pool as a separate step"
        )
    model_type = described.get("model_type")
    if model_type == "MultiVectorEncoder":
        return "native"
    if "Dense" in types and (model_type == "ColBERT" or any(key in described for key in _PYLATE_KEYS)):
        return "pylate"
    raise ConfigError(
        f"model {model!r} is no late-interaction checkpoint: its modules are {', '.join(types)} and its model_type is "
        f"{model_type!r}. Use kind: transformer for the token vectors of its transformer"
    )


def read(path: Path) -> dict[str, Any]:
    """The JSON mapping in `path`; empty when there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
