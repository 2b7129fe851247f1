"""Token vectors on disk, written in shards: a run that was cut short resumes where it was and ends with the same bytes.

A folder holds `vectors.npy`, `token_ids.npy`, `offsets.npy` and `journal.json`, which says how much of them counts: it is
replaced, by one rename, only after a shard has reached the disk; what lies behind it is cut off when the run is taken up again.
It holds the SHA-256 of the rows that count, so that nothing is appended to rows that are damaged.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from colbert_research.artifacts import read_json, write_json
from colbert_research.config import content_hash
from colbert_research.encoders.base import TokenVectors, checked
from colbert_research.progress import reporting
from colbert_research.ragged import NpyWriter, Ragged, hash_of_rows, item_at, load_npy, unfit_row

Encode = Callable[[Sequence[str]], TokenVectors]
JOURNAL = "journal.json"
SHARD_DOCUMENTS = 1024
_FILES = ("vectors", "token_ids", "offsets")
Hashes = dict[str, Any]  # of the rows of each file, SHA-256


FILES = (JOURNAL, *(f"{name}.npy" for name in _FILES))
"""What a folder holds."""


class LeftoversError(ValueError):
    """A folder that cannot be taken up again: of other work, of somebody else, or damaged since."""


def encode_to_folder(
    encode: Encode,
    texts: Sequence[str],
    folder: str | Path,
    *,
    shard_documents: int = SHARD_DOCUMENTS,
    dtype: Literal["float32", "float16"] = "float32",
    description: str = "encode",
    fingerprint: str | None = None,
    rounding: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Encode `texts` shard by shard into `folder`; returns notes: documents, tokens, dim, dtype, bytes, seconds, resumed_at.

    Memory is bounded by one shard of `shard_documents` texts. `fingerprint` stands for what `encode` computes, `rounding` for
    what moves its last bits; when it is a method of an `Encoder`, they need not be given. A folder that was begun with other
    texts, another fingerprint, rounding, shard size or dtype, or that was damaged since, is a `LeftoversError`; one that is
    finished is left as it is. An error of `encode` leaves the folder to be taken up again.
    """
    if shard_documents < 1:
        raise ValueError(f"shard_documents must be at least 1; given {shard_documents}")
    start_time, texts, folder = time.monotonic(), checked(texts), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    work = _work(encode, texts, shard_documents, dtype, fingerprint, rounding)
    journal = resumed = _open_journal(folder, work, documents=len(texts))
    hashes = _hashes_of_kept(folder, journal, dtype)
    # no texts at all are one empty shard, so that the files exist
    starts = range(0) if _done(journal) else range(journal["documents"], max(len(texts), 1), shard_documents)
    with ExitStack() as stack, reporting(total=len(texts), description=description, unit="texts") as report:
        writers: list[NpyWriter] = []
        for start in starts:
            report.at(start)
            stop = min(start + shard_documents, len(texts))
            shard = encode(texts[start:stop])
            dim = _check(shard, range(start, stop), journal["dim"], dtype)
            if not writers:
                writers = _open_writers(stack, folder, journal, dim, dtype)
            _append(writers, hashes, shard, journal)
            kept = {name: hashed.hexdigest() for name, hashed in hashes.items()}
            journal = {**journal, "documents": stop, "tokens": writers[0].rows, "dim": dim, "sha256": kept}
            write_json(folder / JOURNAL, journal)
            report.at(stop)
    return {
        **{key: journal[key] for key in ("documents", "tokens", "dim")},
        "dtype": dtype,
        "bytes": sum((folder / f"{name}.npy").stat().st_size for name in _FILES),
        "resumed_at": resumed["documents"],
        "seconds": time.monotonic() - start_time,
    }


def open_vectors(folder: str | Path, *, mmap: bool = True) -> TokenVectors:
    """The token vectors in a finished folder, in the dtype that they were stored in; memory-mapped unless `mmap=False`."""
    folder = Path(folder)
    if not (folder / JOURNAL).is_file():
        raise FileNotFoundError(f"{folder} holds no {JOURNAL}: it was not written by encode_to_folder")
    journal = read_json(folder / JOURNAL)
    if not _done(journal):
        raise ValueError(
            f"{folder} is unfinished: {journal['documents']} of {journal['of']} texts are encoded; run encode_to_folder again"
        )
    offsets = load_npy(folder / "offsets.npy", mmap=False)
    vectors, token_ids = (load_npy(folder / f"{name}.npy", mmap=mmap) for name in ("vectors", "token_ids"))
    return TokenVectors(Ragged(vectors, offsets), Ragged(token_ids, offsets))


def _work(
    encode: Encode,
    texts: Sequence[str],
    shard_documents: int,
    dtype: str,
    fingerprint: str | None,
    rounding: Mapping[str, Any] | None,
) -> str:
    """A hash of everything that decides the bytes of the folder."""
    owner: Any = getattr(encode, "__self__", None)
    if fingerprint is None and hasattr(owner, "fingerprint"):
        fingerprint = f"{owner.fingerprint()}.{encode.__name__}"
    if rounding is None and hasattr(owner, "rounding"):
        rounding = owner.rounding()
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return content_hash(digest.hexdigest(), shard_documents, dtype, fingerprint or "", dict(rounding or {}))


