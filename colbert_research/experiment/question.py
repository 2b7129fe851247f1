"""`Question`: one query of an experiment, and all that can be asked about its search: what was found, and why or why not."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.config import Threshold
from colbert_research.evaluation import Marked, TokenMap, align, mark, plot_alignment, token_map
from colbert_research.evaluation.probing import Probe, probe
from colbert_research.evaluation.timing import strategy_of
from colbert_research.evaluation.varied import vary
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.search import Exhaustive, Explanation, Loss, LossFinder, Queries
from colbert_research.search.cell_ranks import cell_ranks, cells_of
from colbert_research.texts import document_text

if TYPE_CHECKING:
    import pandas as pd

COMPARED = 100_000
"""Among so many ids the nearest to a mistyped one is looked for."""


@dataclass(frozen=True, eq=False)
class Question:
    """A query as an `Experiment` searches for it; made by its method `ask`.

    `query_id`: None for a text that is not of the collection. `vectors`: a `Ragged` of one item. `document` below is a document
    id, and else `rank` one in the ranking, by default 1; ValueError for one that is not there.
    """

    experiment: Any
    text: str
    query_id: str | None
    vectors: Ragged
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, experiment: Any, query: str | None, query_id: str | None) -> "Question":
        """A text, or the collection's query with an id; raises ValueError for both, neither, or an unknown id."""
        if (query is None) == (query_id is None):
            given = "neither" if query is None else f"both, {query!r:.60} and {query_id!r}"
            raise ValueError(f"expected the text of a query, or the query_id of one in the collection; given {given}")
        if query is not None:
            encoded = experiment.encode_query(query)
            return cls(experiment, query, None, encoded.vectors, tuple(experiment.encoder.tokens(encoded.token_ids[0])))
        collection = experiment.collection
        place = position_of("query", query_id, collection.query_ids, "experiment.collection.query_ids")
        text, vectors = collection.query_texts[place], experiment.query_vectors.slice(place, place + 1)
        experiment.encoder.encode_queries([text])  # one that hashes words can name those that it has met
        return cls(experiment, text, query_id, vectors, tuple(experiment.encoder.tokens(experiment.queries.token_ids[place])))

    def __repr__(self) -> str:
        return f"Question({self.text!r}, {len(self.tokens)} tokens)"

    @cached_property
    def judged(self) -> tuple[str, ...]:
        """The ids of the documents that are judged relevant, the highest grade first; none for a text."""
        grades = self.experiment.collection.qrels.get(self.query_id or "", {})
        return tuple(sorted((d for d, grade in grades.items() if grade > 0), key=lambda d: (-grades[d], d)))

    @cached_property
    def ranking(self) -> Ranking:
        """The best `k` documents of the config, without the query's own where the collection says so."""
        return self._finished(self.experiment.config.search.search(self.experiment.index, self.vectors, self._k, **self._names))

    def missed(self) -> tuple[str, ...]:
        """The ids of the documents that exhaustive search of the index finds and this search does not, the best first."""
        best = self._finished(Exhaustive().search(self.experiment.index, self.vectors, self._k, **self._names))
        found = {document for document, _ in self.ranking.top(0)}
        return tuple(document for document, _ in best.top(0) if document not in found)

    def explain(self) -> Explanation:
        """What the documents went through, stage by stage; the query's own is among them, even if it is left out later."""
        config, index = self.experiment.config, self.experiment.index
        found: Explanation = config.search.explain(index, self.vectors, self._k, **self._names)
        return found

    @cached_property
    def loss_finder(self) -> LossFinder:
        """This search, to be asked what became of documents."""
        return LossFinder(self.experiment.config.search, self.experiment.index, self.vectors, self._k, self._names)

    def lost(self, document: str) -> Loss:
        """What became of a document: found, or at which stage it was lost and which settings decide that; see `Loss`."""
        position = position_of("document", document, self.experiment.index.document_ids, "experiment.collection.document_ids")
        stored = self.experiment.stored_documents.vectors[position]
        exact = float((self.vectors[0] @ np.asarray(stored, np.float32).T).max(axis=1).sum()) if len(stored) else None
        grade = self.experiment.collection.qrels.get(self.query_id or "", {}).get(document, 0)
        return self.loss_finder.loss(document, exact_score=exact, grade=int(grade))

    def cells(self, document: str) -> "pd.DataFrame":
        """For each query token the cell of a document that is nearest to it: rank among all cells, from 1, so that a search
        must probe so many to open it; query-centroid score, the cell's number, the document's tokens in it.

        Raises ValueError for an index without centroids.
        """
        import pandas as pd

        index, encoder = self.experiment.index, self.experiment.encoder
        position = position_of("document", document, index.document_ids, "experiment.collection.document_ids")
        cells, ranks = cell_ranks(index, self.vectors, position)
        names = np.array(encoder.tokens(self.experiment.stored_documents.token_ids[position]), object)
        of_tokens, rows = cells_of(index, position), []
        for i, (token, own) in enumerate(zip(self.tokens, ranks, strict=True), 1):
            cell = cells[int(own.argmin())]
            score = float(self.vectors[0][i - 1] @ index.codec.centroids[cell])
            rows.append(
                (i, token, int(own.min()), round(score, 3), int(cell), " ".join(dict.fromkeys(names[of_tokens == cell])))
            )
        columns = ["", "query token", "rank of cell", "score", "cell", "document tokens in it"]
        return pd.DataFrame(rows, columns=columns).set_index(["", "query token"])

    def beside(self, strategies: Sequence[str], n: int = 10) -> "pd.DataFrame":
        """The ids of the best `n` documents by several strategies (kind and settings each), a star at those judged relevant.

        A row per rank, a column per strategy; one that cannot search this index says why in its first row.
        """
        import pandas as pd

        def column(line: str) -> list[str]:
            try:
                found = strategy_of(line).search(self.experiment.index, self.vectors, n + self._excludes_self, **self._names)
            except ValueError as error:
                return [f"{error!s:.60}"]
            best = [document for document, _ in self._finished(found).truncate(n).top(0)]
            return [f"{document} *" if document in self.judged else document for document in best]

        columns = {line: pd.Series(column(line), dtype=object) for line in strategies}
        table = pd.DataFrame(columns).fillna("")
        return table.set_axis(range(1, len(table) + 1)).rename_axis("rank")

    @property
    def _names(self) -> dict[str, Any]:
        return {"query_ids": None if self.query_id is None else [self.query_id], "query_texts": [self.text]}

    @property
    def _excludes_self(self) -> bool:
        return self.experiment.facts.exclude_self and self.query_id is not None

    @property
    def _k(self) -> int:
        return int(self.experiment.config.k) + self._excludes_self

    def _finished(self, found: Ranking) -> Ranking:
        return found.without_self().truncate(self.experiment.config.k) if self._excludes_self else found

    def probe(self, ncells: int | None = None) -> Probe:
        """The query-centroid scores, and the `ncells` cells that each of its tokens probes, by default as the config says.

        Raises ValueError where that says nothing, and for more cells than there are.
        """
        search, encoder = self.experiment.config.search, self.experiment.encoder
        ncells = getattr(search, "ncells", None) if ncells is None else ncells
        if ncells is None:
            raise ValueError(f"search.kind={search.kind} does not say how many cells to probe; give ncells, or take kind=plaid")
        ids, threshold = self.experiment.stored_documents.token_ids.values, getattr(search, "centroid_score_threshold", None)
        return probe(
            self.experiment.index,
            self.vectors[0],
            ncells,
            query_tokens=self.tokens,
            token_ids=ids,
            names=encoder.tokens,
            threshold=threshold if isinstance(threshold, Threshold) else None,
        )

    def vary(self, setting: str, values: Sequence[Any]) -> "pd.DataFrame":
        """What a setting of the search does to this query and its judged documents, value by value; see `evaluation.vary`."""
        config, ids = self.experiment.config, (self.query_id or "0",)
        query = Queries(self.vectors, ids, (self.text,))
        return vary(config.search, setting, values, self.experiment.index, query, config.k, documents=self.judged)

    def alignment(self, document: str | None = None, rank: int | None = None) -> "pd.DataFrame":
        """Which token of a document answers which token of the query; see `evaluation.align`."""
        return align(**self._pair(self._found(document, rank)[0]))

    def plot(self, document: str | None = None, rank: int | None = None) -> Any:
        """A picture of the similarities of the tokens of query and document; see `evaluation.plot_alignment`."""
        found, standing = self._found(document, rank)
        return plot_alignment(**self._pair(found), title=f"{self.text} — {found}, {standing}")

    def map(self, document: str | None = None, rank: int | None = None) -> TokenMap:
        """The same to point at, in a notebook: hovering shows each value; see `evaluation.token_map`."""
        found, standing = self._found(document, rank)
        return token_map(**self._pair(found), title=f"{self.text} — {found}, {standing}")

    def marked(self, document: str | None = None, rank: int | None = None) -> Marked:
        """The document's text with the tokens marked that answer those of the query; see `evaluation.mark`."""
        found, standing = self._found(document, rank)
        (stored,) = self.experiment.index.documents([found])
        title = stored.title if self.experiment.facts.text_fields == "title text" else ""
        text = "\n".join(filter(None, (title, stored.text)))
        return mark(**self._pair(found), text=text, query_text=self.text, title=f"{found}, {standing}")

    def _found(self, document: str | None, rank: int | None) -> tuple[str, str]:
        """A document's id, and where it stands in the ranking."""
        ids = [found for found, _ in self.ranking.top(0)]
        if document is None:
            rank = 1 if rank is None else rank
            if not 1 <= rank <= len(ids):
                raise ValueError(f"no document at rank {rank}: {len(ids)} were found")
            return ids[rank - 1], f"rank {rank} of the {len(ids)} found"
        if rank is not None:
            raise ValueError(f"expected a document or a rank; given both, {document!r} and {rank}. Leave one out")
        position_of("document", document, self.experiment.index.document_ids, "experiment.collection.document_ids")
        place = f"rank {1 + ids.index(document)} of" if document in ids else "not among"
        return document, f"{place} the {len(ids)} found"

    def _pair(self, document: str) -> dict[str, Any]:
        index, encoder, facts = self.experiment.index, self.experiment.encoder, self.experiment.facts
        (position,), (stored,) = index.positions([document]).tolist(), index.documents([document])
        encoder.encode_documents([document_text(stored.title, stored.text, facts.text_fields)])  # as above
        names = encoder.tokens(self.experiment.stored_documents.token_ids[position])
        vectors: NDArray[np.float32] = index.vectors_of([document])[0]
        if not len(vectors):
            raise ValueError(f"document {document!r} has no tokens in the index: its text is blank, or all of it was left out")
        return {"query": self.vectors[0], "document": vectors, "query_tokens": self.tokens, "document_tokens": names}


def position_of(kind: str, given: Any, ids: Sequence[str], where: str) -> int:
    """The place of an id among `ids`; ValueError that names the nearest for one that is not there."""
    try:
        return ids.index(given)
    except ValueError:
        close = difflib.get_close_matches(str(given), ids, n=1, cutoff=0.5) if len(ids) <= COMPARED else []
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = f"there are {len(ids)}, from {ids[0]!r} to {ids[-1]!r}; {where} lists them" if ids else "there are none"
        raise ValueError(f"no {kind} has the id {given!r}: {hint}{known}") from None
