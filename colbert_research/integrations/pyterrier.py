"""PyTerrier: a retriever as a transformer, to stand in `pt.Experiment` (extra `pyterrier`)."""

from typing import TYPE_CHECKING, Any

import pyterrier as pt

from colbert_research.data.passages import source_of
from colbert_research.search import Hit

if TYPE_CHECKING:
    import pandas as pd


class LateInteractionTransformer(pt.Transformer):  # type: ignore[misc]
    """From queries (`qid`, `query`) to the best `k` documents of each (`docno`, `score`, `rank` from 0, `text`).

    `retriever`: a `Retriever`. Of the passages of one document the best one counts, so that there may be fewer documents
    than `k`; `docno` is the document's id. `filter`: as in `Retriever.search`.
    """

    def __init__(self, retriever: Any, *, k: int = 1000, filter: Any = None) -> None:
        self.retriever, self.k, self.filter = retriever, k, filter

    def transform(self, inp: "pd.DataFrame") -> "pd.DataFrame":
        """The results of all queries, query after query, by rank."""
        import pandas as pd

        pt.validate.query_frame(inp, extra_columns=["query"])
        kept = [name for name in inp.columns if name not in ("docno", "score", "rank", "text")]
        asked = {} if self.filter is None else {"filter": self.filter}
        found = self.retriever.search_many(inp["query"].tolist(), self.k, **asked)
        rows: list[dict[str, Any]] = []
        for query, hits in zip(inp[kept].to_dict("records"), found, strict=True):
            best: dict[str, Hit] = {}
            for hit in hits:
                best.setdefault(source_of(hit.document_id, hit.metadata).document_id, hit)
            rows += [
                {**query, "docno": document, "score": hit.score, "rank": rank, "text": hit.text}
                for rank, (document, hit) in enumerate(best.items())
            ]
        return pd.DataFrame(rows, columns=[*kept, "docno", "score", "rank", "text"])
