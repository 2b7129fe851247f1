"""Claims of papers, and what our records say of them: an ablation is a question, a sweep, and claims with a rule each."""

from colbert_research.ledger.claims import Ablation, Claim
from colbert_research.ledger.evidence import Evidence
from colbert_research.ledger.ledger import Judged, Ledger
from colbert_research.ledger.plots import plot_bars, plot_curves, plot_grid, plot_lines
from colbert_research.ledger.views import View

__all__ = ["Ablation", "Claim", "Evidence", "Judged", "Ledger", "View", "plot_bars", "plot_curves", "plot_grid", "plot_lines"]
