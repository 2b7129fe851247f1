"""The contract of a changing index: any sequence of changes finds what an index finds that is built of the final content.

Every member of the search axis, on every codec it serves, after one long life; after any other, one member for each of the data
structures, which all that search the same one share. The fresh build has the same codec, fitted once. What is built for
each segment by itself and is approximate there (the trained structures and graphs of faiss, LADR's graph of documents, LEMUR's
regressions) depends on how documents lie in segments, so these strategies are held to it with their knobs opened
(`exhaustive_equivalent`).
"""

import os
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from colbert_research.data import Collection
from colbert_research.index import CompactionPolicy, Index, build_index
from colbert_research.index.build import BuildConfig
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import Exhaustive, Ladr, Rerank, TokenAnn
from colbert_research.search.ann import FlatAnn
from colbert_research.search.graphs import MeanVectorGraph
from tests.contracts.codec_cases import CASES as CODEC_CASES
from tests.contracts.test_strategies import CASES, CODECS, DIM, clustered

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig"]
TEXTS = ("apple and banana", "the unheard of cherry", "fig", "a damson")
BM25 = [(Rerank(first_stage="bm25", depth=5), codec) for codec in CODECS]
EVERY = [*CASES, *BM25]
QUERIES = clustered(3, [5, 1, 12, 7])
SEVERAL = BuildConfig(segment_tokens=60, chunk_tokens=25)
Content = dict[str, int]
"""Document id -> version, in the order of positions."""


class Codecs(dict):
    """Fitted codecs; their arrays are not shown."""

    def __repr__(self) -> str:
        return f"Codecs({[*self]})"


class Fitted:
    """A codec config that fits nothing: the codec is there."""

    def __init__(self, codec) -> None:
        self.codec = codec

    def sample_size(self, n_tokens: int) -> int:
        return 1

    def fit(self, sample, **_):
        return self.codec


def documents(content: Content) -> tuple[Collection, Ragged]:
    """Texts and token vectors that follow from id and version alone."""
    rows, texts, metadata = [], [], []
    for document, version in content.items():
        seed = 1000 * int(document[1:]) + version
        rng = np.random.default_rng(seed)
        rows.append(clustered(seed, [int(rng.integers(0 if seed % 7 == 0 else 1, 9))]).values)
        texts.append(" ".join(rng.choice(WORDS, 3)) + f" version {version}")
        metadata.append({"version": version})
    collection = Collection.from_texts(texts, ids=list(content), metadata=metadata)
    return collection, Ragged(np.concatenate([np.empty((0, DIM), np.float32), *rows]), offsets_of([len(r) for r in rows]))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def codecs():
    vectors = clustered(1, [900])
    fitted = ((name, c.fit(vectors.values[: c.sample_size(900)], n_tokens=900, seed=5)) for name, c in CODECS.items())
    return Codecs(fitted)


def fresh(path: Path, content: Content, codec) -> Index:
    return build_index(path, *documents(content), Fitted(codec))


def changed(index: Index, content: Content, kind: str, number: int) -> tuple[Index, Content]:
    """One change, which the number chooses, of an index and of what it should hold then."""
    rng, content = np.random.default_rng(number), dict(content)
    known = list(content)
    chosen = [known[i] for i in sorted(rng.choice(len(known), min(len(known), 1 + number % 3), replace=False))] if known else []
    policy = CompactionPolicy(max_segments=4, max_deleted_share=0.5) if number % 5 == 0 else None
    keep = number % 2
    if kind == "add":
        new = {f"d{i}": number for i in range(40) if f"d{i}" not in content and (i * 7 + number) % 13 == 0}
        content |= new
        index = index.add(*documents(new), compaction=policy, keep=keep, build=SEVERAL if number % 3 == 0 else None)
    elif kind == "delete":
        for document in chosen:
            del content[document]
        index = index.delete(chosen, compaction=policy, keep=keep)
    elif kind == "update":
        new = {document: content.pop(document) + 1 for document in chosen}
        if number % 4 == 0 and "d41" not in content:
            new |= {"d41": number}
        content |= new
        index = index.update(*documents(new), missing="add", compaction=policy, keep=keep)
    elif kind == "compact":
        index = index.compact(keep=keep, build=SEVERAL if number % 2 else None)
    else:
        index = Index.open(index.path)
    return index, content


def check(index: Index, content: Content, codec, path: Path, cases) -> None:
    """It holds the content, and finds what a fresh index of it finds."""
    collection, vectors = documents(content)
    assert index.document_ids == tuple(content)
    assert (len(index), index.n_tokens) == (len(content), vectors.n_rows)
    stored = index.documents(content)
    assert [(d.id, d.text, d.metadata) for d in stored] == list(
        zip(collection.document_ids, collection.texts, collection.metadata, strict=True)
    )
    assert np.array_equal(index.vectors_of(content).offsets, vectors.offsets)
    if not vectors.n_rows:
        assert all(not len(s.search(index, QUERIES, 5, query_texts=TEXTS).positions) or len(index) for s, _ in cases)
        return
    built = fresh(path, content, codec)
    assert np.array_equal(index.empty_cells, built.empty_cells)
    subsets = [None, list(content)[::2]]
    for strategy, _ in cases:
        for subset in subsets:
            one, other = (compared(strategy, each, subset) for each in (index, built))
            assert one == other, strategy


