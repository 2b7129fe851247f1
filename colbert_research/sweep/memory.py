"""How much memory the processes of a sweep take: as recorded of runs that are done, else from sizes of vectors and index."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colbert_research.experiment import Record
from colbert_research.experiment.plan import ENCODED
from colbert_research.experiment.stage import Stage
from colbert_research.memory import MODEL, PROCESS, available_memory
from colbert_research.settings import ConfigError
from colbert_research.sweep.runs import Run
from colbert_research.sweep.schedule import shared_stages
from colbert_research.sweep.states import State

logger = logging.getLogger("colbert_research")
GB = 10**9
OF_VECTORS = {"reduce": 1.5, "pool": 1.5}
OF_SAMPLE = 3.5
"""Bytes for each byte of the vectors that are read, or of the sample that a codec is fitted on: the largest that were measured
on NFCorpus and SciFact at 128 and 384 dimensions (1.5 and 3.4)."""
WORDS = 220
"""Tokens of a document that is not encoded yet, where its encoder says no length."""


@dataclass(frozen=True)
class Need:
    """Bytes that a process takes at most, and for what."""

    bytes: float
    what: str

    def __str__(self) -> str:
        return f"{self.bytes / GB:.1f} GB for {self.what}"


def check_memory(runs: Sequence[Run], left: Sequence[Run], jobs: int) -> None:
    """Raise ConfigError where the `jobs` largest tasks of the runs that are left take more memory than there is.

    What is known of the other runs is used. A single job is only warned of: what it takes is an estimate, and less is not to be
    had.
    """
    needs, there = sorted(_needs(runs, left), key=lambda need: -need.bytes), available_memory()
    if sum(need.bytes for need in needs[:jobs]) <= there:
        return
    said = f"{', '.join(map(str, needs[: min(jobs, 3)]))}{', …' if jobs > 3 else ''}, and {there / GB:.1f} GB are available"
    fits = next((n for n in range(jobs - 1, 0, -1) if sum(need.bytes for need in needs[:n]) <= there), 0)
    if jobs == 1:
        logger.warning("it may not fit into memory: %s", said)
        return
    how = f"the most that fits is --jobs {fits}" if fits else "not even one is sure to fit; --jobs 1 tries it"
    raise ConfigError(f"--jobs {jobs} may take {said}; {how}")


def _needs(runs: Sequence[Run], left: Sequence[Run]) -> list[Need]:
    """Of every task: a stage that several runs need, and what each run computes by itself. Of timed runs, the largest."""
    recorded = _recorded(runs)
    together = [run for run in left if run.experiment.config.latency is None]
    shared = shared_stages(together)
    needs = [_need(each.runs[0], each.name, each.stage, recorded) for each in shared.values()]
    timed: list[Need] = []
    for run in left:
        own = {name: stage for name, stage in run.lacking().items() if stage not in shared}
        of_run = [_need(run, name, stage, recorded) for name, stage in own.items()]
        largest = max(of_run, key=lambda need: need.bytes, default=Need(PROCESS, f"run {run.id}"))
        (timed if run.experiment.config.latency else needs).append(largest)
    return [*needs, *sorted(timed, key=lambda need: -need.bytes)[:1]]


def _recorded(runs: Sequence[Run]) -> Mapping[tuple[str, ...], float]:
    """The most that a stage took in a run that is done: by its name, collection, and what decides the width of its vectors."""
    most: dict[tuple[str, ...], float] = {}
    for run in runs:
        if run.state is State.DONE:
            for name, size in Record.open(run.folder).measured.get("peak_memory_bytes", {}).items():
                most[_like(run, name)] = max(most.get(_like(run, name), 0.0), float(size))
    return most


def _like(run: Run, name: str) -> tuple[str, ...]:
    config, facts = run.experiment.config, run.experiment.facts
    kinds = (config.codec.kind, config.search.kind, repr(config.reducer), repr(config.pooling))
    return (name, facts.fingerprint, run.experiment.encoder_fingerprint, *kinds)


def _need(run: Run, name: str, stage: Stage, recorded: Mapping[tuple[str, ...], float]) -> Need:
    known = recorded.get(_like(run, name))
    return Need(known if known is not None else _estimate(run, stage), f"{name} of run {run.id}")


def _estimate(run: Run, stage: Stage) -> float:
    """What a stage takes, from the sizes of what it reads and writes. Documents that are not encoded yet are taken to be as
    long as their encoder lets them be."""
    config = run.experiment.config
    encoded = run.experiment.stages[ENCODED]
    tokens, width = _size(run, encoded)
    reduced = getattr(config.reducer, "dim", None) or width
    if stage.kind == "encode":
        return PROCESS if config.encoder.kind == "hashing" else MODEL
    if stage.kind in OF_VECTORS:
        return PROCESS + OF_VECTORS[stage.kind] * 4 * tokens * width
    vectors = 4.0 * tokens * reduced
    sample = 4.0 * reduced * config.codec.sample_size(tokens)
    if stage.kind == "cluster":
        return PROCESS + OF_SAMPLE * sample
    index = vectors if config.codec.kind == "exact" else vectors / 4 + 8 * tokens
    if stage.kind == "index":
        return PROCESS + max(OF_SAMPLE * sample, index)
    return PROCESS + index * (2 if stage.kind == "structure" else 1)


def _size(run: Run, encoded: Stage) -> tuple[int, int]:
    """Tokens of all documents, and dimensions of their vectors as encoded."""
    found = run.experiment.workspace.find(encoded)
    notes: Mapping[str, Any] = {} if found is None else found.notes
    if {"tokens", "dim"} <= {*notes}:
        return int(notes["tokens"]), int(notes["dim"])
    config: Any = run.experiment.config.encoder
    each = getattr(config, "document_length", None) or WORDS
    return run.experiment.facts.n_documents * int(each), int(getattr(config, "dim", None) or 384)
