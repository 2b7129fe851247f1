"""An open index: one generation of it, as its manifest names it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec, bytes_per_token, open_codec
from colbert_research.encoders import TextPipeline
from colbert_research.index.column_files import FILE
from colbert_research.index.columns import Columns
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.index.derived import DerivedStructure
from colbert_research.index.documents import Document
from colbert_research.index.filters import Filter, FilterLike
from colbert_research.index.manifest import File, check_sizes, check_sums, files_of, read_manifest
from colbert_research.index.scope import Scope
from colbert_research.index.segment import Segment
from colbert_research.index.structures import Structures
from colbert_research.ragged import Ragged, offsets_of, rows_of
from colbert_research.settings import ConfigError


@dataclass(frozen=True, eq=False)
class Index:
    """Documents, codes, codec and inverted lists. Opened with `Index.open`, built with `build_index`.

    `outside`: the folders of structures that lie outside the index.
    Documents are numbered by position, 0 to `n_documents - 1`, segment after segment; their identifiers are stable strings.
    """

    path: Path
    manifest: Mapping[str, Any]
    codec: Codec
    segments: tuple[Segment, ...]
    outside: Mapping[DerivedStructure, Path] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path, *, structures: Mapping[DerivedStructure, str | Path] | None = None) -> "Index":
        """Open the newest generation, memory-mapped.

        Sizes, shapes, ranges, and the checksums of codec and pipeline are checked, so that no damage crashes a search; other
        checksums only by `verify`. `structures`: the folders of structures that `build_structure` built outside the index.
        Raises IndexMissingError or IndexCorruptedError, and ConfigError for a codec that this package lacks.
        """
        path = Path(path)
        manifest = read_manifest(path)
        check_sizes(_files(path, manifest))
        folder = path / manifest["codec"]["name"]
        for entry in (manifest["codec"], *_pipeline(manifest)):
            check_sums(files_of(path / entry["name"], entry))
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
        outside = {structure: Path(folder) for structure, folder in (structures or {}).items()}
        index = cls(path, manifest, codec, segments, outside)
        index.derived.check_sizes()
        return index

    def verify(self) -> None:
        """Read every file, those of structures too, and compare its checksum with the manifest. Raises IndexCorruptedError."""
        check_sums(_files(self.path, self.manifest))
        self.derived.verify()

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
    def empty_cells(self) -> NDArray[np.int64]:
        """The centroids that no token has, ascending; none for a codec without centroids. Nobody probes them."""
        lists = [segment.inverted.offsets for segment in self.segments if segment.inverted is not None]
        if not lists:
            return np.empty(0, np.int64)
        return np.flatnonzero(np.all([np.diff(offsets) == 0 for offsets in lists], axis=0))

    @cached_property
    def _position(self) -> dict[str, int]:
        return {document: i for i, document in enumerate(self.document_ids)}

    def positions(self, document_ids: Iterable[str]) -> NDArray[np.int64]:
        """Positions of documents by identifier. Raises KeyError that names unknown ones, TypeError for others than strings."""
        if isinstance(document_ids, str):
            raise TypeError(f"expected a list of document ids; given one string, {document_ids!r:.60}. Put it in a list")
        document_ids = list(document_ids)  # of a generator, too, which gives its items once
        if strange := [each for each in document_ids if not isinstance(each, str)]:
            raise TypeError(f"expected a list of document ids, which are strings; given {strange[0]!r:.60}")
        unknown = [d for d in document_ids if d not in self._position]
        if unknown:
            raise KeyError(f"{len(unknown)} unknown document ids, such as {unknown[:3]}; the index has {self.n_documents}")
        return np.array([self._position[d] for d in document_ids], np.int64)

    def scope(self, ids: Iterable[str] | None = None, filter: FilterLike | None = None) -> Scope:
        """The documents that have one of the `ids` and that the `filter` admits; without either, all.

        `filter`: what `Filter.of` takes. No ids, and a filter that admits nothing, give an empty scope. Raises KeyError for an
        unknown id, and FilterError for a filter that is malformed, or does not fit `columns.types`.
        """
        scope = Scope.all(len(self)) if ids is None else Scope.of(self.positions(ids), len(self))
        return scope if filter is None else Scope.where(scope.bitmap & Filter.of(filter).admits(self.columns))

    @cached_property
    def columns(self) -> Columns:
        """The documents' metadata by field, for filters. Raises IndexCorruptedError; their files are read when asked for."""
        return Columns.open(self.segments, _files(self.path, self.manifest))

    def documents(self, document_ids: Iterable[str]) -> list[Document]:
        """Documents by identifier, in the order asked for."""
        return self.documents_at(self.positions(document_ids))

    def documents_at(self, positions: NDArray[np.int64]) -> list[Document]:
        """Documents by position, such as those of a ranking, in the order asked for."""
        segment_of = np.searchsorted(self.starts, positions, side="right") - 1
        found: dict[int, Document] = {}
        for number in np.unique(segment_of).tolist():
            inside = positions[segment_of == number]
            found.update(zip(inside.tolist(), self.segments[number].documents.read(inside - self.starts[number]), strict=True))
        return [found[position] for position in positions.tolist()]

    def codes_of(
        self, positions: NDArray[np.int64], *, names: Sequence[str] | None = None
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Codes (or only the arrays in `names`) and offsets of the documents at ascending `positions`, copied."""
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

    def vectors_of(self, document_ids: Iterable[str]) -> Ragged:
        """Decoded token vectors `(n_tokens, dim)` float32 of some documents."""
        positions = self.positions(document_ids)
        order = np.argsort(positions, kind="stable")
        codes, offsets = self.codes_of(positions[order])
        return Ragged(self.codec.decode(codes), offsets).take(np.argsort(order, kind="stable"))

    @cached_property
    def derived(self) -> Structures:
        """Where the derived structures lie, and those that were opened."""
        return Structures(self.path, self.manifest, self.codec, self.segments, self.outside)

    def structure(self, structure: DerivedStructure) -> Any:
        """What strategies use of a derived structure; it is built when it is first asked for, then kept with the index.

        Raises IndexCorruptedError for a damaged one, and OSError where neither the index's folder nor the cache can be
        written to.
        """
        return self.derived.open(structure)

    def structure_bytes(self, structure: DerivedStructure) -> int:
        """Bytes on disk of a derived structure, without what it needs. Raises KeyError for one that is not built."""
        return self.derived.nbytes(structure)

    def nbytes(self) -> dict[str, int]:
        """Bytes on disk without structures: `codes`, `inverted` lists, `documents`, `codec`, `other`, and their `total`."""
        sizes = dict.fromkeys(("codes", "inverted", "documents", "codec", "other"), 0)
        for file, expected in _files(self.path, self.manifest):
            if file.parent.name == self.manifest["codec"]["name"]:
                part = "codec"
            elif file.stem in self.codec.layout:
                part = "codes"
            else:
                part = "documents" if file.name == FILE else file.stem.partition("_")[0]
            sizes[part if part in sizes else "other"] += expected["bytes"]
        return {**sizes, "total": sum(sizes.values())}


def _files(path: Path, manifest: Mapping[str, Any]) -> list[File]:
    """The files of codec, segments and pipeline, and what the manifest says of each."""
    entries = (manifest["codec"], *manifest["segments"], *_pipeline(manifest))
    return [file for entry in entries for file in files_of(path / entry["name"], entry)]


def _pipeline(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entry of the text pipeline, where there is one."""
    return [manifest["pipeline"]] if "pipeline" in manifest else []
