"""Costs: what an index of a size that is not here would take: bytes from codecs, hours and milliseconds from measurements."""

from colbert_research.costs.measurements import Measurements
from colbert_research.costs.plan import Plan
from colbert_research.costs.planner import planned
from colbert_research.costs.reading import read_measurements
from colbert_research.costs.request import Request
from colbert_research.costs.table import text

__all__ = ["Measurements", "Plan", "Request", "planned", "read_measurements", "text"]
