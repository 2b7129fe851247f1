"""A bench folder: token vectors, ids and the exact results of one task, in a form that any engine's script can read.

`docs.npy`, `queries.npy`: `(n_tokens, dim)` float16; `doclens.npy`, `qlens.npy`: tokens of each text; `exact.npy`: `(n_queries,
100)` int32, positions of the best documents by exact MaxSim of these very vectors; `ids.json`: docs, queries, qrels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from colbert_research import kernels
from colbert_research.artifacts import atomic_folder, read_json
from colbert_research.data import Collection
from colbert_research.ragged import Ragged, load_npy, offsets_of

DEPTH = 100
FILES = ("docs.npy", "doclens.npy", "queries.npy", "qlens.npy", "exact.npy", "ids.json")


@dataclass(frozen=True, eq=False)
class BenchFolder:
    """What a bench folder holds; `qrels` may be empty."""

    documents: Ragged
    queries: Ragged
    exact: NDArray[np.int32]
    document_ids: Sequence[str]
    query_ids: Sequence[str]
    qrels: Mapping[str, Mapping[str, int]]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a folder, the vectors memory-mapped. Raises FileNotFoundError that names what is missing."""
        path = Path(path)
        missing = [name for name in FILES if not (path / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{path} is no bench folder: it lacks {', '.join(missing)}; make one with prepare.py")
        ids = read_json(path / "ids.json")
        documents, queries = (
            Ragged(load_npy(path / f"{values}.npy", mmap=True), offsets_of(np.load(path / f"{lengths}.npy")))
            for values, lengths in (("docs", "doclens"), ("queries", "qlens"))
        )
        return cls(documents, queries, np.load(path / "exact.npy"), ids["docs"], ids["queries"], ids.get("qrels") or {})

    def collection(self) -> Collection:
        """The documents without their texts, which no engine is measured with."""
        return Collection.from_texts([""] * len(self.document_ids), ids=self.document_ids, name="bench")


def write_bench_folder(
    path: str | Path,
    documents: Ragged,
    queries: Ragged,
    *,
    document_ids: Sequence[str],
    query_ids: Sequence[str],
    qrels: Mapping[str, Mapping[str, int]],
) -> BenchFolder:
    """Write a new folder and open it; vectors are rounded to float16, and the exact results are those of rounded ones.

    Raises FileExistsError for a folder that is there, ValueError for fewer than 100 documents or texts without tokens.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another folder or delete it")
    if len(documents) < DEPTH or not len(queries):
        raise ValueError(f"a bench needs {DEPTH} documents and a query; given {len(documents)} and {len(queries)}")
    if not (documents.lengths.all() and queries.lengths.all()):
        raise ValueError("some texts have no token vectors; engines differ in what they do with those, so leave them out")
    documents, queries = (Ragged(np.asarray(part.values, np.float16), part.offsets) for part in (documents, queries))
    scores = kernels.maxsim(queries, documents)
    exact = np.array([kernels.topk(row, DEPTH) for row in scores], np.int32)
    arrays: dict[str, Any] = {"docs": documents.values, "doclens": documents.lengths}
    arrays |= {"queries": queries.values, "qlens": queries.lengths, "exact": exact}
    ids = {"docs": list(document_ids), "queries": list(query_ids), "qrels": {q: dict(g) for q, g in qrels.items()}}
    with atomic_folder(path) as unfinished:
        for name, array in arrays.items():
            np.save(unfinished / f"{name}.npy", array)
        (unfinished / "ids.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    return BenchFolder.open(path)