def _open_journal(folder: Path, work: str, *, documents: int) -> dict[str, Any]:
    fresh = {"work": work, "of": documents, "documents": 0, "tokens": 0, "dim": None, "sha256": {}}
    if (folder / JOURNAL).is_file():
        try:
            journal = dict(read_json(folder / JOURNAL))
        except (ValueError, TypeError) as error:
            raise LeftoversError(f"{folder / JOURNAL} cannot be read ({error}): delete {folder} to start again") from error
        if journal.get("work") != work:
            raise LeftoversError(
                f"{folder} was begun with other texts or settings (its {JOURNAL} says {journal.get('work')}, these are "
                f"{work}): delete it to start again, or choose another folder"
            )
        if set(journal) != set(fresh) or journal["of"] != documents:
            raise LeftoversError(f"{folder / JOURNAL} was written by another version: delete {folder} to start again")
        return journal
    present = [f"{name}.npy" for name in _FILES if (folder / f"{name}.npy").exists()]
    if present:
        raise LeftoversError(
            f"{folder} has {', '.join(present)} and no {JOURNAL}, so they are somebody else's: choose another folder"
        )
    write_json(folder / JOURNAL, fresh)
    return fresh


def _hashes_of_kept(folder: Path, journal: dict[str, Any], dtype: str) -> Hashes:
    """Hashes of the rows that the journal counts. Raises LeftoversError where the files hold others."""
    if journal["dim"] is None:
        return {name: hashlib.sha256() for name in _FILES}
    tokens = journal["tokens"]
    nbytes = {
        "vectors": tokens * journal["dim"] * np.dtype(dtype).itemsize,
        "token_ids": tokens * np.dtype(np.int32).itemsize,
        "offsets": (journal["documents"] + 1) * np.dtype(np.int64).itemsize,
    }
    hashes = {}
    for name in _FILES:
        path = folder / f"{name}.npy"
        try:
            hashes[name] = hash_of_rows(path, nbytes[name])
            if _done(journal):
                load_npy(path, mmap=True)
        except (OSError, ValueError) as error:
            raise LeftoversError(
                f"{path} was damaged since it was written ({error}): delete {folder} to start again"
            ) from error
        if hashes[name].hexdigest() != journal["sha256"].get(name):
            raise LeftoversError(f"{path} is not what {JOURNAL} says (SHA-256 differs): delete {folder} to start again")
    return hashes


def _done(journal: dict[str, Any]) -> bool:
    return journal["dim"] is not None and journal["documents"] == journal["of"]


def _check(shard: TokenVectors, texts: range, dim: int | None, dtype: str) -> int:
    """The width of a shard's vectors; raises `ValueError` when it does not fit the texts, the shards before it or the dtype."""
    vectors, token_ids = shard
    if len(vectors) != len(texts) or not np.array_equal(vectors.offsets, token_ids.offsets):
        raise ValueError(
            f"encode gave {vectors!r} and {token_ids!r} for {len(texts)} texts; expected one item per text in both"
        )
    if vectors.values.ndim != 2 or dim not in (None, vectors.dim):
        raise ValueError(f"encode gave vectors of shape {vectors.values.shape}; expected (tokens, {dim or 'dim'})")
    row = unfit_row(vectors.values, dtype)
    if row is not None:
        raise ValueError(
            f"text {texts[item_at(vectors.offsets, row)]} was encoded to a token vector that is not finite in {dtype} (NaN, "
            "infinite or too long); look at that text, at the precision that the encoder computes in, and at the dtype kept"
        )
    return vectors.dim


def _open_writers(stack: ExitStack, folder: Path, journal: dict[str, Any], dim: int, dtype: str) -> list[NpyWriter]:
    """Writers of the three files, in the order of `_FILES`, placed behind the rows that the journal counts."""
    tokens, documents = journal["tokens"], journal["documents"]
    vectors = stack.enter_context(NpyWriter(folder / "vectors.npy", dtype, (dim,), rows=tokens))
    token_ids = stack.enter_context(NpyWriter(folder / "token_ids.npy", np.int32, rows=tokens))
    offsets = stack.enter_context(NpyWriter(folder / "offsets.npy", np.int64, rows=documents + 1 if documents else 0))
    return [vectors, token_ids, offsets]


def _append(writers: list[NpyWriter], hashes: Hashes, shard: TokenVectors, journal: dict[str, Any]) -> None:
    offsets = shard.vectors.offsets[0 if not journal["documents"] else 1 :] + journal["tokens"]
    rows = (shard.vectors.values, shard.token_ids.values, offsets)
    for writer, name, new in zip(writers, _FILES, rows, strict=True):
        new = np.ascontiguousarray(new, dtype=writer.dtype)
        writer.append(new)
        writer.sync()
        hashes[name].update(new.data if new.size else b"")
