"""Claims of papers, and what our records say of them: an ablation is a question, a sweep, and claims with a rule each."""

from colbert_research.ledger.claims import Ablation, Claim
from colbert_research.ledger.evidence import Evidence
from colbert_research.ledger.ledger import Judged, Ledger

__all__ = ["Ablation", "Claim", "Evidence", "Judged", "Ledger"]
