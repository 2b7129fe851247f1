"""The folder of an index: built beside its place, put there by a rename, and compressed once it is no longer small."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from colbert_research.codecs import ExactConfig, ResidualConfig
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline, TokenVectors
from colbert_research.encoders.identity import rounding_of
from colbert_research.encoders.store import LeftoversError, encode_to_folder, open_vectors
from colbert_research.index import Index, build_index
from colbert_research.index.importers import import_index, open_foreign
from colbert_research.index.importers.stanford import SIGN
from colbert_research.index.manifest import MANIFEST, writing
from colbert_research.rag.pretrained import pretrained
from colbert_research.search import Retriever
from colbert_research.settings import ConfigError, nearest

logger = logging.getLogger("colbert_research")

EXACT_TOKENS = 100_000
"""Up to so many tokens an index holds its vectors as they are, and a search scores every passage; beyond, 4-bit residuals."""
_STANFORD = "plan.json"
_NEW, _OLD, _VECTORS, _ADDED = "new", "old", "vectors", "added"


def codec_for(n_tokens: int) -> Any:
    """The codec of an index of so many tokens, where the user does not say: see `EXACT_TOKENS`."""
    return ExactConfig() if n_tokens <= EXACT_TOKENS else ResidualConfig(nbits=4)


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError for a folder that an index may not be put into."""
    recover(path)
    if (path / MANIFEST).is_file():
        if not overwrite:
            raise FileExistsError(f"{path} holds an index; overwrite_index=True replaces it, add_to_index adds to it")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"{path} holds something else than an index of this package (one that RAGatouille built, say), and nothing of it "
            "is deleted; choose another index_name or index_root, or move it away"
        )


def build(path: Path, passages: Collection, pipeline: TextPipeline, *, codec: Any = None, overwrite: bool = True) -> Index:
    """Encode passages, index them, and put the index in place of what was there; a build that dies leaves that as it was.

    Encoding that was interrupted goes on where it was when the same passages are built again. Raises as `check_place` does.
    """
    if codec is not None and (isinstance(codec, type) or not hasattr(codec, "sample_size")):
        raise TypeError(f"codec is a codec's config, such as CODECS['residual'](nbits=2); given {codec!r:.80}")
    check_place(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    passages = _as_encoded(passages, pipeline)
    with writing(path):
        vectors = encode(pipeline, passages.texts, beside(path, _VECTORS))
        index = put(path, passages, vectors, pipeline, codec or codec_for(vectors.vectors.n_rows))
        shutil.rmtree(beside(path, _VECTORS), ignore_errors=True)
    return index


def encode(pipeline: TextPipeline, texts: Sequence[str], folder: Path) -> TokenVectors:
    """Token vectors of passages, written to `folder` shard by shard and memory-mapped."""
    how: dict[str, Any] = {"description": "encode", "rounding": rounding_of(pipeline.encoder_config)}
    try:
        encode_to_folder(pipeline.documents, texts, folder, **how)
    except LeftoversError:  # of other passages, or of another encoder
        shutil.rmtree(folder)
        encode_to_folder(pipeline.documents, texts, folder, **how)
    return open_vectors(folder)


def add(index: Index, passages: Collection, pipeline: TextPipeline) -> Index:
    """The index with more passages; compressed, once it is no longer small."""
    passages, folder = _as_encoded(passages, pipeline), beside(index.path, _ADDED)
    with writing(folder):  # one process adds at a time; the index can be read and changed meanwhile
        vectors = encode(pipeline, passages.texts, folder)
        index = compressed(index.add(passages, vectors))
        shutil.rmtree(folder, ignore_errors=True)
    return index


def put(path: Path, passages: Collection, vectors: Any, pipeline: TextPipeline, codec: Any) -> Index:
    """Build an index beside `path` and put it there; whose lock the caller holds."""
    new, old = beside(path, _NEW), beside(path, _OLD)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    built = build_index(new, passages, vectors, codec, pipeline=pipeline)
    logger.info("%d passages, %d tokens indexed as %r", len(built), built.n_tokens, codec)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    return Index.open(path)


def _as_encoded(passages: Collection, pipeline: TextPipeline) -> Collection:
    """The passages, which have no titles, with the pipeline's rule for the text of a document."""
    return replace(passages, text_fields=pipeline.text_fields)


def recover(path: Path) -> None:
    """Put back the index that a process left aside when it died between two renames."""
    if not path.exists() and (beside(path, _OLD) / MANIFEST).is_file():
        beside(path, _OLD).rename(path)


def opened(path: Path) -> Retriever:
    """The retriever of the index in `path`.

    Raises as `Retriever.open`, FileNotFoundError that names the indexes beside it where it is not there, and ConfigError for
    what RAGatouille began to build.
    """
    recover(path)
    names = [file.parent.name for file in path.parent.glob(f"[!.]*/{MANIFEST}")]
    if names and not path.exists():
        raise FileNotFoundError(f"there is no index {path.name!r} in {path.parent}; {nearest(path.name, names)}")
    if not (path / MANIFEST).is_file() and (path / _STANFORD).is_file():
        raise ConfigError(
            f"{path} was begun by RAGatouille (Stanford's ColBERT) and is not finished. Index its documents anew, their "
            "texts are in its collection.json: RAGPretrainedModel.from_pretrained(…).index(texts, index_name=another name)"
        )
    return Retriever.open(path)


def taken_over(path: Path) -> Path:
    """The index of ours that is made, once, of one that RAGatouille built in `path`; any other folder is given as it is.

    It lies beside it, and its codes and scores are those of then. The model is that which the folder names. Raises ConfigError
    where that is not found, and as `import_index` does.
    """
    if (path / MANIFEST).is_file() or not (path / SIGN).is_file():
        return path
    made = path.with_name(f"{path.name}-imported")
    if not (made / MANIFEST).is_file():
        foreign = open_foreign(path)
        if foreign.checkpoint is None:
            raise ConfigError(
                f"{path} does not name the model that made its vectors; say it: colbert_research.index.importers."
                "import_index(path, new_path, pipeline=TextPipeline.of(encoder_config)), and open new_path"
            )
        encoder = pretrained(foreign.checkpoint)
        if foreign.document_length is not None and hasattr(encoder, "document_length"):
            encoder = encoder.model_copy(update={"document_length": foreign.document_length})
        with suppress(FileExistsError):  # another process was faster
            import_index(path, made, pipeline=TextPipeline.of(encoder))
            logger.info("%s was built by RAGatouille: its passages lie now in %s, too", path, made)
    return made


def beside(path: Path, what: str) -> Path:
    """A folder of ours next to an index."""
    return path.with_name(f".{path.name}.{what}")


def compressed(index: Index) -> Index:
    """The same documents with the codec of an index that is no longer small; the index itself where it need not change."""
    if index.codec.config.kind != "exact" or codec_for(index.n_tokens).kind == "exact":  # type: ignore[attr-defined]
        return index
    logger.info("%s has grown to %d tokens, more than %d: it is compressed", index.path, index.n_tokens, EXACT_TOKENS)
    return index.rebuild(codec_for(index.n_tokens))
