"""Nearest neighbours by inner product, by faiss: `ANNS` is the table of its structures.

What is built (`FaissStructure`) is kept apart from what only a search needs (`nprobe`, `ef_search`), so that another value of
those builds nothing again. Building is seeded and, for the graph, on one thread: the same vectors give the same bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from colbert_research.config import Config, Seed

POINTS_PER_CENTROID = 64
PQ_BITS, PQ_CENTROIDS = 8, 256


class FaissStructure(Config):
    """A faiss index: its factory string, how many vectors it is trained on, HNSW's width while building, and the seed.

    `least`: the fewest vectors that it can be trained on; fewer are kept flat.
    """

    factory: str
    training: int = 0
    least: int = 0
    ef_construction: int | None = None
    seed: Seed = 0

    def fits(self, n: int) -> bool:
        """Whether `n` vectors are enough to train it on."""
        return n >= self.least


class Ann(Config, ABC):
    """Settings of one structure, for building and for searching."""

    kind: str

    @abstractmethod
    def structure(self, seed: int) -> FaissStructure:
        """What is built."""

    @abstractmethod
    def exhaustive_equivalent(self) -> "Ann":
        """A structure that returns every vector when it is asked for all of them."""

    def check(self, *, n: int, dim: int, k: int) -> None:
        """Raise ValueError when `n` vectors of `dim` dimensions cannot be served, or `k` neighbours cannot be asked for."""

    def parameters(self, selector: Any) -> Any:
        """faiss's parameters of one search; `selector` names the vectors that may be found, None all."""
        return _faiss().SearchParameters(sel=selector)


class FlatAnn(Ann):
    """Every vector is compared: exact."""

    kind: Literal["flat"] = "flat"

    def structure(self, seed: int) -> FaissStructure:
        return FaissStructure(factory="Flat")

    def exhaustive_equivalent(self) -> Self:
        return self


class IvfAnn(Ann):
    """`nlist` cells by k-means; of them the `nprobe` nearest are searched. ColBERT (2020), section 3.6: P = 2000, p = 10."""

    kind: Literal["ivf"] = "ivf"
    nlist: int = Field(2000, ge=1, description="P")
    nprobe: int = Field(10, ge=1, description="p")

    @model_validator(mode="after")
    def _cells_to_probe(self) -> Self:
        if self.nprobe > self.nlist:
            raise ValueError(f"nprobe={self.nprobe} cells of nlist={self.nlist} cannot be probed")
        return self

    def structure(self, seed: int) -> FaissStructure:
        return FaissStructure(
            factory=f"IVF{self.nlist},Flat", training=POINTS_PER_CENTROID * self.nlist, least=self.nlist, seed=seed
        )

    def exhaustive_equivalent(self) -> Self:
        return self.model_copy(update={"nprobe": self.nlist})

    @property
    def usual(self) -> bool:
        """Whether `nlist` stands at its default: an index with too few vectors for it is then compared whole."""
        return bool(self.nlist == type(self).model_fields["nlist"].default)

    def check(self, *, n: int, dim: int, k: int) -> None:
        if self.nlist > n and not self.usual:
            raise ValueError(f"nlist={self.nlist} cells need at least as many vectors; there are {n}. Lower search.ann.nlist")

    def parameters(self, selector: Any) -> Any:
        return _faiss().SearchParametersIVF(sel=selector, nprobe=self.nprobe)


class IvfPqAnn(IvfAnn):
    """`IvfAnn` with vectors as product codes of `m` bytes. ColBERT (2020), section 3.6: s = 16 sub-vectors."""

    kind: Literal["ivfpq"] = "ivfpq"  # type: ignore[assignment]
    m: int = Field(16, ge=1, description="s")

    def structure(self, seed: int) -> FaissStructure:
        factory = f"IVF{self.nlist},PQ{self.m}x{PQ_BITS}np"  # np: no polysemous training, which nothing here would use
        least = max(self.nlist, PQ_CENTROIDS)
        return FaissStructure(factory=factory, training=POINTS_PER_CENTROID * least, least=least, seed=seed)

    def check(self, *, n: int, dim: int, k: int) -> None:
        super().check(n=n, dim=dim, k=k)
        check_product(n=PQ_CENTROIDS if self.usual else n, dim=dim, m=self.m)


