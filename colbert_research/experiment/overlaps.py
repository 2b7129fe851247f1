"""`overlap.json` beside a record: how much of what exhaustive search over exact vectors finds its search finds, too."""

import logging
from pathlib import Path

from colbert_research.artifacts import read_json, write_json
from colbert_research.evaluation import overlap
from colbert_research.experiment.rankings import rankings_beside
from colbert_research.experiment.record import OVERLAP, RANKING, Record, found_records

logger = logging.getLogger("colbert_research")
DEPTH = 10
NAME = f"overlap@{DEPTH}"


def compare_rankings(folder: str | Path) -> None:
    """Write `overlap.json` beside each record whose ranking and exact reference lie below `folder`.

    It holds overlap@10, the reference's id, and the hashes of the two rankings, so that it counts for no others.
    """
    found = {path: record for path, record in found_records(folder) if _deep_enough(record)}
    exact = {_space(record): path for path, record in found.items() if _is_reference(record)}
    for path, record in found.items():
        reference = exact.get(_space(record))
        if reference is None or not all((p / RANKING).is_file() for p in (path, reference)):
            continue
        if not record.dataset.get("queries", 1):
            continue
        try:
            record.verify(path, RANKING)
            found[reference].verify(reference, RANKING)
            exact_ranking, ranking = rankings_beside(reference, path)
            value = overlap(ranking, exact_ranking, DEPTH)
        except (ValueError, OSError, LookupError) as error:  # damaged, or no ranking at all
            logger.warning("passed over: %s", error)
            continue
        rankings = {"own": _hash(record), "reference": _hash(found[reference])}
        write_json(path / OVERLAP, {NAME: value, "reference": found[reference].id, "rankings": rankings})


def overlap_of(path: Path, record: Record) -> float | None:
    """The overlap@10 that was computed for a record's ranking; None where there is none, or one of another ranking."""
    try:
        known = read_json(path / OVERLAP)
        return float(known[NAME]) if known["rankings"]["own"] == _hash(record) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
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
        hash(_space(record))
        return int(record.config["k"]) >= DEPTH
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        logger.warning("passed over: record %s: %s: %s", record.id, type(error).__name__, error)
        return False


def _space(record: Record) -> tuple[str, str]:
    """The vectors a record was made from: the collection's content and the reduced token vectors, before pooling."""
    stages = record.stages
    return record.dataset["fingerprint"], stages["reduce"] if "reduce" in stages else stages["encode documents"]


def _is_reference(record: Record) -> bool:
    """Whether a record scores every document's own token vectors."""
    config = record.config
    return (config["codec"]["kind"], config["search"]["kind"], pooling_of(record)) == ("exact", "exhaustive", "")


def _hash(record: Record) -> str:
    return str(record.files.get(RANKING, {}).get("sha256", ""))
