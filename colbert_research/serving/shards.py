"""`Shards`: an index whose segments are searched by workers, each some of them; what they find is one machine's ranking.

All workers have the same index open, memory-mapped, so that what a strategy knows of the whole collection (centroids, sizes
of cells, frequencies of words) is the same everywhere; codes are read by those workers alone whose documents they are.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from colbert_research.config import Config, component_of_line
from colbert_research.encoders import Encoder, TokenVectors
from colbert_research.executors import EXECUTORS, Worker, WorkerDiffersError
from colbert_research.executors.probe import difference, versions
from colbert_research.index import FilterLike, Scope
from colbert_research.ragged import Ragged
from colbert_research.ranking import Ranking
from colbert_research.search import Auto, Plaid, Queries, Retriever, SearchStrategy
from colbert_research.search.auto import too_few
from colbert_research.search.base import Found
from colbert_research.search.found import NOTHING
from colbert_research.serving.base import Answer
from colbert_research.serving.fleet import Fleet
from colbert_research.serving.fleet_asking import Hedge, ask
from colbert_research.serving.local import shared
from colbert_research.serving.placing import Range, cut
from colbert_research.serving.shards_checks import check_strategy, checked, chosen
from colbert_research.serving.shards_cutoffs import together
from colbert_research.serving.shards_search import Asked, Opened, Passed, allowed_of, look, search
from colbert_research.settings import ConfigError

LONGEST = 365 * 86_400.0  # seconds of a deadline; the system's clocks count to three hundred years, and no further


@dataclass(frozen=True)
class Ranked:
    """A ranking, and as in `Answer` which share of the documents that may be found was looked for in time."""

    ranking: Ranking
    answered: float = 1.0
    why: str = ""


class Shards:
    """See `Answering`: the answers of `retriever`, searched by the workers of a fleet.

    The ranking is bit for bit that of one machine for `exhaustive`, `plaid` and its dialects, `auto`, `rerank`, `operator`,
    `cuda_exhaustive`, and `warp` with imputation warpselect, none or constant. The other strategies apply their cutoffs shard
    by shard: every score is that of one machine, and more documents get one. Those whose scores depend on which documents
    there are (`weighted`; `warp` with mean or top_k) are refused.
    """

    def __init__(self, retriever: Retriever, fleet: Fleet, shards: Sequence[Range], hedge: float | None = None) -> None:
        check_strategy(retriever.strategy)
        self.retriever, self.fleet, self.shards = retriever, fleet, tuple(shards)
        self._opened, self._hedge, self._loading = Opened.of(retriever.index), Hedge(hedge), Lock()

    @classmethod
    @contextmanager
    def start(
        cls,
        path: str | Path | Retriever,
        executor: Config | str = "processes",
        *,
        shards: int | None = None,
        replicas: int = 1,
        hedge: float | None = None,
        strategy: SearchStrategy | None = None,
        encoder: Encoder | None = None,
    ) -> Iterator["Shards"]:
        """Open the index in a folder, as `Retriever.open` does, and let workers of an executor search it until the block ends.

        `executor`: a config, or a line such as `ray address=auto cpus=8`; it says how many workers there are at most. `shards`:
        into how many the documents are cut, as many as there are workers if left out. `replicas`: how many workers answer for
        a shard. `hedge`: a quantile of the latest times, such as 0.95, after which a second worker is asked for what the first
        has not answered. Raises ConfigError for shards, replicas and strategies that cannot be, WorkerDiffersError for workers
        of other versions, and whatever a worker raises that opens the index, such as for a folder that it does not see.
        """
        retriever = path if isinstance(path, Retriever) else Retriever.open(path, strategy, encoder)
        check_strategy(retriever.strategy)
        Hedge(hedge)  # which refuses what is no quantile
        for name, number in (("shards", 1 if shards is None else shards), ("replicas", replicas)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigError(f"{name} is a whole number from 1; given {number!r}")
        config: Any = executor if isinstance(executor, Config) else component_of_line("executor", EXECUTORS, executor)
        index, given = retriever.index, (Opened.of(retriever.index), retriever.strategy)
        for structure in retriever.strategy.structures():  # before many workers would want to build it
            index.structure(structure)
        here = versions()

        def prepare(worker: Worker) -> None:
            """Raise for a worker that finds no index, or is not as this process is, as none is that starts after an upgrade."""
            if differs := worker.call(partial(difference, files={}), here).result():
                raise WorkerDiffersError(differs)
            worker.call(look, given).result()

        with config.start() as started:
            room = started.workers()
            ranges = cut(index, min(room, index.n_positions) if shards is None else shards)
            workers = max(1, min(room, len(ranges) * replicas))
            fleet = Fleet(started, prepare, workers=workers, shards=len(ranges), replicas=replicas)
            try:
                yield cls(retriever, fleet, ranges, hedge)
            finally:
                fleet.close()

    def __repr__(self) -> str:
        return f"Shards({self.retriever.index!r}, {len(self.shards)} shards, {self.fleet.alive} of {len(self.fleet)} workers)"

    def answer(
        self,
        texts: Sequence[str],
        k: int,
        ids: Sequence[str] | None = None,
        filter: FilterLike | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """See `Answering.answer`. The texts are encoded here, once, which counts towards the deadline."""
        until = None if deadline is None else time.monotonic() + _seconds(deadline)
        with self._loading:  # at the first text, if at all
            self.retriever = shared(self.retriever)
        queries = self.retriever.queries(texts)
        found = self._ranked(queries, k, until, deadline, query_texts=texts, subset=ids, filter=filter)
        return Answer(self.retriever.hits(found.ranking), found.answered, found.why)

    def search(
        self,
        queries: Ragged | TokenVectors,
        k: int,
        *,
        query_ids: Sequence[str] | None = None,
        query_texts: Sequence[str] | None = None,
        subset: Iterable[str] | None = None,
        filter: FilterLike | None = None,
        deadline: float | None = None,
    ) -> Ranked:
        """What `SearchStrategy.search` gives and refuses, by the workers. Without a `deadline` in seconds all shards answer.

        Raises WorkerDiedError for queries with which three workers died, and where no worker is left or can be started.
        """
        until = None if deadline is None else time.monotonic() + _seconds(deadline)
        given = {"query_ids": query_ids, "query_texts": query_texts, "subset": subset, "filter": filter}
        return self._ranked(queries, k, until, deadline, **given)

    def _ranked(self, queries: Any, k: int, until: float | None, deadline: float | None, **given: Any) -> Ranked:
        index, strategy = self.retriever.index, self.retriever.strategy
        scope = checked(strategy, index, queries, k, **given)
        asked = Queries.of(queries, given.get("query_ids"), given.get("query_texts"), dim=index.dim)
        found, late = [NOTHING] * len(asked), set[int]()
        if scope.size and len(asked):
            searched = chosen(strategy.fitted(index)[0], index, k, scope)
            found = self._found(searched, asked, k, scope, until, late)
            while isinstance(strategy, Auto) and isinstance(searched, Plaid) and not late:
                if not (short := too_few(index, found, k, scope)):
                    break
                searched = strategy.widened(searched, index)
                again = self._found(searched, _taken(asked, short), k, scope, until, late)
                for i, of in zip(short, again, strict=True):
                    found[i] = of
        ranking = Ranking.of(found, query_ids=asked.ids, document_ids=index.ids_by_position)
        return Ranked(ranking, *self._share(scope, late, deadline or 0.0))

    def _found(
        self, strategy: SearchStrategy, queries: Queries, k: int, scope: Scope, until: float | None, late: set[int]
    ) -> list[Found]:
        """What all shards find; `late` collects those that did not answer in time."""
        allowed = allowed_of(scope)
        items = {
            shard: Asked(self._opened, strategy, queries, k, start, stop, allowed)
            for shard, (start, stop) in enumerate(self.shards)
            if shard not in late and scope.within(start, stop).size
        }
        answers: dict[int, list[Passed]] = ask(self.fleet, search, items, until=until, hedge=self._hedge)
        late |= items.keys() - answers.keys()
        while True:
            if not (there := sorted(answers)):
                return [NOTHING] * len(queries)
            best = [together([answers[shard][q] for shard in there], k) for q in range(len(queries))]
            again: dict[int, Asked] = {}
            for q, (_, uncertain) in enumerate(best):
                for number, among in uncertain.items():
                    shard = there[number]
                    again.setdefault(shard, replace(items[shard], among={})).among[q] = among
            if not again:
                return [found for found, _ in best]
            more: Mapping[int, list[Passed]] = ask(self.fleet, search, again, until=until, hedge=self._hedge)
            for shard, item in again.items():
                if shard in more:
                    for q, passed in zip(item.among, more[shard], strict=True):
                        answers[shard][q] = passed
                else:
                    late.add(shard)
                    del answers[shard]

    def _share(self, scope: Scope, late: set[int], deadline: float) -> tuple[float, str]:
        if not late:
            return 1.0, ""
        missing = sum(scope.within(*self.shards[shard]).size for shard in late)
        which = ", ".join(
            f"{shard} (positions {self.shards[shard][0]} to {self.shards[shard][1] - 1})" for shard in sorted(late)
        )
        number = f"{len(late)} of {len(self.shards)}"
        why = f"{number} shards did not answer in {deadline:.3g} s: {which}; their documents are missing"
        return 1 - missing / scope.size, why


def _taken(queries: Queries, numbers: Sequence[int]) -> Queries:
    texts = None if queries.texts is None else tuple(queries.texts[i] for i in numbers)
    return Queries(queries.vectors.take(numbers), tuple(queries.ids[i] for i in numbers), texts)


def _seconds(deadline: float) -> float:
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline >= 0:
        raise ValueError(f"deadline is a number of seconds from 0; given {deadline!r}")
    return min(float(deadline), LONGEST)
