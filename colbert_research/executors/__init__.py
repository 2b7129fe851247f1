"""Executors: where functions run. Inline, in processes of this machine, on a cluster of Ray; arrays of jobs for Slurm."""

from colbert_research.executors.base import Executor, NotBegunError, Resources, Worker, WorkerDiedError, WorkersConfig
from colbert_research.executors.probe import WorkerDiffersError
from colbert_research.executors.registry import EXECUTORS

__all__ = [
    "EXECUTORS",
    "Executor",
    "NotBegunError",
    "Resources",
    "Worker",
    "WorkerDiedError",
    "WorkerDiffersError",
    "WorkersConfig",
]
