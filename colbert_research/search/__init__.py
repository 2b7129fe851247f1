"""Search strategies: an index and query vectors to a ranking. `STRATEGIES` is the registry of the axis."""

from colbert_research.search.ann import ANNS
from colbert_research.search.auto import Auto
from colbert_research.search.base import UNSEEN, Queries, SearchStrategy
from colbert_research.search.cuda import CudaExhaustive, CudaPlaid
from colbert_research.search.dialects import FastPlaid, NextPlaid, StanfordPlaid
from colbert_research.search.emvb import Emvb
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.explanation import Explanation
from colbert_research.search.first_stages import FIRST_STAGES
from colbert_research.search.graphs import GRAPHS
from colbert_research.search.imputation import IMPUTATIONS
from colbert_research.search.ladr import Ladr
from colbert_research.search.losses import Loss, LossFinder
from colbert_research.search.muvera import Muvera
from colbert_research.search.operators import Operator
from colbert_research.search.plaid import Plaid
from colbert_research.search.registry import STRATEGIES
from colbert_research.search.rerank import Rerank
from colbert_research.search.retriever import Hit, Retriever
from colbert_research.search.token_ann import TokenAnn
from colbert_research.search.trace import Trace
from colbert_research.search.warp import Warp
from colbert_research.search.weighted import Weighted

__all__ = [
    "ANNS",
    "FIRST_STAGES",
    "GRAPHS",
    "IMPUTATIONS",
    "STRATEGIES",
    "UNSEEN",
    "Auto",
    "CudaExhaustive",
    "CudaPlaid",
    "Emvb",
    "Exhaustive",
    "Explanation",
    "FastPlaid",
    "Hit",
    "Ladr",
    "Loss",
    "LossFinder",
    "Muvera",
    "NextPlaid",
    "Operator",
    "Plaid",
    "Queries",
    "Rerank",
    "Retriever",
    "SearchStrategy",
    "StanfordPlaid",
    "TokenAnn",
    "Trace",
    "Warp",
    "Weighted",
]
