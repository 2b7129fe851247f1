"""The index: an artifact on disk that holds documents, their codes, the codec and inverted lists, in immutable segments."""

from colbert_research.index.build import build_index, build_structure
from colbert_research.index.compaction import CompactionPolicy
from colbert_research.index.damage import IndexCorruptedError, IndexMissingError
from colbert_research.index.derived import Arrays, CodecStructure, DerivedStructure, SegmentStructure
from colbert_research.index.drift import Drift
from colbert_research.index.fields import FilterError
from colbert_research.index.filters import Filter, FilterLike
from colbert_research.index.index import Index
from colbert_research.index.scope import Scope
from colbert_research.index.segment import Segment

__all__ = [
    "Arrays",
    "CodecStructure",
    "CompactionPolicy",
    "DerivedStructure",
    "Drift",
    "Filter",
    "FilterError",
    "FilterLike",
    "Index",
    "IndexCorruptedError",
    "IndexMissingError",
    "Scope",
    "Segment",
    "SegmentStructure",
    "build_index",
    "build_structure",
]
