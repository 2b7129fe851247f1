"""An open index: one generation of it, as its manifest names it; and its changes, each of which gives the next generation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec, bytes_per_token
from colbert_research.encoders import TextPipeline
from colbert_research.index import generations
from colbert_research.index.changes import Changeable
from colbert_research.index.column_files import FILE
from colbert_research.index.columns import Columns
from colbert_research.index.contents import Contents
from colbert_research.index.damage import IndexCorruptedError
from colbert_research.index.derived import DerivedStructure
from colbert_research.index.documents import Document
from colbert_research.index.drift import Drift
from colbert_research.index.filters import Filter, FilterLike
from colbert_research.index.manifest import files_of_generation, pipeline_of
from colbert_research.index.opening import opened
from colbert_research.index.scope import Scope
from colbert_research.index.segment import Segment
from colbert_research.index.structures import Structures
from colbert_research.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Index(Changeable):
    """Documents, codes, codec and inverted lists. Opened with `Index.open`, built with `build_index`.

    It is one generation and never changes: `add`, `delete`, `update`, `compact` and `rebuild` give the next one, opened, and
    this one stays as it is for as long as the object lives (see `Changeable`).

    Documents have identifiers, which are stable, and positions, which count through the segments, deleted documents too: 0 to
    `n_positions - 1`, the same throughout a generation. Everything but `ids_by_position`, `documents_at` and `codes_of` knows
    live documents only: `len`, `n_documents`, `n_tokens`, `document_ids`, `documents`, `positions`, `scope` and every search.

    `outside`: the folders of structures that lie outside the index. `hold`: keeps the files of this generation.
    """

    path: Path
    manifest: Mapping[str, Any]
    codec: Codec
    contents: Contents
    outside: Mapping[DerivedStructure, Path] = field(default_factory=dict)
    hold: generations.Hold | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        generation: int | None = None,
        structures: Mapping[DerivedStructure, str | Path] | None = None,
    ) -> "Index":
        """Open a generation, by default the newest, memory-mapped.

        Sizes, shapes, ranges, and the checksums of codec, pipeline and lists of deleted documents are checked, so that no
        damage crashes a search; other checksums only by `verify`. `structures`: the folders of structures that
        `build_structure` built outside the index. Raises IndexMissingError, also for a generation that is not there or no
        longer, IndexCorruptedError, and ConfigError for a codec that this package lacks.
        """
        if generation is not None and (isinstance(generation, bool) or not isinstance(generation, int)):
            raise TypeError(f"generations have whole numbers; given {generation!r}")
        path = Path(path).absolute()  # what is done later is done there, whatever the working folder is by then
        manifest, hold = generations.hold(path, generation)
        outside = {structure: Path(folder).absolute() for structure, folder in (structures or {}).items()}
        index = cls(path, manifest, *opened(path, manifest), outside, hold)
        index.derived.check_sizes()
        return index

    def reopened(self, manifest: Mapping[str, Any], hold: generations.Hold | None) -> "Index":
        opened_now = opened(self.path, manifest, (self.manifest, self.codec, self.contents))
        index = Index(self.path, manifest, *opened_now, {}, hold)
        index.derived.check_sizes()
        index.derived.take_over(self.derived)
        return index

    def generations(self) -> list[int]:
        """Ascending numbers of the generations on disk, which `Index.open` opens."""
        return generations.generations(self.path)

    def verify(self) -> None:
        """Read every file of every generation on disk, those of structures too, and compare its checksum with the manifests.

        Raises IndexCorruptedError that names the first one with another byte than was written.
        """
        generations.verify(self.path)
        self.derived.verify()

    def drift(self) -> Drift | None:
        """How far what was added lies from the codes, and how far what was built; None for an index of an earlier version."""
        return Drift.of(self.manifest)

    def __len__(self) -> int:
        return self.n_documents

    def __repr__(self) -> str:
        deleted = f", {len(self.contents.dead)} deleted" if len(self.contents.dead) else ""
        return (
            f"Index({self.n_documents} documents, {self.n_tokens} tokens, dim {self.dim}, {self.codec.config!r}, "
            f"{len(self.segments)} segments{deleted})"
        )

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.contents.segments

    @property
    def generation(self) -> int:
        return int(self.manifest["generation"])

    @property
    def n_documents(self) -> int:
        """How many documents are live."""
        return self.contents.n_documents

    @property
    def n_positions(self) -> int:
        """How many documents the segments hold, deleted ones too."""
        return self.contents.n_positions

    @property
    def n_tokens(self) -> int:
        """Tokens of live documents."""
        return self.contents.n_tokens

    @property
    def dim(self) -> int:
        return int(self.manifest["dim"])

    @cached_property
    def pipeline(self) -> TextPipeline | None:
        """What turns texts into vectors of this index; None for an index of bare vectors. Its encoder is not loaded yet.

        Raises ConfigError for an encoder or pooler that this package lacks, IndexCorruptedError for one of another width.
        """
        for part in pipeline_of(self.manifest):
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

    @property
    def document_ids(self) -> tuple[str, ...]:
        """The identifiers of live documents, by position."""
        return self.contents.document_ids

    @property
    def ids_by_position(self) -> tuple[str, ...]:
        """The identifier at each position; those of deleted documents too, which may be there more than once."""
        return self.contents.ids

    @property
    def starts(self) -> NDArray[np.int64]:
        """`(n_segments + 1,)` int64: the position of each segment's first document."""
        return self.contents.starts

    @property
    def empty_cells(self) -> NDArray[np.int64]:
        """The centroids that no token of a live document has, ascending; none for a codec without any. Nobody probes them."""
        return self.contents.empty_cells

    def positions(self, document_ids: Iterable[str]) -> NDArray[np.int64]:
        """Positions of documents by identifier. Raises KeyError that names unknown ones, TypeError for others than strings."""
        return self.contents.positions(document_ids)

    def scope(self, ids: Iterable[str] | None = None, filter: FilterLike | None = None) -> Scope:
        """The live documents that have one of the `ids` and that the `filter` admits; without either, all live ones.

        `filter`: what `Filter.of` takes. No ids, and a filter that admits nothing, give an empty scope. Raises KeyError for an
        unknown id, and FilterError for a filter that is malformed, or does not fit `columns.types`.
        """
        scope = self.contents.scope if ids is None else Scope.of(self.positions(ids), self.n_positions)
        return scope if filter is None else Scope.where(scope.bitmap & Filter.of(filter).admits(self.columns))

    @cached_property
    def columns(self) -> Columns:
        """The documents' metadata by field, for filters. Raises IndexCorruptedError; their files are read when asked for."""
        return Columns.open(self.segments, files_of_generation(self.path, self.manifest))

    def documents(self, document_ids: Iterable[str]) -> list[Document]:
        """Documents by identifier, in the order asked for."""
        return self.documents_at(self.positions(document_ids))

    def documents_at(self, positions: NDArray[np.int64]) -> list[Document]:
        """Documents by position, such as those of a ranking, in the order asked for."""
        return self.contents.documents_at(positions)

    def codes_of(
        self, positions: NDArray[np.int64], *, names: Sequence[str] | None = None
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Codes (or only the arrays in `names`) and offsets of the documents at ascending `positions`, copied."""
        return self.contents.codes_of(self.codec, positions, names)

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
        for file, expected in files_of_generation(self.path, self.manifest):
            if file.parent.name == self.manifest["codec"]["name"]:
                part = "codec"
            elif file.stem in self.codec.layout:
                part = "codes"
            else:
                part = "documents" if file.name == FILE else file.stem.partition("_")[0]
            sizes[part if part in sizes else "other"] += expected["bytes"]
        return {**sizes, "total": sum(sizes.values())}