class HnswAnn(Ann):
    """A navigable graph with `m` links a vector, built with `ef_construction` and searched with `ef_search` candidates.

    Source: Malkov and Yashunin 2016 (M, efConstruction, ef). It is built on one thread. In a subset it finds only what its walk
    through all vectors meets.
    """

    kind: Literal["hnsw"] = "hnsw"
    m: int = Field(32, ge=2)
    ef_construction: int = Field(200, ge=1)
    ef_search: int = Field(512, ge=1)

    def structure(self, seed: int) -> FaissStructure:
        return FaissStructure(factory=f"HNSW{self.m},Flat", ef_construction=self.ef_construction, seed=seed)

    def exhaustive_equivalent(self) -> FlatAnn:
        return FlatAnn()

    def check(self, *, n: int, dim: int, k: int) -> None:
        if self.ef_search < k:
            raise ValueError(
                f"ef_search={self.ef_search} is less than the {k} neighbours asked for, and faiss would raise it; "
                f"give at least {k}"
            )

    def parameters(self, selector: Any) -> Any:
        return _faiss().SearchParametersHNSW(sel=selector, efSearch=self.ef_search)


ANNS: dict[str, type[Config]] = {"flat": FlatAnn, "ivf": IvfAnn, "ivfpq": IvfPqAnn, "hnsw": HnswAnn}


def check_product(*, n: int, dim: int, m: int) -> None:
    """Raise ValueError when product codes of `m` bytes cannot be made of `n` vectors of `dim` dimensions."""
    if dim % m:
        raise ValueError(f"product codes cut {dim} dimensions into m={m} equal parts; give a divisor of {dim}")
    if n < PQ_CENTROIDS:
        raise ValueError(
            f"product codes of {PQ_BITS} bits need at least {PQ_CENTROIDS} vectors to train on; there are {n}. "
            "Choose a structure without them"
        )


def training_rows(n: int, structure: FaissStructure) -> NDArray[np.int64]:
    """Ascending rows of the vectors that a structure over `n` of them is trained on; none for one that is not, or cannot be."""
    size = min(n, structure.training) if structure.fits(n) else 0
    return np.sort(np.random.default_rng(structure.seed).choice(n, size=size, replace=False))


def build_faiss(
    structure: FaissStructure, dim: int, *, sample: NDArray[np.float32], blocks: Iterable[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """A faiss index over the vectors in `blocks`, trained on `sample`, as bytes. It is held in memory twice at the end.

    Without a sample nothing is trained, so that a structure that has to be is replaced by a flat one.
    """
    faiss = _faiss()
    if structure.training and not len(sample):
        structure = FaissStructure(factory="Flat")
    built = faiss.index_factory(dim, structure.factory, faiss.METRIC_INNER_PRODUCT)
    _seed(built, structure.seed)
    if len(sample):
        built.train(np.ascontiguousarray(sample, np.float32))
    if structure.ef_construction is not None:
        built.hnsw.efConstruction = structure.ef_construction
    with one_thread() if hasattr(built, "hnsw") else nullcontext():
        for block in blocks:
            built.add(np.ascontiguousarray(block, np.float32))
    return _serialized(built)


def _serialized(index: Any) -> NDArray[np.uint8]:
    """What `faiss.serialize_index` gives, which makes it in a vector that grows, and then copies that."""
    sizes: list[int] = []
    _write(index, lambda chunk: sizes.append(len(chunk)))
    serialized, at = np.empty(sum(sizes), np.uint8), 0

    def keep(chunk: bytes) -> None:
        nonlocal at
        serialized[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)

    _write(index, keep)
    return serialized


def _write(index: Any, take: Callable[[bytes], Any]) -> None:
    faiss = _faiss()
    faiss.write_index(index, faiss.PyCallbackIOWriter(take))


def open_faiss(array: NDArray[np.uint8]) -> Any:
    """The faiss index of `build_faiss`, in memory; the array, which may be a mapped file, is read once, in pieces."""
    faiss, at = _faiss(), 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return array[at - size : at].tobytes()

    return faiss.read_index(faiss.PyCallbackIOReader(read))


def selector_of(allowed: NDArray[np.bool_]) -> Any:
    """faiss's selector of the vectors where `allowed` `(n,)` is true."""
    return _faiss().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def searched(
    index: Any, vectors: NDArray[np.float32], k: int, parameters: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `k` largest inner products, best first, and their rows: both `(n_vectors, k)`, -1 for rows that were not found."""
    products, rows = index.search(np.ascontiguousarray(vectors, np.float32), min(k, index.ntotal), params=parameters)
    return products, rows


@contextmanager
def one_thread() -> Iterator[None]:
    """faiss on one thread of this process while the block runs: links of a graph depend on who comes first."""
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _seed(index: Any, seed: int) -> None:
    """Seed every k-means and random graph level inside; small samples are allowed (faiss would print about them)."""
    clusterings = [part.cp for part in (index, getattr(index, "pq", index)) if hasattr(part, "cp")]
    for clustering in clusterings:
        clustering.seed, clustering.min_points_per_centroid = seed, 1
    if hasattr(index, "hnsw"):
        index.hnsw.rng = _faiss().RandomGenerator(seed)


def _faiss() -> Any:
    """faiss, on first use; as `Any`, because its stubs do not know the arguments that its Python layer adds."""
    return import_module("faiss")
