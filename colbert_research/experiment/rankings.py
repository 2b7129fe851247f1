"""The rankings beside records, as they were decided."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from colbert_research.experiment.record import RANKING
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd


def rankings_beside(*folders: Path) -> list[Ranking]:
    """The rankings beside some records, over one list of documents and one of queries, so that they can be compared.

    Queries that found nothing in all of them are left out. Scores are the negative ranks: the files hold no positions, by
    which ties were decided, and their order must not be decided again.
    """
    import pandas as pd

    frames = [pd.read_parquet(folder / RANKING, columns=["query_id", "rank", "document_id"]) for folder in folders]
    queries = list(dict.fromkeys(query for frame in frames for query in frame["query_id"]))
    documents = sorted(set().union(*(frame["document_id"] for frame in frames)))
    return [_ranking(frame, queries, documents) for frame in frames]


def _ranking(frame: "pd.DataFrame", queries: Sequence[str], documents: Sequence[str]) -> Ranking:
    import pandas as pd

    position = pd.Index(documents).get_indexer(frame["document_id"])
    scores = -frame["rank"].to_numpy(np.float32)
    rows = frame.groupby("query_id", sort=False).indices
    none = np.empty(0, np.int64)
    results = [(position[at], scores[at]) for at in (rows.get(query, none) for query in queries)]
    return Ranking.of(results, query_ids=queries, document_ids=documents)
