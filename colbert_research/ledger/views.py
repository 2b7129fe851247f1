"""`View`: an ablation beside its records, as its notebook shows it: what papers say, a table, a figure, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from colbert_research.experiment.differing import value_text
from colbert_research.ledger.claims import FILE, Ablation
from colbert_research.ledger.evidence import Evidence, Item, Where
from colbert_research.ledger.findings import VERDICTS, Finding
from colbert_research.ledger.ledger import finding_of
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path("experiments/ablations")
MISSING = ""
Series = dict[str, dict[str, list[tuple[float, float]]]]
"""Collection -> label of a line -> its points."""


@dataclass(frozen=True, repr=False)
class View:
    """An ablation, and the records in one folder of which everything that is shown is made."""

    ablation: Ablation
    folder: Path
    evidence: Evidence

    @classmethod
    def open(cls, number: str, records: str | Path = "") -> Self:
        """The ablation in `experiments/ablations/<number>`; `records`: the folder of a sweep's records, unless given the first
        of the ablation's own that holds finished ones. What records do not hold is computed beside them (`Ablation.measure`).

        Raises ConfigError where there is no such ablation or no such folder.
        """
        file = FOLDER / number / FILE
        if not file.is_file():
            known = sorted(path.parent.name for path in FOLDER.glob(f"*/{FILE}"))
            raise ConfigError(f"no {file}; there are the ablations {', '.join(known)}")
        ablation = Ablation.load(file)
        folder = Path(records) if records else ablation.folder(file.parent)
        if records and not folder.is_dir():
            raise ConfigError(f"records={str(records)!r} is no folder; run the sweep, or leave it out for {file.parent}'s own")
        if folder.is_dir():
            ablation.measure(folder)
        return cls(ablation, folder, Evidence.below(folder))

    def __repr__(self) -> str:
        collections = ", ".join(self.evidence.collections) or "no collection"
        return f"{self.ablation.question}\n{len(self.evidence.items)} records of {collections} in {self.folder}"

    def claims(self) -> "pd.DataFrame":
        """What papers say: one row for each claim."""
        import pandas as pd

        rows = [(c.id, c.claim, f"{c.paper}, {c.where}", c.published, c.setup) for c in self.ablation.claims]
        return pd.DataFrame(rows, columns=["id", "claim", "where", "published", "setup"]).set_index("id")

    def table(self, settings: Sequence[str], figures: Sequence[str], where: Where | None = None) -> "pd.DataFrame":
        """The means of some figures: a row for each combination of settings, a column for each figure and collection.

        Settings stand in ascending order, holes where nothing was measured; without records it is empty.
        """
        import pandas as pd

        keys = sorted({self._key(item, settings) for item in self._items(where)}, key=lambda key: [*map(_order, key)])
        columns = [(figure, collection) for figure in figures for collection in self.evidence.collections]
        cells: dict[tuple[Any, ...], dict[tuple[str, str], list[float]]] = {key: {} for key in keys}
        for item in self._items(where):
            for figure in figures:
                if figure in item.figures:
                    cells[self._key(item, settings)].setdefault((figure, item.collection), []).append(item.figures[figure])
        rows = [[_mean(cells[key].get(column, ())) for column in columns] for key in keys]
        short = [name.rpartition(".")[2] if _unique(name, settings) else name for name in settings]
        if not keys:
            return pd.DataFrame()
        index = pd.MultiIndex.from_tuples(keys, names=short)
        return pd.DataFrame(rows, index=index, columns=pd.MultiIndex.from_tuples(columns)).astype(float)

    def frame(self, where: Where | None = None) -> "pd.DataFrame":
        """One row for each record with the settings `where`: id, collection, settings and figures by their names."""
        import pandas as pd

        rows = [{"id": i.id, "collection": i.collection, **i.settings, **i.figures} for i in self._items(where)]
        return pd.DataFrame(rows)

    def series(self, x: str, y: str, by: Sequence[str] = (), where: Where | None = None) -> Series:
        """Collection -> label of the settings `by` -> pairs of x and y, ascending in x; both are figures or settings.

        Several records of one x are averaged; those that lack one of the two, or in which it is no number, are left out.
        """
        found: dict[str, dict[str, dict[float, list[float]]]] = {}
        items = sorted(self._items(where), key=lambda item: [*map(_order, self._key(item, by))])
        for item in items:
            at: Any = item.figures.get(x, item.settings.get(x))
            value: Any = item.figures.get(y, item.settings.get(y))
            if _is_number(at) and _is_number(value):
                label = " ".join(str(part) for part in self._key(item, by) if part != MISSING)
                points = found.setdefault(item.collection, {}).setdefault(label, {})
                points.setdefault(float(at), []).append(float(value))
        return {
            collection: {label: [(at, _mean(points[at])) for at in sorted(points)] for label, points in lines.items()}
            for collection, lines in sorted(found.items())
        }

    def curves(self, figures: Mapping[str, float], by: Sequence[str] = (), where: Where | None = None) -> Series:
        """As `series`, along figures that are of one kind: `figures` says at which x each of them stands."""
        found: Series = {}
        for figure, at in figures.items():
            for collection, lines in self.series(figure, figure, by, where).items():
                for label, points in lines.items():
                    line = found.setdefault(collection, {}).setdefault(label, [])
                    line.append((float(at), _mean([value for _, value in points])))
        return found

    def findings(self) -> dict[str, Finding]:
        """Claim id -> what these records say of it."""
        return {claim.id: finding_of(claim, self.evidence) for claim in self.ablation.claims}

    def verdicts(self) -> "pd.DataFrame":
        """One row for each claim: the paper's number, ours, and the verdict."""
        import pandas as pd

        found = self.findings()
        rows = [(c.id, c.published, found[c.id].ours, found[c.id].verdict) for c in self.ablation.claims]
        return pd.DataFrame(rows, columns=["claim", "published", "ours", "verdict"]).set_index("claim")

    def reasons(self) -> list[str]:
        """A line for each claim: how it was judged, and what could not be told."""
        return [f"{name}: {finding.verdict}; {finding.reason}" for name, finding in self.findings().items()]

    def words(self) -> str:
        """How many claims have each verdict, in a sentence."""
        found = [finding.verdict for finding in self.findings().values()]
        return f"{len(found)} claims: " + ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS) + "."

    def _items(self, where: Where | None) -> list[Item]:
        return [item for item in self.evidence.items if item.has(where or {})]

    def _key(self, item: Item, settings: Sequence[str]) -> tuple[Any, ...]:
        return tuple(_cell(item.settings, name) for name in settings)


def _cell(settings: Mapping[str, Any], name: str) -> Any:
    value = settings.get(name)
    if value is None:
        return MISSING
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else value_text(value)


def _order(value: Any) -> tuple[int, float, str]:
    """Nothing first, then numbers, then words."""
    return (0, 0.0, "") if value == MISSING else (1, float(value), "") if _is_number(value) else (2, 0.0, str(value))


def _unique(name: str, settings: Sequence[str]) -> bool:
    last = name.rpartition(".")[2]
    return last != "kind" and sum(other.rpartition(".")[2] == last for other in settings) == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
