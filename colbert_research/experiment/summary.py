"""A summary of records: what was chosen, what it cost and what it gave, one row a record, to commit and to show."""

from pathlib import Path
from typing import TYPE_CHECKING

from colbert_research.evaluation import overlap
from colbert_research.experiment.record import FILE, Record
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd


def summarize(folder: str | Path, *, measures: tuple[str, ...] = ("nDCG@10", "R@100", "RR@10")) -> "pd.DataFrame":
    """Every finished record below `folder`, ordered by collection, width, pooling, codec and search.

    `ms/query` and `p95`: median and 95th percentile over the queries. `overlap@10` is with the record that scores all exact
    vectors of the same width exhaustively, where there is one.
    """
    import pandas as pd

    found = {path.parent: Record.open(path.parent) for path in sorted(Path(folder).rglob(FILE))}
    exact = {_space(record): path for path, record in found.items() if _is_reference(record)}
    rows = []
    for path, record in found.items():
        rows.append(
            {
                "collection": record.dataset["name"],
                "documents": record.dataset["documents"],
                "dim": record.index["dim"],
                "pooling": _pooling(record),
                "codec": _codec(record),
                "search": _search(record),
                **{name: f"{record.metrics[name]:.4f}" for name in measures if name in record.metrics},
                "overlap@10": f"{_overlap(path, exact[_space(record)]):.3f}" if _space(record) in exact else "",
                "ms/query": f"{record.measured['query_ms']['median']:.1f}",
                "p95": f"{record.measured['query_ms']['p95']:.1f}",
                "tokens/document": f"{record.index['tokens'] / max(1, record.dataset['documents']):.1f}",
                "bytes/token": record.index["code_bytes_per_token"],
                "record": record.id,
            }
        )
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).sort_values(
        ["collection", "documents", "dim", "pooling", "codec", "search"], ascending=[True, True, False, True, True, True]
    )


def _space(record: Record) -> tuple[str, str]:
    """The vectors a record was made from: the collection's content and the reduced token vectors, before pooling."""
    stages = record.stages
    return record.dataset["fingerprint"], stages.get("reduce", stages["encode documents"])


def _is_reference(record: Record) -> bool:
    """Whether a record scores every document's own token vectors."""
    return (record.config["codec"]["kind"], _search(record), _pooling(record)) == ("exact", "exhaustive", "")


def _pooling(record: Record) -> str:
    """Kind, variant and factor, as in `ward cosine unit 2`; nothing where all tokens are kept."""
    pooling = record.config.get("pooling", {"kind": "none"})
    if pooling["kind"] == "none":
        return ""
    variant = [pooling[key] for key in ("kind", "definition", "merged") if key in pooling]
    return " ".join([*variant, f"{pooling['factor']:g}"] if "factor" in pooling else variant)


def _codec(record: Record) -> str:
    """Kind and size, and what is not the usual choice of its kind."""
    codec = record.config["codec"]
    parts = [codec["kind"], f"{codec['nbits']}-bit" if "nbits" in codec else codec.get("dtype", "")]
    parts += [f"m={codec['m']}" if "m" in codec else "", codec.get("rotation", "").replace("identity", "")]
    parts += [codec.get("method", "").replace("kmeans", ""), "quantiles" if codec.get("levels") == "quantiles" else ""]
    return " ".join(part for part in parts if part)


def _search(record: Record) -> str:
    return str(record.config["search"]["kind"])


def _overlap(path: Path, reference: Path) -> float:
    import pandas as pd

    frames = [pd.read_parquet(p / "ranking.parquet") for p in (path, reference)]
    queries = list(dict.fromkeys(frames[1]["query_id"]))
    documents = sorted(set(frames[0]["document_id"]) | set(frames[1]["document_id"]))
    rankings = [
        Ranking.from_parquet(p / "ranking.parquet", document_ids=documents, query_ids=queries) for p in (path, reference)
    ]
    return overlap(rankings[0], rankings[1], 10)
