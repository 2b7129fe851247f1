"""The front door: RAGatouille's `RAGPretrainedModel` on this package's parts. Change one import and go on.

from colbert_research.rag import RAGPretrainedModel
"""

from colbert_research.rag.model import RAGPretrainedModel
from colbert_research.rag.utils import get_wikipedia_page

__all__ = ["RAGPretrainedModel", "get_wikipedia_page"]
