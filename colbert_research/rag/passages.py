"""From documents as they were given to the collection of passages that is indexed."""

import inspect
import json
import logging
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from colbert_research.data import Collection
from colbert_research.data.passages import collection_of, is_blank
from colbert_research.data.splitting import Passage, located, rebuilt, split
from colbert_research.encoders.base import Encoder, checked
from colbert_research.encoders.pieces import word_pieces
from colbert_research.settings import ConfigError

logger = logging.getLogger("colbert_research")
_SURROGATE = re.compile("[\ud800-\udfff]")
NAMES = uuid.UUID("6f1d3c1e-6a3b-5f57-9d0c-1f3f0c6f4b7a")

Splitter = Callable[..., Any]
"""`fn(text) -> [str, …]`, an object with such a `split_text` (LangChain's), or RAGatouille's
`fn(documents, document_ids, chunk_size) -> [{"document_id": …, "content": …}, …]`."""


class Documents:
    """Texts, their ids and their metadata, checked.

    Ids that are left out are made from the texts, so that the same text has the same id; the second copy of a text gets
    another. Raises TypeError or ValueError for texts that are no strings or blank, ids that are not unique non-empty strings,
    and lists of different lengths.
    """

    def __init__(self, texts: Sequence[str], ids: Sequence[str] | None, metadata: Sequence[Mapping[str, Any]] | None) -> None:
        texts = checked(texts)
        for i, text in enumerate(texts):
            if is_blank(text):
                raise ValueError(f"document {i} is blank ({text[:20]!r}) and nothing could be found in it; leave it out")
            if _SURROGATE.search(text):
                raise ValueError(
                    f"document {i} holds half a character (a lone surrogate), which no file can hold; leave it out"
                )
        for name, given in (("document_ids", ids), ("document_metadatas", metadata)):
            if given is not None and (isinstance(given, str | Mapping) or len(given) != len(texts)):
                shown = f"{len(given)} of them" if not isinstance(given, str | Mapping) else f"{given!r:.60}"
                raise ValueError(f"{name} is a list with one entry for each of the {len(texts)} documents; given {shown}")
        self.ids = _ids_of(texts) if ids is None else list(ids)
        self.texts = dict(zip(self.ids, texts, strict=True)) if _all_ids(self.ids) else {}
        self.has_metadata = metadata is not None
        self.metadata = {} if metadata is None else {i: dict(m or {}) for i, m in zip(self.ids, metadata, strict=True)}

    def without(self, ids: set[str]) -> "Documents":
        """The documents less some."""
        kept = [i for i in self.ids if i not in ids]
        metadata = [self.metadata.get(i, {}) for i in kept] if self.has_metadata else None
        return Documents([self.texts[i] for i in kept], kept, metadata)


def _ids_of(texts: Sequence[str]) -> list[str]:
    seen, ids = Counter[str](), []
    for text in texts:
        ids.append(str(uuid.uuid5(NAMES, f"{seen[text]}:{text}")))
        seen[text] += 1
    return ids


def _all_ids(ids: Sequence[Any]) -> bool:
    for i, each in enumerate(ids):
        if not isinstance(each, str) or not each:
            raise ValueError(f"document ids are non-empty strings; number {i} is {each!r} ({type(each).__name__})")
    if twice := [each for each, n in Counter(ids).items() if n > 1]:
        raise ValueError(f"document ids must be unique; {twice[0]!r} is there more than once")
    return True


def passages_of(
    documents: Documents,
    encoder: Encoder,
    *,
    split_documents: bool = True,
    splitter: Splitter | None = None,
    preprocessing: Any = None,
    name: str,
    advice: str,
) -> Collection:
    """The passages of documents: by sentences, by a splitter, or whole, then as `preprocessing` leaves them.

    A passage has as many word pieces as the encoder takes; a splitter in RAGatouille's manner is told the number.
    `preprocessing`: one function or several, `fn(passages, document_ids) -> passages`, of passages as such a splitter gives
    them. Passages that the encoder would cut all the same are told of, with `advice`. Raises ValueError for a document of which
    nothing is left, ConfigError for an encoder that does not tell its pieces.
    """
    if not split_documents:
        cut = {i: [Passage(text, 0, len(text))] for i, text in documents.texts.items()}
    elif splitter is None:
        pieces = word_pieces(encoder)
        cut = {i: split(text, starts=pieces.starts, max_pieces=_room(encoder)) for i, text in documents.texts.items()}
    else:
        cut = _cut_by(splitter, documents, encoder)
    if preprocessing is not None:
        cut = _preprocessed(cut, documents, preprocessing)
    cut = {i: [part for part in parts if not is_blank(part.text)] for i, parts in cut.items()}
    if empty := [i for i, parts in cut.items() if not parts]:
        raise ValueError(f"{len(empty)} documents have no passage left after splitting and preprocessing, such as {empty[0]!r}")
    passages = collection_of(cut.items(), documents.metadata, name=name)
    warn_of_cuts(passages.texts, encoder, "document", advice)
    return passages


