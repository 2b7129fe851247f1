"""Changes of an index: each commits the next generation and opens it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.data import Collection
from colbert_research.encoders import TextPipeline, TokenVectors
from colbert_research.index import generations
from colbert_research.index.compaction import CompactionPolicy, compacted, rebuilt
from colbert_research.index.contents import Contents
from colbert_research.index.drift import warn_when_large
from colbert_research.index.updates import added, check_additions, check_changeable, without
from colbert_research.index.writing import BuildConfig, given_vectors
from colbert_research.ragged import Ragged

Vectors = Ragged | TokenVectors


class Changeable(ABC):
    """The part of an open index that changes it; see `Index`. They change the newest generation on disk, and wait for another
    process that does. Whatever happens to a change that is not finished, the generation before it remains.

    `keep`: how many generations before the new one stay on disk even if nobody reads them. All raise PermissionError in a
    folder that cannot be written to or that is an artifact of the stage cache.
    """

    path: Path
    manifest: Mapping[str, Any]
    codec: Codec
    contents: Contents
    hold: generations.Hold | None

    @property
    @abstractmethod
    def pipeline(self) -> TextPipeline | None:
        """What turns texts into vectors of this index."""

    @abstractmethod
    def reopened(self, manifest: Mapping[str, Any], hold: generations.Hold | None) -> Self:
        """Another generation of the index, opened; what it shares with this one is not opened again."""

    def add(
        self,
        collection: Collection,
        vectors: Vectors | None = None,
        *,
        token_ids: NDArray[np.int32] | None = None,
        keep: int = 0,
        compaction: CompactionPolicy | None = None,
        build: BuildConfig | None = None,
    ) -> Self:
        """The next generation, with a collection's documents behind the others, and the codec as it is.

        `vectors`, `token_ids`: as of `build_index`; made by the index's pipeline where they are left out. Structures that the
        index has are built for the new documents too.
        `compaction`: when to compact afterwards; never, by default. How far the new vectors lie from the codec's is measured:
        see `drift`. Raises ValueError for documents that the index has (`update` replaces them), and for inputs that do not fit
        each other or the index. Nothing to add gives the newest generation.
        """

        def change(newest: Self, vectors: Ragged) -> dict[str, Any] | None:
            if known := [each for each in collection.document_ids if each in newest.contents.position_of]:
                raise ValueError(
                    f"{len(known)} of these {len(collection)} documents are in the index, such as {known[:3]}; use update, "
                    "which replaces documents, or give them other ids"
                )
            if not len(collection):
                return None
            return added(self.path, newest.manifest, newest.codec, collection, vectors, build or BuildConfig())

        return self._changed_by(collection, vectors, token_ids, change, keep, compaction)

    def update(
        self,
        collection: Collection,
        vectors: Vectors | None = None,
        *,
        token_ids: NDArray[np.int32] | None = None,
        missing: Literal["error", "add"] = "error",
        keep: int = 0,
        compaction: CompactionPolicy | None = None,
        build: BuildConfig | None = None,
    ) -> Self:
        """The next generation, with a collection's documents in place of those of the same ids, which get new positions.

        `missing`: what to do about documents that the index lacks: an id that was mistyped would otherwise be a second document
        that nobody expects. Otherwise as `add`; raises KeyError for such documents.
        """
        if missing not in ("error", "add"):
            raise ValueError(f"missing is 'error' or 'add'; given {missing!r}")

        def change(newest: Self, vectors: Ragged) -> dict[str, Any] | None:
            known = [each for each in collection.document_ids if each in newest.contents.position_of]
            if missing == "error" and len(known) < len(collection):
                unknown = sorted(set(collection.document_ids).difference(known))
                raise KeyError(
                    f"{len(unknown)} of these {len(collection)} documents are not in the index, such as {unknown[:3]}; add "
                    "them, or say missing='add' to replace some and add the others"
                )
            if not len(collection):
                return None
            manifest = newest.manifest
            if known:
                manifest = without(self.path, manifest, newest.contents, newest.contents.positions(known))
                manifest = {**manifest, "generation": newest.manifest["generation"]}  # one generation for both
            return added(self.path, manifest, newest.codec, collection, vectors, build or BuildConfig())

        return self._changed_by(collection, vectors, token_ids, change, keep, compaction)

    def delete(self, document_ids: Iterable[str], *, keep: int = 0, compaction: CompactionPolicy | None = None) -> Self:
        """The next generation, without some documents; an id that is given twice counts once.

        Their codes and texts stay on disk until `compact`, and, with `keep` or a reader, as long as an older generation does.
        Raises KeyError for unknown ids, TypeError for what is no list of strings. No ids give the newest generation.
        """
        given = document_ids if isinstance(document_ids, str) else list(document_ids)

        def change(newest: Self) -> dict[str, Any] | None:
            positions = newest.contents.positions(given)
            return without(self.path, newest.manifest, newest.contents, positions) if len(positions) else None

        return self._changed(change, keep, compaction)

    def compact(self, *, keep: int = 0, build: BuildConfig | None = None) -> Self:
        """The next generation, with the codes of live documents in as few segments as a build would write, in their order.

        Structures that the index has are built for them. An index that is so already is given as it is.
        """

        def change(newest: Self) -> dict[str, Any] | None:
            return compacted(self.path, newest.manifest, newest.codec, newest.contents, build or BuildConfig())

        return self._changed(change, keep)

    def rebuild(
        self,
        codec: Any = None,
        *,
        vectors: Vectors | None = None,
        token_ids: NDArray[np.int32] | None = None,
        seed: int = 0,
        keep: int = 0,
        build: BuildConfig | None = None,
    ) -> Self:
        """The next generation, with the live documents encoded by a codec that is fitted anew; as after large `drift`.

        `codec`: a codec config, by default the present one. `vectors`: token vectors of the live documents in the order of
        `document_ids`; without them those that the codes stand for are used, which loses accuracy with every rebuild.
        Raises ValueError or TypeError for inputs that do not fit, FileNotFoundError for an index without documents.
        """
        if isinstance(vectors, TokenVectors):
            token_ids, vectors = (vectors.token_ids.values if token_ids is None else token_ids), vectors.vectors

        def change(newest: Self) -> dict[str, Any] | None:
            if not newest.contents.n_tokens:
                raise ValueError("no live document has a token vector, and a codec is fitted on some; add documents first")
            if vectors is not None and len(vectors) != newest.contents.n_documents:
                raise ValueError(f"{newest.contents.n_documents} live documents, but token vectors of {len(vectors)}")
            chosen = newest.codec.config if codec is None else codec
            return rebuilt(
                self.path,
                newest.manifest,
                newest.contents,
                newest.codec,
                chosen,
                vectors,
                token_ids,
                seed,
                build or BuildConfig(),
            )

        return self._changed(change, keep)

    def _changed_by(
        self,
        collection: Collection,
        vectors: Vectors | None,
        token_ids: NDArray[np.int32] | None,
        change: Callable[[Self, Ragged], dict[str, Any] | None],
        keep: int,
        compaction: CompactionPolicy | None,
    ) -> Self:
        """`_changed` by documents and their vectors, after the checks."""
        if vectors is None:
            if self.pipeline is None:
                raise ValueError(f"{self.path} does not say how a text becomes vectors; hand in those of the documents")
            if not isinstance(collection, Collection):
                raise TypeError(f"expected a Collection, as Collection.from_texts makes of a list; given {collection!r:.60}")
            vectors = self.pipeline.documents(collection.document_texts())
        given, _ = given_vectors(collection, vectors, token_ids)

        def checked(newest: Self) -> dict[str, Any] | None:
            check_additions(collection, given, newest.manifest["dim"], newest.pipeline)
            return change(newest, given)

        return self._changed(checked, keep, compaction)

    def _changed(
        self,
        change: Callable[[Self], dict[str, Any] | None],
        keep: int,
        compaction: CompactionPolicy | None = None,
    ) -> Self:
        """Commit the manifest that `change` makes of the newest generation; the newest as it is where that is None."""
        check_changeable(self.path)
        with generations.changing(self.path, keep):
            file = generations.lock_file(self.path, self.manifest["generation"])
            if self.hold is not None and not self.hold.is_at(file):
                raise RuntimeError(f"the index in {self.path} was deleted or replaced since this one was opened; open it again")
            newest = self.reopened(*generations.hold(self.path))
            manifest = change(newest)
            if manifest is None:
                return newest
            generations.commit(self.path, manifest, newest.manifest)
            after = newest.reopened(*generations.hold(self.path))
            warn_when_large(newest.manifest, manifest, self.path)
        contents = after.contents
        if compaction is not None and compaction.asks(
            segments=len(contents.segments), deleted=len(contents.dead), documents=contents.n_positions
        ):
            return after.compact(keep=keep)
        return after
