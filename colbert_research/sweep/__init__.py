"""Sweeps: a grid of experiments in one YAML file, executed by papermill, resumed after any interruption, read as one table."""

from colbert_research.sweep.config import SweepConfig
from colbert_research.sweep.plan import Plan
from colbert_research.sweep.states import State
from colbert_research.sweep.sweep import Sweep

__all__ = ["Plan", "State", "Sweep", "SweepConfig"]
