"""Evaluation: measures over rankings, and pictures of why a document was found."""

from colbert_research.evaluation.alignment import align, plot_alignment
from colbert_research.evaluation.measures import evaluate, mean_measures, overlap, parse_measures

__all__ = ["align", "evaluate", "mean_measures", "overlap", "parse_measures", "plot_alignment"]
