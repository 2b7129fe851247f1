"""`Experiment`: one resolved config, planned as stages. Each is computed when it is first asked for, or found in the cache."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colbert_research.cache import Artifact
from colbert_research.codecs.clustering import Clustering
from colbert_research.config import load_config
from colbert_research.data import Collection
from colbert_research.encoders import Encoder, TokenVectors
from colbert_research.encoders.stored import open_stored
from colbert_research.evaluation import Marked, evaluate, mean_measures
from colbert_research.evaluation.measures import check_grades, parse_measures
from colbert_research.experiment.config import ExperimentConfig, experiment_id
from colbert_research.experiment.known import remember
from colbert_research.experiment.output import OutputFolder
from colbert_research.experiment.plan import ENCODED, QUERIES, RANK, planned, structures_of
from colbert_research.experiment.question import Question
from colbert_research.experiment.record import FILE, Record, make_record
from colbert_research.experiment.stage import Stage
from colbert_research.experiment.stages import rank, structure
from colbert_research.experiment.workspace import DataChangedError, Workspace
from colbert_research.index import FilterLike, Index
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.settings import ConfigError, merge, parse_overrides, read_yaml

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("colbert_research")


class Experiment:
    """The boxes of the pipeline, each a property: collection, documents, queries, index, ranking, per_query, record.

    `output`: the folder of its record, by default `experiments/scratch/<id>`. Experiments that share a `workspace` read a
    collection and load an encoder once. Raises ConfigError for measures that the collection's judgements cannot serve,
    and for components that no config.yaml would lead back to.
    """

    def __init__(
        self, config: ExperimentConfig, *, output: str | Path | None = None, workspace: Workspace | None = None
    ) -> None:
        config.check_kinds()
        self.config = config
        self.workspace = workspace or Workspace()
        self.facts = self.workspace.facts(config.dataset)
        ours = type(config.codec).__module__.startswith("colbert_research.")  # what others have, an index tells
        if config.search.needs_centroids() and ours and not isinstance(config.codec, Clustering):
            raise ConfigError(
                f"{config.search.what_needs_centroids()} needs centroids, which codec.kind={config.codec.kind} does not have; "
                "choose a codec such as residual, or search.kind=exhaustive"
            )
        config.search.check_size(self.facts.n_documents, config.k + self.facts.exclude_self)
        if self.facts.n_judgements:
            check_grades(parse_measures(config.measures), self.facts.greatest_grade)
        self.encoder_fingerprint, _ = self.workspace.fingerprint(config.encoder)
        self.results: dict[str, tuple[Artifact, bool]] = {}
        """Stage -> its artifact and whether it was found, for the stages that were asked for."""
        self.output = OutputFolder(Path(output) if output else Path("experiments") / "scratch" / self.id, self.id)

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str] | Mapping[str, str],
        overrides: str | Mapping[str, Any] = "",
        *,
        config: str | Path | None = None,
        titles: Sequence[str] | Mapping[str, str] | None = None,
        queries: Sequence[str] | Mapping[str, str] | None = None,
        qrels: Mapping[str, Mapping[str, int]] | None = None,
        output: str | Path | None = None,
        workspace: Workspace | None = None,
    ) -> "Experiment":
        """An experiment over texts of one's own, with the settings of a `config` file and `overrides`.

        `texts`, `titles`, `queries`: lists, whose ids are "0", "1", …, or mappings from id to text. `qrels`: query id ->
        document id -> grade. Raises ConfigError and DataError for what does not fit.
        """
        given = {"texts": texts, "titles": titles or {}, "queries": queries or {}, "qrels": qrels or {}}
        dataset = {name: value if isinstance(value, Mapping) else _numbered(name, value) for name, value in given.items()}
        changes = parse_overrides(overrides)
        asked = changes.pop("dataset", {})
        if not isinstance(asked, Mapping) or asked.get("kind", "texts") != "texts":
            raise ConfigError(f"the dataset of from_texts are the texts that are given; leave out dataset={asked!r}")
        settings = merge(read_yaml(config) if config else {}, changes)
        settings["dataset"] = {
            "kind": "texts",
            **asked,
            **{name: value for name, value in dataset.items() if value or name == "texts"},
        }
        return cls(load_config(ExperimentConfig, None, settings), output=output, workspace=workspace)

    @cached_property
    def id(self) -> str:
        """See `experiment_id`."""
        return experiment_id(self.config, collection=self.facts.fingerprint, encoder=self.encoder_fingerprint)

    def __repr__(self) -> str:
        return f"Experiment({self.id}, output {str(self.output.path)!r})"

    @property
    def collection(self) -> Collection:
        """Raises DataChangedError where its files were changed since the experiment was made."""
        self._check_unchanged()
        return self.workspace.collection(self.config.dataset)

    def _check_unchanged(self) -> None:
        if self.workspace.fingerprint(self.config.encoder)[0] != self.encoder_fingerprint:
            raise DataChangedError("the encoder's files were changed since this experiment was made; make the experiment anew")
        if self.workspace.facts(self.config.dataset) != self.facts:
            raise DataChangedError(
                f"the collection {self.facts.name!r} was changed since this experiment was made, and it is another one now; "
                "make the experiment anew"
            )

    @property
    def encoder(self) -> Encoder:
        self._check_unchanged()
        return self.workspace.encoder(self.config.encoder)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """All stages by name, in order, without those that this config does not need; planning loads and computes nothing."""
        self._check_unchanged()
        return planned(self.workspace, self.config)

    def run(self, name: str) -> Artifact:
        """The artifact of a stage, computed with what it needs, or found in the cache."""
        if name not in self.stages:
            raise KeyError(f"this experiment has no stage {name!r}; it has {', '.join(self.stages)}")
        for earlier, stage in self.stages.items():
            if earlier not in self.results:
                self.results[earlier] = self.workspace.run(stage)
            if earlier == name:
                break
        return self.results[name][0]

    @property
    def documents(self) -> TokenVectors:
        """Token vectors of the documents as encoded, memory-mapped."""
        return self._vectors(ENCODED)

    @property
    def stored_documents(self) -> TokenVectors:
        """Token vectors of the documents as they are indexed, before the codec: encoded, reduced, pooled; memory-mapped."""
        return self._vectors(next(name for name in ("pool", "reduce", ENCODED) if name in self.stages))

    @property
    def queries(self) -> TokenVectors:
        """Token vectors of the queries as encoded."""
        return self._vectors(QUERIES)

    def _vectors(self, name: str) -> TokenVectors:
        try:
            return open_stored(self.run(name).path).tokens
        except (OSError, ValueError, SyntaxError):  # damaged: then it is computed again, or the error is another one
            return open_stored(self.workspace.sound(self.stages[name]).path).tokens

    @property
    def query_vectors(self) -> Ragged:
        """Query vectors as they are searched with: encoded, then projected like the documents."""
        index = self.index
        return rank.queries_of(self.workspace, self.stages[RANK], index).vectors

    @cached_property
    def index(self) -> Index:
        """The index, with what the search needs beside its codes."""
        for name, stage in self.stages.items():
            if stage.kind in ("index", "structure"):
                self.run(name)
                self.workspace.sound(stage)
        return structure.open_index(self.workspace, self.stages[RANK])

    @cached_property
    def ranking(self) -> Ranking:
        self.run(RANK)
        artifact = self.workspace.sound(self.stages[RANK])
        return rank.open_ranking(artifact.path, self.collection)

    @cached_property
    def per_query(self) -> "pd.DataFrame":
        """query_id, measure, value."""
        return evaluate(self.ranking, self.collection.qrels, self.config.measures)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The mean of each measure over the judged queries; none where nothing is judged."""
        return mean_measures(self.per_query)

    def variant(self, overrides: str | Mapping[str, Any]) -> "Experiment":
        """This experiment with some settings changed; shares the workspace, so only what the change affects is computed."""
        data = merge(self.config.model_dump(mode="json"), parse_overrides(overrides))
        return Experiment(load_config(ExperimentConfig, None, data), workspace=self.workspace)

    def encode_query(self, text: str) -> TokenVectors:
        """One new query's token vectors, projected like the documents, and its token ids. Raises ValueError for a blank one."""
        if not text.strip():
            raise ValueError(f"a query needs at least one word; given {text!r}")
        return self._pipeline.query_tokens([text])

    @property
    def _pipeline(self) -> Any:
        pipeline = self.index.pipeline
        assert pipeline is not None
        return pipeline.with_encoder(self.encoder)

    def search(self, text: str, k: int = 3, filter: FilterLike | None = None) -> "pd.DataFrame":
        """Search for one new text: a table with rank, score, document_id, title, text.

        `filter`: which documents may be found, by their metadata; see `index.Filter.of`.
        """
        import pandas as pd

        query = self.encode_query(text).vectors
        found = self.config.search.search(self.index, query, k, query_texts=[text], filter=filter).top(0)
        documents = self.index.documents([document for document, _ in found])
        rows = [(i, score, d.id, d.title, d.text) for i, ((_, score), d) in enumerate(zip(found, documents, strict=True), 1)]
        return pd.DataFrame(rows, columns=["rank", "score", "document_id", "title", "text"]).set_index("rank")

    def answers(self, questions: Sequence[str]) -> "pd.DataFrame":
        """The best passage of each question: question, best passage, score."""
        import pandas as pd

        best = [self.search(question, k=1).iloc[0] for question in questions]
        rows = [(q, f"{b.title}: {b.text}", round(b.score, 2)) for q, b in zip(questions, best, strict=True)]
        return pd.DataFrame(rows, columns=["question", "best passage", "score"])

    def ask(self, query: str | None = None, *, query_id: str | None = None) -> Question:
        """One query, as a text or as the collection's with an id, to look into its search; see `Question`."""
        return Question.of(self, query, query_id)

    def alignment(
        self, query: str | None = None, *, query_id: str | None = None, document: str | None = None, rank: int | None = None
    ) -> "pd.DataFrame":
        """Which token of a document, by default the first that is found, answers which token of a query; see `Question`."""
        return self.ask(query, query_id=query_id).alignment(document, rank)

    def plot(
        self, query: str | None = None, *, query_id: str | None = None, document: str | None = None, rank: int | None = None
    ) -> Any:
        """A picture of the similarities of the tokens of a query and of a document; see `Question`."""
        return self.ask(query, query_id=query_id).plot(document, rank)

    def marked(
        self, query: str | None = None, *, query_id: str | None = None, document: str | None = None, rank: int | None = None
    ) -> Marked:
        """The text of a document with the tokens marked that answer those of a query; see `Question`."""
        return self.ask(query, query_id=query_id).marked(document, rank)

    def plan(self) -> "pd.DataFrame":
        """Which stages are cached and which are to do, without computing any."""
        import pandas as pd

        found = {name: self.workspace.find(stage) for name, stage in self.stages.items()}
        rows = [
            (name, "to do" if artifact is None else state_of(artifact, True), self.stages[name].name)
            for name, artifact in found.items()
        ]
        return pd.DataFrame(rows, columns=["stage", "state", "artifact"]).set_index("stage")

    def status(self) -> "pd.DataFrame":
        """The stages that were asked for, in the order of `stages`: whether each was cached (and adopted from other code, see
        `adopt`), how long it took when it was computed, and its folder."""
        import pandas as pd

        asked = [(stage.name, name, *self.results[name]) for name, stage in self.stages.items() if name in self.results]
        rows = [
            (name, state_of(artifact, hit), round(float(artifact.notes["seconds"]), 2), folder)
            for folder, name, artifact, hit in asked
        ]
        return pd.DataFrame(rows, columns=["stage", "state", "seconds", "artifact"]).set_index("stage")

    @cached_property
    def record(self) -> Record:
        """Everything measured, after running whatever has not run yet and reading every artifact once more.

        A damaged artifact is computed again, and with it what had been read from it.
        """
        self.run(next(reversed(self.stages)))
        for name, stage in self.stages.items():
            artifact = self.workspace.sound(stage)
            if artifact is not self.results[name][0]:
                self.results[name] = (artifact, False)
                for read in ("index", "ranking", "per_query", "metrics"):
                    self.__dict__.pop(read, None)
        return make_record(
            self.id,
            self.config,
            self.facts,
            stages=self.stages,
            results=self.results,
            metrics=self.metrics,
            index=self.index,
            structures=structures_of(self.stages),
            encoder=self.encoder_fingerprint,
        )

    def save(self) -> Record:
        """Write the record into `output`: config, rankings and per-query values first, `record.json` last."""
        self.output.save(self.record, ranking=self.ranking, per_query=self.per_query)
        remember(self.workspace.cache, self.output.path)
        logger.info("saved %s", self.output / FILE)
        return self.record

    def work_table(self) -> "pd.DataFrame":
        """What the stages of the search touched, per query on average; with milliseconds where the search was timed."""
        import pandas as pd

        work = rank.open_work(self.run(RANK).path)
        queries = max(1, self.results[RANK][0].notes["queries"])
        rows = {name: {unit: total / queries for unit, total in counts.items()} for name, counts in work.items()}
        table = pd.DataFrame.from_dict(rows, orient="index").round(2).rename_axis("stage, per query")
        if "latency" in self.stages:
            table.insert(0, "ms", pd.Series(self.run("latency").notes["stage_ms"]).round(3))
        return table

    def table(self) -> "pd.DataFrame":
        """Metrics and costs in one small table, the last output of a notebook."""
        return self.record.table()


def _numbered(name: str, values: Sequence[str]) -> dict[str, str]:
    if isinstance(values, str):
        raise ConfigError(f"{name} must be a list or a mapping; given one string, {values!r:.60}. Put it in a list")
    return {str(i): value for i, value in enumerate(values)}


def state_of(artifact: Artifact, hit: bool) -> str:
    """In a word or two, where the artifact of a stage came from."""
    return "computed" if not hit else "adopted" if "adopted" in artifact.notes else "cached"