def compared(strategy, index: Index, subset):
    """The ranking by ids and scores, or why there is none."""
    if isinstance(strategy, TokenAnn) and strategy.ann.kind != "flat":
        strategy = strategy.exhaustive_equivalent(index).model_copy(update={"ann": FlatAnn()})
    if isinstance(strategy, Rerank) and strategy.first_stage.kind == "lemur":
        strategy = strategy.exhaustive_equivalent(index)
    if isinstance(strategy, Ladr):
        strategy = strategy.exhaustive_equivalent(index).model_copy(update={"graph": MeanVectorGraph()})
    try:
        ranking = strategy.search(index, QUERIES, 6, query_texts=TEXTS, subset=subset)
    except ValueError as error:
        return str(error)
    return [ranking.top(q) for q in range(len(QUERIES))]


FIRST = {f"d{i}": 0 for i in range(0, 30, 2)}
SEQUENCE = [("add", 6), ("delete", 2), ("update", 8), ("add", 4), ("open", 0), ("update", 11), ("delete", 7)]


@pytest.fixture(scope="module")
def lived(codecs, tmp_path_factory):
    """For each codec an index after a life, in several segments with deleted documents, and one that is built of the same."""
    folder, found = tmp_path_factory.mktemp("lived"), {}
    for name, codec in codecs.items():
        index, content = fresh(folder / name, FIRST, codec), FIRST
        for kind, number in SEQUENCE:
            index, content = changed(index, content, kind, number)
        assert len(index.contents.dead) > 4
        assert len(index.segments) > 3
        found[name] = index, fresh(folder / f"{name}-fresh", content, codec)
    return found


@pytest.mark.parametrize(("strategy", "codec"), EVERY, ids=[f"{s.kind}{i}-{c}" for i, (s, c) in enumerate(EVERY)])
@pytest.mark.usefixtures("_device")
def test_every_strategy_finds_what_it_finds_in_a_fresh_index(lived, strategy, codec):
    index, built = lived[codec]
    for subset in (None, index.document_ids[::2], index.document_ids[3:5]):
        one, other = (compared(strategy, each, subset) for each in (index, built))
        if strategy.kind.startswith("cuda") and codec == "exact":  # floats of a device: the ids are compared
            one, other = ([[document for document, _ in top] for top in each] for each in (one, other))
        assert one == other
        assert any(one)


def test_compacting_changes_no_ranking(lived):
    for name, (index, built) in lived.items():
        compact = index.compact(keep=1)
        assert len(compact.segments) == 1
        for strategy in (strategy for strategy, codec in EVERY if codec == name and not strategy.kind.startswith("cuda")):
            assert compared(strategy, compact, None) == compared(strategy, built, None), strategy
        names = [file.name for file in compact.segments[0].path.iterdir()]
        assert {n: (compact.segments[0].path / n).read_bytes() for n in names} == {
            n: (built.segments[0].path / n).read_bytes() for n in names
        }, "the bytes of a segment that is built of the same"


CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "update", "compact", "open"]), st.integers(0, 40)), min_size=1, max_size=8
)
NUMBERS = count()


@pytest.mark.slow
@settings(
    max_examples=400 if os.environ.get("ALL_TRIALS") else 5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=CHANGES, first=st.integers(1, 12))
@example(changes=[("delete", 2), ("delete", 5), ("delete", 8), ("compact", 0), ("add", 3)], first=5)
@pytest.mark.parametrize("name", CODECS)
def test_any_sequence_of_changes(tmp_path, codecs, name, changes, first):
    path, content = tmp_path / str(next(NUMBERS)), {f"d{i}": 0 for i in range(1, 1 + first)}
    index, cases = fresh(path, content, codecs[name]), on_host(name)
    cases[0][0].search(index, QUERIES, 5)
    for strategy, _ in cases[1:4]:  # structures that later changes extend
        compared(strategy, index, None)
    for kind, number in changes:
        index, content = changed(index, content, kind, number)
        assert index.document_ids == tuple(content)
    index.verify()
    check(index, content, codecs[name], path.with_suffix(".fresh"), cases)
    shutil.rmtree(path)
    shutil.rmtree(path.with_suffix(".fresh"), ignore_errors=True)


def on_host(codec: str) -> list:
    """The cases of a codec; where not all are asked for, the first of those with the same structures, and with cells or not."""
    cases = [(s, name) for s, name in EVERY if name == codec and not s.kind.startswith("cuda")]
    if os.environ.get("ALL_TRIALS"):
        return cases
    first: dict = {}
    for strategy, name in cases:
        first.setdefault((strategy.structures(), hasattr(strategy, "ncells")), (strategy, name))
    return list(first.values())


WIDTHS = {(c.kind, *(getattr(c, name, None) for name in ("nbits", "m", "dtype"))): c for c in CODEC_CASES}
"""A config of every codec for each width of its codes, which is what an index knows of them."""


@pytest.mark.parametrize("config", WIDTHS.values(), ids=lambda c: c.kind)
def test_every_codec(tmp_path, config):
    vectors = clustered(1, [900])
    codec = config.fit(vectors.values[: config.sample_size(900)], n_tokens=900, seed=5) if fits(config) else None
    if codec is None:
        pytest.skip("its codes do not divide this many dimensions")
    index, content = fresh(tmp_path / "i", FIRST, codec), FIRST
    for kind, number in SEQUENCE[:4]:
        index, content = changed(index, content, kind, number)
    check(index, content, codec, tmp_path / "fresh", [(Exhaustive(), "")])
    index = index.compact()
    check(index, content, codec, tmp_path / "again", [(Exhaustive(), "")])


def fits(config) -> bool:
    return DIM % getattr(config, "m", 1) == 0
