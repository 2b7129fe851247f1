"""Indexes of other engines, taken over without encoding anything again: the same codes, and the same scores."""

from colbert_research.index.importers.importing import import_index, open_foreign

__all__ = ["import_index", "open_foreign"]