def warn_of_cuts(texts: Sequence[str], encoder: Encoder, task: Literal["query", "document"], advice: str) -> None:
    """Log how many texts the encoder cuts, of which nothing behind the cut can be found."""
    try:
        pieces = word_pieces(encoder, task)
    except ConfigError:  # of somebody else's encoder, which cannot be asked
        return
    if too_long := pieces.too_long(texts):
        logger.warning(
            "%d of %d texts are longer than the %d word pieces that the encoder takes of a %s, and are cut there; %s",
            *(len(too_long), len(texts), pieces.room, task, advice),
        )


def check_same(documents: Documents, each: str, stored: Sequence[tuple[Passage, Mapping[str, Any]]]) -> None:
    """Raise ValueError for a document that is stored with another text, or with other metadata than are given."""
    try:
        same = rebuilt([passage for passage, _ in stored]) == documents.texts[each]
    except ValueError:
        same = False
    given = json.loads(json.dumps(documents.metadata.get(each, {})))  # as it would come back from the index
    if not same or (documents.has_metadata and dict(stored[0][1]) != given):
        raise ValueError(
            f"document {each!r} is in the index with another text or other metadata; delete_from_index([{each!r}]) first, to "
            "replace it"
        )


def _room(encoder: Encoder) -> int:
    pieces = word_pieces(encoder)
    if pieces.room is None or pieces.room < 1:
        raise ValueError(f"passages of {pieces.most} tokens leave no room for a word beside {pieces.added} special tokens")
    return pieces.room


def _cut_by(splitter: Splitter, documents: Documents, encoder: Encoder) -> dict[str, list[Passage]]:
    by_text = getattr(splitter, "split_text", None) or (splitter if _takes(splitter, "text") else None)
    if by_text is not None:
        return {i: located(text, _strings(by_text(text))) for i, text in documents.texts.items()}
    if not _takes(splitter, [], [], 256):
        raise TypeError(
            f"document_splitter_fn is fn(text) -> [str, …], an object with split_text, or RAGatouille's fn(documents, "
            f"document_ids, chunk_size); given {splitter!r:.100}"
        )
    found: dict[str, list[str]] = {i: [] for i in documents.ids}
    for chunk in splitter(list(documents.texts.values()), list(documents.ids), _room(encoder)):
        found[_known(chunk, documents)].append(chunk["content"])
    return {i: located(documents.texts[i], chunks) for i, chunks in found.items()}


def _takes(function: Any, *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _strings(chunks: Any) -> list[str]:
    try:
        return checked(chunks)
    except TypeError as error:
        raise TypeError(f"document_splitter_fn gives a list of strings for a text: {error}") from None


def _known(chunk: Any, documents: Documents) -> str:
    if (
        not isinstance(chunk, Mapping)
        or not isinstance(chunk.get("content"), str)
        or chunk.get("document_id") not in documents.texts
    ):
        raise ValueError(
            f"passages are {{'document_id': …, 'content': …}} with the id of one of the documents; given {chunk!r:.100}"
        )
    return str(chunk["document_id"])


def _preprocessed(cut: Mapping[str, list[Passage]], documents: Documents, functions: Any) -> dict[str, list[Passage]]:
    chunks: Any = [
        {"document_id": i, "content": part.text, "start": part.start, "end": part.end}
        for i, parts in cut.items()
        for part in parts
    ]
    for function in functions if isinstance(functions, list | tuple) else [functions]:
        chunks = function(chunks, list(documents.ids))
    found: dict[str, list[Passage]] = {i: [] for i in cut}
    for chunk in chunks:
        text, content = documents.texts[document := _known(chunk, documents)], chunk["content"]
        start, end = chunk.get("start"), chunk.get("end")
        kept = isinstance(start, int) and isinstance(end, int) and text[start:end] == content
        found[document] += [Passage(content, start, end)] if kept else located(text, [content])
    return found
