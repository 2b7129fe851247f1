"""Evaluation: measures over rankings, systems compared by them, and displays of why a document was found."""

from colbert_research.evaluation.agreement import agreement, n_recall, rank_biased_overlap
from colbert_research.evaluation.alignment import align, plot_alignment
from colbert_research.evaluation.comparison import Comparison, compare
from colbert_research.evaluation.difference import Criteria
from colbert_research.evaluation.evaluated import Evaluated
from colbert_research.evaluation.marked import Marked, mark
from colbert_research.evaluation.measures import evaluate, mean_measures, overlap, parse_measures
from colbert_research.evaluation.token_map import TokenMap, token_map

__all__ = [
    "Comparison",
    "Criteria",
    "Evaluated",
    "Marked",
    "TokenMap",
    "agreement",
    "align",
    "compare",
    "evaluate",
    "mark",
    "mean_measures",
    "n_recall",
    "overlap",
    "parse_measures",
    "plot_alignment",
    "rank_biased_overlap",
    "token_map",
]
