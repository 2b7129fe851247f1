"""`Experiment`: one resolved config, run stage by stage. Each stage is computed when it is first asked for, or found cached."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.artifacts import StageCache, StageResult
from colbert_research.config import config_id, load_config, merge, parse_overrides
from colbert_research.data import Collection
from colbert_research.encoders import Encoder, TokenVectors, open_vectors
from colbert_research.evaluation import align, evaluate, mean_measures, plot_alignment
from colbert_research.experiment import stages
from colbert_research.experiment.config import ExperimentConfig
from colbert_research.experiment.record import Record, make_record
from colbert_research.index import Index
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking

if TYPE_CHECKING:
    import pandas as pd


class Experiment:
    """The boxes of the pipeline, each a property: collection, documents, queries, index, ranking, per_query, record."""

    def __init__(self, config: ExperimentConfig, *, output: str | Path | None = None, cache: StageCache | None = None) -> None:
        self.config = config
        self.cache = cache or StageCache.default()
        self.output = Path(output) if output else Path("experiments") / "scratch" / self.id

    @property
    def id(self) -> str:
        """`sha256(canonical JSON of the resolved config)[:12]`."""
        return config_id(self.config)

    def __repr__(self) -> str:
        return f"Experiment({self.id}, output {str(self.output)!r})"

    @cached_property
    def collection(self) -> Collection:
        loaded: Collection = self.config.dataset.load()
        return loaded

    @cached_property
    def encoder(self) -> Encoder:
        loaded: Encoder = self.config.encoder.load()
        return loaded

    @cached_property
    def results(self) -> dict[str, StageResult]:
        """Stage -> its result, for the stages that have run."""
        return {}

    @cached_property
    def pipeline(self) -> dict[str, stages.Stage]:
        """All stages, run or not, in order; without those that this config does not need (`reduce`, `pool`, `cluster`)."""
        documents, queries = (
            stages.encode(self.cache, self.config, self.encoder, self.collection, side) for side in ("documents", "queries")
        )
        reduced = stages.reduce(self.cache, self.config, documents)
        pooled = stages.pool(self.cache, self.config, reduced)
        clustered = stages.cluster(self.cache, self.config, pooled)
        index = stages.index(self.cache, self.config, self.collection, stored=pooled, clustered=clustered)
        search = stages.search(self.cache, self.config, self.collection, built=index, queries=queries, reduced=reduced)
        found = {
            "encode documents": documents,
            "encode queries": queries,
            "reduce": None if reduced is documents else reduced,
            "pool": None if pooled is reduced else pooled,
            "cluster": clustered,
            "index": index,
            "search": search,
        }
        return {name: stage for name, stage in found.items() if stage is not None}

    @property
    def _reduced(self) -> stages.Stage:
        return self.pipeline.get("reduce", self.pipeline["encode documents"])

    def run(self, name: str) -> StageResult:
        """The result of a stage, after those before it: computed, or found in the cache."""
        if name not in self.pipeline:
            raise KeyError(f"this experiment has no stage {name!r}; it has {', '.join(self.pipeline)}")
        for earlier, stage in self.pipeline.items():
            if earlier not in self.results:
                self.results[earlier] = stage.run()
            if earlier == name:
                break
        return self.results[name]

    @cached_property
    def documents(self) -> TokenVectors:
        """Token vectors of the documents as encoded, memory-mapped."""
        return open_vectors(self.run("encode documents").path)

    @cached_property
    def stored_documents(self) -> TokenVectors:
        """Token vectors of the documents as they are indexed, before the codec: encoded, reduced, pooled; memory-mapped."""
        last = next(name for name in ("pool", "reduce", "encode documents") if name in self.pipeline)
        self.run(last)
        return stages.document_tokens(self.pipeline[last])

    @cached_property
    def queries(self) -> TokenVectors:
        """Token vectors of the queries as encoded."""
        return open_vectors(self.run("encode queries").path)

    @cached_property
    def query_vectors(self) -> Ragged:
        """Query vectors as they are searched with: encoded, then reduced like the documents."""
        self.run("index")
        return stages.reduce_queries(self._reduced, self.queries.vectors)

    @cached_property
    def index(self) -> Index:
        return Index.open(self.run("index").path / "index")

    @cached_property
    def ranking(self) -> Ranking:
        self.run("search")
        return stages.open_ranking(self.pipeline["search"], self.collection)

    @cached_property
    def per_query(self) -> "pd.DataFrame":
        """query_id, measure, value."""
        return evaluate(self.ranking, self.collection.qrels, self.config.measures)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The mean of each measure over the judged queries."""
        return mean_measures(self.per_query)

    def variant(self, overrides: str | Mapping[str, Any]) -> "Experiment":
        """This experiment with some settings changed; shares the cache, so only what the change affects is computed."""
        data = merge(self.config.model_dump(mode="json"), parse_overrides(overrides))
        return Experiment(load_config(ExperimentConfig, None, data), cache=self.cache)

    def encode_query(self, text: str) -> TokenVectors:
        """One new query's token vectors, reduced like the documents, and its token ids."""
        self.run("index")
        encoded = self.encoder.encode_queries([text])
        return TokenVectors(stages.reduce_queries(self._reduced, encoded.vectors), encoded.token_ids)

    def search(self, text: str, k: int = 3) -> "pd.DataFrame":
        """Search for one new text: a table with rank, score, document_id, title, text."""
        import pandas as pd

        query = self.encode_query(text).vectors
        found = self.config.search.search(self.index, query, k, query_texts=[text]).top(0)
        documents = self.index.documents([document for document, _ in found])
        rows = [(i, score, d.id, d.title, d.text) for i, ((_, score), d) in enumerate(zip(found, documents, strict=True), 1)]
        return pd.DataFrame(rows, columns=["rank", "score", "document_id", "title", "text"]).set_index("rank")

    def answers(self, questions: Sequence[str]) -> "pd.DataFrame":
        """The best passage of each question: question, best passage, score."""
        import pandas as pd

        best = [self.search(question, k=1).iloc[0] for question in questions]
        rows = [(q, f"{b.title}: {b.text}", round(b.score, 2)) for q, b in zip(questions, best, strict=True)]
        return pd.DataFrame(rows, columns=["question", "best passage", "score"])

    def alignment(self, question: str, rank: int = 1) -> "pd.DataFrame":
        """Which token of the document at `rank` answers which token of the question; see `evaluation.align`."""
        return align(**self._pair(question, rank)[0])

    def plot(self, question: str, rank: int = 1) -> Any:
        """A picture of `alignment` over all pairs of tokens; see `evaluation.plot_alignment`."""
        pair, title = self._pair(question, rank)
        return plot_alignment(**pair, title=title)

    def _pair(self, question: str, rank: int) -> tuple[dict[str, Any], str]:
        query, hit = self.encode_query(question), self.search(question, k=rank).loc[rank]
        position = int(self.index.positions([hit.document_id])[0])
        pair = {
            "query": query.vectors[0],
            "document": self.index.vectors_of([hit.document_id])[0],
            "query_tokens": self.encoder.tokens(query.token_ids[0]),
            "document_tokens": self.encoder.tokens(self.stored_documents.token_ids[position]),
        }
        return pair, f"{hit.score:.2f}  {question}  —  {hit.title}"

    def plan(self) -> "pd.DataFrame":
        """Which stages are cached and which are to do, without computing any."""
        import pandas as pd

        rows = [(name, "cached" if s.cached else "to do", f"{s.kind}/{s.key}") for name, s in self.pipeline.items()]
        return pd.DataFrame(rows, columns=["stage", "state", "artifact"]).set_index("stage")

    def status(self) -> "pd.DataFrame":
        """The stages that have run: whether each was cached, how long it took when it was computed, and its folder."""
        import pandas as pd

        rows = [
            (name, "cached" if r.hit else "computed", round(float(r.notes["seconds"]), 2), f"{r.path.parent.name}/{r.key}")
            for name, r in self.results.items()
        ]
        return pd.DataFrame(rows, columns=["stage", "state", "seconds", "artifact"]).set_index("stage")

    @cached_property
    def record(self) -> Record:
        """Everything measured, after running whatever has not run yet."""
        return make_record(self)

    def save(self) -> Record:
        """Write the record into `output`: config, rankings and per-query values first, `record.json` last."""
        self.record.save(self.output, ranking=self.ranking, per_query=self.per_query)
        return self.record

    def work_table(self) -> "pd.DataFrame":
        """What the stages of the search took and touched, for one query on average."""
        import pandas as pd

        queries = max(1, len(self.ranking))
        seconds = self.run("search").notes["stage_seconds"]
        work = stages.work_of(self.run("search"))
        rows = {
            name: {"ms": 1e3 * seconds[name] / queries} | {unit: total / queries for unit, total in counts.items()}
            for name, counts in work.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").round(2).rename_axis("stage, for one query")

    def table(self) -> "pd.DataFrame":
        """Metrics and costs in one small table, the last output of a notebook."""
        return self.record.table()

    def summary(self, questions: Sequence[str]) -> "pd.DataFrame":
        """`answers` and the metrics below each other, as `make quickstart` prints them."""
        import pandas as pd

        answers = self.answers(questions)
        answers["best passage"] = [passage[:70] + "…" for passage in answers["best passage"]]
        rows = [(name, "", round(value, 4)) for name, value in self.metrics.items()]
        return pd.concat([answers, pd.DataFrame(rows, columns=answers.columns)], ignore_index=True)
