"""Search strategies: an index and query vectors to a ranking. `STRATEGIES` is the table of contents of the axis."""

from colbert_research.config import Config
from colbert_research.search.base import SearchStrategy
from colbert_research.search.exhaustive import Exhaustive
from colbert_research.search.plaid import Plaid
from colbert_research.search.trace import Trace

STRATEGIES: dict[str, type[Config]] = {"exhaustive": Exhaustive, "plaid": Plaid}

__all__ = ["STRATEGIES", "Exhaustive", "Plaid", "SearchStrategy", "Trace"]
