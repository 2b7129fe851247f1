"""An open index: one generation of it, as its manifest names it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.artifacts import read_json, sha256_file
from colbert_research.codecs import Codec, bytes_per_token, open_codec
from colbert_research.config import ConfigError
from colbert_research.encoders import TextPipeline
from colbert_research.index.auxiliary import Auxiliary, open_auxiliary
from colbert_research.index.damage import IndexCorruptedError, IndexMissingError
from colbert_research.index.documents import Document
from colbert_research.index.segment import Segment
from colbert_research.ragged import Ragged, offsets_of, rows_of

FORMAT, VERSION, MANIFEST = "colbert_research index", 1, "manifest.json"
KEYS = {"version", "generation", "dim", "n_documents", "n_tokens", "codec", "segments"}
FILE_KEYS = {"bytes", "sha256"}


@dataclass(frozen=True, eq=False)
class Index:
    """Documents, codes, codec and inverted lists. Opened with `Index.open`, built with `build_index`.

    Documents are numbered by position, 0 to `n_documents - 1`, segment after segment; their identifiers are stable strings.
    """

    path: Path
    manifest: Mapping[str, Any]
    codec: Codec
    segments: tuple[Segment, ...]

    @classmethod
    def open(cls, path: str | Path) -> "Index":
        """Open the newest generation, memory-mapped.

        Sizes, shapes, ranges, and the checksums of codec and pipeline are checked, so that no damage crashes a search; other
        checksums only by `verify`. Raises IndexMissingError or IndexCorruptedError, and ConfigError for a codec that this
        package lacks.
        """
        path = Path(path)
        manifest = _manifest(path)
        for file, expected in _files(path, manifest):
            size = file.stat().st_size if file.is_file() else None
            if size != expected["bytes"]:
                given = "is missing" if size is None else f"has {size} bytes"
                raise IndexCorruptedError(
                    f"{file} {given}, the manifest says {expected['bytes']} bytes; restore it or build again"
                )
        folder = path / manifest["codec"]["name"]
        _verify(_files(path, manifest, manifest["codec"], *_pipeline(manifest)))
        try:
            codec = open_codec(folder)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"the codec in {folder} cannot be opened: {error}") from error
        if codec.dim != manifest["dim"]:
            raise IndexCorruptedError(f"the codec in {folder} has {codec.dim} dimensions, the manifest says {manifest['dim']}")
        segments = tuple(
            Segment.open(path / part["name"], codec, n_documents=part["n_documents"], n_tokens=part["n_tokens"])
            for part in manifest["segments"]
        )
        return cls(path, manifest, codec, segments)

    def verify(self) -> None:
        """Read every file and compare its checksum with the manifest. Raises IndexCorruptedError."""
        _verify(_files(self.path, self.manifest))

    def __len__(self) -> int:
        return self.n_documents

    def __repr__(self) -> str:
        return (
            f"Index({self.n_documents} documents, {self.n_tokens} tokens, dim {self.dim}, {self.codec.config!r}, "
            f"{len(self.segments)} segments)"
        )

    @property
    def generation(self) -> int:
        return int(self.manifest["generation"])

    @property
    def n_documents(self) -> int:
        return int(self.manifest["n_documents"])

    @property
    def n_tokens(self) -> int:
        return int(self.manifest["n_tokens"])

    @property
    def dim(self) -> int:
        return int(self.manifest["dim"])

    @cached_property
    def pipeline(self) -> TextPipeline | None:
        """What turns texts into vectors of this index; None for an index of bare vectors. Its encoder is not loaded yet.

        Raises ConfigError for an encoder or pooler that this package lacks, IndexCorruptedError for one of another width.
        """
        for part in _pipeline(self.manifest):
            opened = TextPipeline.open(self.path / part["name"])
            if opened.dim != self.dim:
                given = f"gives {opened.dim} dimensions, the manifest says {self.dim}"
                raise IndexCorruptedError(f"the pipeline in {self.path / part['name']} {given}")
            return opened
        return None

    @cached_property
    def bytes_per_token(self) -> int:
        """Bytes of one token's codes."""
        return bytes_per_token(self.codec)

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """All identifiers, by position."""
        ids = tuple(i for segment in self.segments for i in segment.documents.ids)
        if len(ids) != self.n_documents:
            raise IndexCorruptedError(f"{self.path} holds {len(ids)} documents, the manifest says {self.n_documents}")
        return ids

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """`(n_segments + 1,)` int64: the position of each segment's first document."""
        return offsets_of([len(segment) for segment in self.segments])

    @cached_property
    def _position(self) -> dict[str, int]:
        return {document: i for i, document in enumerate(self.document_ids)}

    def positions(self, document_ids: Sequence[str]) -> NDArray[np.int64]:
        """Positions of documents by identifier. Raises KeyError that names the unknown ones, TypeError for a lone string."""
        if isinstance(document_ids, str):
            raise TypeError(f"expected a list of document ids; given one string, {document_ids!r:.60}. Put it in a list")
        unknown = [d for d in document_ids if d not in self._position]
        if unknown:
            raise KeyError(f"{len(unknown)} unknown document ids, such as {unknown[:3]}; the index has {self.n_documents}")
        return np.array([self._position[d] for d in document_ids], np.int64)

    def documents(self, document_ids: Sequence[str]) -> list[Document]:
        """Documents by identifier, in the order asked for."""
        positions = self.positions(document_ids)
        found: dict[int, Document] = {}
        for start, segment in zip(self.starts, self.segments, strict=False):
            inside = [int(p) for p in positions if start <= p < start + len(segment)]
            found.update(zip(inside, segment.documents.read([int(p - start) for p in inside]), strict=True))
        return [found[int(p)] for p in positions]

    def codes_of(
        self, positions: NDArray[np.int64], *, names: Sequence[str] | None = None
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Codes (or only the arrays in `names`) and offsets of the documents at rising `positions`, copied."""
        parts: list[tuple[Segment, NDArray[np.int64]]] = []
        for start, segment in zip(self.starts, self.segments, strict=False):
            low, high = np.searchsorted(positions, [start, start + len(segment)])
            if high > low:
                parts.append((segment, positions[low:high] - start))
        lengths = [np.diff(segment.offsets)[local] for segment, local in parts]
        rows = [rows_of(segment.offsets, local) for segment, local in parts]
        codes = {}
        for name in names or self.codec.layout:
            dtype, shape = self.codec.layout[name]
            arrays = [segment.codes[name][r] for (segment, _), r in zip(parts, rows, strict=True)]
            codes[name] = np.concatenate([np.empty((0, *shape), dtype), *arrays])
        return codes, offsets_of(np.concatenate([np.empty(0, np.int64), *lengths]))

    def vectors_of(self, document_ids: Sequence[str]) -> Ragged:
        """Decoded token vectors `(n_tokens, dim)` float32 of some documents."""
        positions = self.positions(document_ids)
        order = np.argsort(positions, kind="stable")
        codes, offsets = self.codes_of(positions[order])
        return Ragged(self.codec.decode(codes), offsets).take(np.argsort(order, kind="stable"))

    @cached_property
    def _opened(self) -> dict[Auxiliary, Any]:
        return {}

    def auxiliary(self, config: Auxiliary) -> Any:
        """A structure beside the codes that a strategy needs; built when it is first asked for, then kept with the index."""
        if config not in self._opened:
            self._opened[config] = open_auxiliary(self, config)
        return self._opened[config]

    def nbytes(self) -> dict[str, int]:
        """Bytes on disk: `codes`, `inverted` lists, `documents`, `codec`, `other`, and their `total`."""
        sizes = dict.fromkeys(("codes", "inverted", "documents", "codec", "other"), 0)
        for file, expected in _files(self.path, self.manifest):
            if file.parent.name == self.manifest["codec"]["name"]:
                part = "codec"
            elif file.stem in self.codec.layout:
                part = "codes"
            else:
                part = file.stem.partition("_")[0]
            sizes[part if part in sizes else "other"] += expected["bytes"]
        return {**sizes, "total": sum(sizes.values())}


def _manifest(path: Path) -> Mapping[str, Any]:
    """The manifest in an index's folder, of a version that this package reads."""
    file = path / MANIFEST
    if not file.is_file():
        raise IndexMissingError(f"no finished index in {path}: it has no {MANIFEST}; build one with build_index")
    try:
        manifest = read_json(file)
    except ValueError as error:
        raise IndexCorruptedError(f"{file} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
        raise IndexCorruptedError(f"{file} does not describe a {FORMAT}")
    if manifest["version"] > VERSION:
        raise IndexCorruptedError(
            f"{path} has format version {manifest['version']}, this package reads up to {VERSION}; update colbert_research"
        )
    try:
        sizes = [(part["n_documents"], part["n_tokens"]) for part in manifest["segments"]]
        counted = (sum(n for n, _ in sizes), sum(n for _, n in sizes))
        complete = manifest.keys() >= KEYS and all(known.keys() >= FILE_KEYS for _, known in _files(path, manifest))
    except (AttributeError, KeyError, TypeError, ValueError):
        complete, counted = False, (0, 0)
    if not complete or counted != (manifest["n_documents"], manifest["n_tokens"]):
        raise IndexCorruptedError(f"{file} does not describe a {FORMAT}: it lacks entries, or they contradict each other")
    return manifest


def _files(path: Path, manifest: Mapping[str, Any], *parts: Mapping[str, Any]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The files of some parts, or of all, and what the manifest says of each."""
    chosen = parts or (manifest["codec"], *manifest["segments"], *_pipeline(manifest))
    return [(path / part["name"] / name, expected) for part in chosen for name, expected in part["files"].items()]


def _pipeline(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The part that holds the text pipeline, where there is one."""
    return [{key: manifest["pipeline"][key] for key in ("name", "files")}] if "pipeline" in manifest else []


def _verify(files: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    for file, expected in files:
        if not file.is_file() or sha256_file(file) != expected["sha256"]:
            raise IndexCorruptedError(f"{file} is not what the manifest says (SHA-256 differs); restore it or build again")
