"""Finished records by their folder or their id."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from colbert_research.experiment.record import FILE, Record, found_records
from colbert_research.settings import ConfigError, nearest


class Found(NamedTuple):
    """A record and its folder."""

    path: Path
    record: Record


class Library:
    """Records by folder or by id. An id is looked for among those that were found already, then below a folder of all."""

    def __init__(self, below: str | Path) -> None:
        self.below = below
        self.known: dict[Path, Found] = {}

    def find(self, name: str | Path) -> list[Found]:
        """The record in a folder, those below it, or those with an id. Raises ConfigError where there is none."""
        path = Path(name)
        if (path / FILE).is_file():
            found = [Found(path, Record.open(path))]
        elif path.is_dir():
            found = [Found(*each) for each in found_records(path)]
            if not found:
                raise ConfigError(f"no finished record in {path} or below it; expected a {FILE}")
        else:
            found = self._with_id(str(name))
        self._remember(found)
        return found

    def one(self, name: str | Path, role: str) -> Found:
        """The only record of a name. Raises ConfigError for several."""
        found = self.find(name)
        if len(found) > 1:
            folders = ", ".join(str(each.path) for each in found[:3]) + (", …" if len(found) > 3 else "")
            raise ConfigError(f"the {role} {str(name)!r} is {len(found)} records ({folders}); give the folder of one")
        return found[0]

    def _with_id(self, id: str) -> list[Found]:
        if found := self._known(id):
            return found
        self._remember([Found(*each) for each in found_records(self.below)])
        if found := self._known(id):
            return found
        ids = {each.record.id for each in self.known.values()}
        among = nearest(id, ids) if ids else "there are no records"
        raise ConfigError(f"{id!r} is neither a folder nor the id of a record; give `below`, the folder of records. {among}")

    def _known(self, id: str) -> list[Found]:
        return [each for each in self.known.values() if each.record.id == id]

    def _remember(self, found: Sequence[Found]) -> None:
        self.known |= {each.path.resolve(): each for each in found}
