"""The registry of the search axis; a notebook cell may add to it."""

from colbert_research.config import Config
from colbert_research.search.auto import Auto
from colbert_research.search.cuda import CudaExhaustive, CudaPlaid
from colbert_research.search.dialects import FastPlaid, NextPlaid, StanfordPlaid
from colbert_research.search.emvb import Emvb
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.ladr import Ladr
from colbert_research.search.muvera import Muvera
from colbert_research.search.operators import Operator
from colbert_research.search.plaid import Plaid
from colbert_research.search.rerank import Rerank
from colbert_research.search.token_ann import TokenAnn
from colbert_research.search.warp import Warp
from colbert_research.search.weighted import Weighted

STRATEGIES: dict[str, type[Config]] = {
    "exhaustive": Exhaustive,
    "plaid": Plaid,
    "stanford_plaid": StanfordPlaid,
    "fast_plaid": FastPlaid,
    "next_plaid": NextPlaid,
    "auto": Auto,
    "token_ann": TokenAnn,
    "muvera": Muvera,
    "rerank": Rerank,
    "ladr": Ladr,
    "warp": Warp,
    "emvb": Emvb,
    "weighted": Weighted,
    "operator": Operator,
    "cuda_exhaustive": CudaExhaustive,
    "cuda_plaid": CudaPlaid,
}
