"""Experiments: one resolved config to one record, through cached stages; and what notebooks call."""

from colbert_research.experiment.compare import compare_records
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.experiment import Experiment
from colbert_research.experiment.notebook import start
from colbert_research.experiment.record import Record, RecordError, load_records
from colbert_research.experiment.summary import summarize
from colbert_research.experiment.workspace import Workspace

__all__ = [
    "Experiment",
    "ExperimentConfig",
    "Record",
    "RecordError",
    "Workspace",
    "compare_records",
    "load_records",
    "start",
    "summarize",
]
