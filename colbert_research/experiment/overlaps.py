"""`overlap.json` beside a record: how much of what exhaustive search over exact vectors finds its search finds, too."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from colbert_research.evaluation import overlap
from colbert_research.evaluation.agreement import n_recall, rank_biased_overlap
from colbert_research.experiment.beside import read_beside, write_beside
from colbert_research.experiment.rankings import rankings_beside
from colbert_research.experiment.record import OVERLAP, RANKING, Record, found_records
from colbert_research.ranking import Ranking

logger = logging.getLogger("colbert_research")
DEPTH = 10
NAME = f"overlap@{DEPTH}"
WITHIN = {10: (20, 50, 100, 200), 100: (200, 500, 1000)}
"""How deep a ranking is looked at for the reference's best k, as far as it goes."""
PERSISTENCE = (0.9, 0.99)
CODES = "codes"
TOLD = (NAME, "figures", "reference", "rankings")


def compare_rankings(folder: str | Path) -> None:
    """Write `overlap.json` beside each record whose ranking and exact reference lie below `folder`.

    It holds overlap@10, further `figures` of agreement (see `agreement`), the reference's id, and the hashes of the two
    rankings, so that it counts for no others; under `codes` the same of exhaustive search in the same index, whose codes both
    score, which tells what the search loses beside what the codec does. What is there already of the same two is kept.
    """
    found = {path: record for path, record in found_records(folder) if _deep_enough(record)}
    references = sorted((each for each in found.items() if _is_exhaustive(each[1])), key=lambda each: _goodness(*each))
    exact = {_space(record): path for path, record in references if _is_reference(record)}
    same = {_index(record): path for path, record in references}
    for path, record in found.items():
        if not record.dataset.get("queries", 1):
            continue
        known = read_beside(path / OVERLAP)
        told = _compared(path, exact.get(_space(record)), found, known)
        if codes := _compared(path, same.get(_index(record)), found, known.get(CODES)):
            told[CODES] = codes
        if told and told != known:
            write_beside(path / OVERLAP, told)


def _compared(path: Path, reference: Path | None, found: Mapping[Path, Record], known: Any) -> dict[str, Any]:
    """What `overlap.json` says of a record beside a reference: `known`, where it is of the same two rankings, or where one of
    them is not here; nothing for a damaged ranking."""
    known = {name: known[name] for name in TOLD if name in known} if isinstance(known, dict) else {}
    if reference is None or not all((each / RANKING).is_file() for each in (path, reference)):
        return known
    rankings = {"own": _hash(found[path]), "reference": _hash(found[reference])}
    if known.get("rankings") == rankings and "figures" in known:
        return known
    try:
        for each in (path, reference):
            found[each].verify(each, RANKING)
        exact_ranking, ranking = rankings_beside(reference, path)
        value, figures = overlap(ranking, exact_ranking, DEPTH), agreement(ranking, exact_ranking)
    except (ValueError, OSError, LookupError) as error:  # damaged, or no ranking at all
        logger.warning("passed over: %s", error)
        return {}
    return {NAME: value, "figures": figures, "reference": found[reference].id, "rankings": rankings}


def agreement(ranking: Ranking, reference: Ranking) -> dict[str, float]:
    """Means over the queries whose reference found something: overlap@100, nRecall@k within a depth (`WITHIN`), RBO.

    Depths that one of the two rankings does not go to are left out.
    """
    own, theirs = (int(np.diff(each.offsets).max(initial=0)) for each in (ranking, reference))
    found = {f"overlap@{k}": n_recall(ranking, reference, k) for k in WITHIN if k > DEPTH and k <= min(own, theirs)}
    for k, depths in WITHIN.items():
        for depth in depths if k <= theirs else ():
            if depth <= own:
                found[f"nRecall@{k} within {depth}"] = n_recall(ranking, reference, k, within=depth)
    found |= {f"RBO(p={p:g})": rank_biased_overlap(ranking, reference, p=p) for p in PERSISTENCE}
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def agreement_of(path: Path, record: Record) -> dict[str, float]:
    """All figures of agreement that were computed for a record's ranking, overlap@10 among them; none, where there are none.

    Those with exhaustive search of the same codes are called as in `RBO(p=0.99) of the codes`.
    """
    if (value := overlap_of(path, record)) is None:
        return {}
    told = read_beside(path / OVERLAP)
    found = {NAME: value} | {str(name): float(figure) for name, figure in told.get("figures", {}).items()}
    codes = told.get(CODES, {})
    if codes.get("rankings", {}).get("own") == _hash(record):
        figures = {NAME: codes[NAME], **codes["figures"]}
        found |= {f"{name} of the codes": float(figure) for name, figure in figures.items()}
    return found


def overlap_of(path: Path, record: Record) -> float | None:
    """The overlap@10 that was computed for a record's ranking; None where there is none, or one of another ranking."""
    if NAME not in (known := read_beside(path / OVERLAP)):  # it may tell of the codes alone
        return None
    try:
        return float(known[NAME]) if known["rankings"]["own"] == _hash(record) else None
    except (ValueError, LookupError, TypeError) as error:
        logger.warning("passed over: %s: %s: %s", path / OVERLAP, type(error).__name__, error)
        return None


def pooling_of(record: Record) -> str:
    """Kind, variant and factor or threshold, as in `ward cosine unit 2`; nothing where all tokens are kept."""
    pooling = record.config.get("pooling", {"kind": "none"})
    if pooling["kind"] == "none":
        return ""
    variant = [pooling[key] for key in ("kind", "definition", "merged") if key in pooling]
    return " ".join([*variant, *(f"{pooling[key]:g}" for key in ("factor", "threshold") if key in pooling)])


def _deep_enough(record: Record) -> bool:
    try:
        _is_reference(record)
        hash((_space(record), _index(record)))
        return int(record.config["k"]) >= DEPTH
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        logger.warning("passed over: record %s: %s: %s", record.id, type(error).__name__, error)
        return False


def _space(record: Record) -> tuple[str, str]:
    """The vectors a record was made from: the collection's content and the reduced token vectors, before pooling."""
    stages = record.stages
    return record.dataset["fingerprint"], stages["reduce"] if "reduce" in stages else stages["encode documents"]


def _index(record: Record) -> tuple[str, str]:
    """The codes that a record searched, and what it asked of them."""
    return str(record.stages["index"]), str(record.stages["encode queries"])


def _is_exhaustive(record: Record) -> bool:
    """Whether a record scores every document."""
    return bool(record.config["search"]["kind"] == "exhaustive")


def _is_reference(record: Record) -> bool:
    """Whether a record scores every document's own token vectors."""
    return _is_exhaustive(record) and (record.config["codec"]["kind"], pooling_of(record)) == ("exact", "")


def _goodness(path: Path, record: Record) -> tuple[bool, bool, int]:
    """How good a reference a record is: with its ranking before without, float32 before less, deep before shallow."""
    return (path / RANKING).is_file(), record.config["codec"].get("dtype") == "float32", int(record.config["k"])


def _hash(record: Record) -> str:
    return str(record.files.get(RANKING, {}).get("sha256", ""))
