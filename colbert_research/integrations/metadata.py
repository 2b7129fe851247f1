"""What adapters say of a hit in the metadata of the document that they make of it."""

from typing import Any

from colbert_research.data.passages import source_of
from colbert_research.search import Hit


def metadata_of(hit: Hit, *, first_rank: int = 1) -> dict[str, Any]:
    """The document's own metadata, and, under names that it does not use itself, `document_id`, `passage` (its number in the
    document) with `start` and `end` (characters there) where there are passages, `title` where it has one, `score` and `rank`.
    """
    source = source_of(hit.document_id, hit.metadata)
    said: dict[str, Any] = {"document_id": source.document_id}
    if source.number is not None:
        said |= {"passage": source.number, "start": source.start, "end": source.end}
    if hit.title:
        said["title"] = hit.title
    return {**said, "score": hit.score, "rank": hit.rank - 1 + first_rank, **source.metadata}
