"""Encode: the texts of one side of a collection to token vectors, in shards that resume."""

import logging
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from colbert_research.encoders.store import FILES, SHARD_DOCUMENTS, LeftoversError, encode_to_folder
from colbert_research.encoders.stored import open_stored
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages.differs import expect_equal
from colbert_research.experiment.workspace import Workspace

logger = logging.getLogger("colbert_research")
Side = Literal["documents", "queries"]
LEAST_CHECKED = 64  # texts; a shorter last shard is checked together with the first


def plan(workspace: Workspace, config: ExperimentConfig, side: Side) -> Stage:
    """The token vectors of the documents or queries; see `encoders.store` for the files."""
    fingerprint, rounding = workspace.fingerprint(config.encoder)
    settings = {
        "encoder": fingerprint,
        "rounding": rounding,
        "side": side,
        "texts": getattr(workspace.facts(config.dataset), side),
        "dtype": config.vectors,
    }
    return Stage("encode", settings, means={"encoder": config.encoder, "dataset": config.dataset})


def compute(workspace: Workspace, stage: Stage, folder: Path) -> dict[str, Any]:
    encode, texts = _work(workspace, stage)
    for strange in {path.name for path in folder.iterdir()} - {*FILES}:
        logger.warning("%s is no file of an encoding that was interrupted; it is removed", folder / strange)
        shutil.rmtree(folder / strange) if (folder / strange).is_dir() else (folder / strange).unlink()
    settings = stage.settings
    fingerprint, what = f"{settings['encoder']} {settings['rounding']}", f"encode {settings['side']}"
    try:
        return encode_to_folder(encode, texts, folder, dtype=settings["dtype"], description=what, fingerprint=fingerprint)
    except LeftoversError as error:
        logger.warning("%s; it is started anew", error)
        shutil.rmtree(folder)
        folder.mkdir()
    return encode_to_folder(encode, texts, folder, dtype=settings["dtype"], description=what, fingerprint=fingerprint)


def check(workspace: Workspace, stage: Stage, folder: Path) -> None:
    """Encode the last shard again, and the first one too where the last is short."""
    encode, texts = _work(workspace, stage)
    stored = open_stored(folder).tokens
    last = max(0, len(texts) - 1) // SHARD_DOCUMENTS * SHARD_DOCUMENTS
    for start in {last, 0} if len(texts) - last < LEAST_CHECKED else {last}:
        stop = min(start + SHARD_DOCUMENTS, len(texts))
        again = encode(texts[start:stop])
        vectors, token_ids = (part.slice(start, stop) for part in stored)
        expect_equal(f"vectors of texts {start} to {stop}", vectors.values, again.vectors.values.astype(vectors.values.dtype))
        expect_equal(f"token ids of texts {start} to {stop}", token_ids.values, again.token_ids.values)
        expect_equal(f"lengths of texts {start} to {stop}", np.diff(vectors.offsets), np.diff(again.vectors.offsets))


def _work(workspace: Workspace, stage: Stage) -> tuple[Any, Any]:
    encoder, collection = workspace.encoder_of(stage), workspace.collection_of(stage)
    if stage.settings["side"] == "documents":
        return encoder.encode_documents, collection.document_texts()
    return encoder.encode_queries, list(collection.query_texts)
