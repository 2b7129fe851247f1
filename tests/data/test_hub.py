"""The Hub's schema, read through `datasets` from parquet files, and from a stand-in for the Hub."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from colbert_research.data import DataError, HubConfig

CORPUS = {"_id": ["d1", "d2", "d3"], "title": ["Apples", "", None], "text": ["grow on trees\u2028", "b", "c"]}
QUERIES = {"_id": ["q1", "q2", "q3"], "text": ["one", "two", "three"]}
QRELS = {"query-id": ["q3", "q1", "q1"], "corpus-id": ["d3", "d1", "d2"], "score": [1, 2, 0]}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of `datasets` for this test alone."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.fixture
def write_parquet(tmp_path, cache):
    def write(corpus=CORPUS, queries=QUERIES, qrels=QRELS):
        files = {
            "fruit/corpus/corpus-00000-of-00001.parquet": corpus,
            "fruit/queries/queries-00000-of-00001.parquet": queries,
            "fruit-qrels/test.parquet": qrels,
        }
        for name, columns in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / "fruit"

    return write


def test_a_folder_of_parquet_files(write_parquet):
    loaded = HubConfig(name=str(write_parquet()), exclude_self=True, text_fields="text").load()
    assert (loaded.name, loaded.document_ids, loaded.titles) == ("fruit", ("d1", "d2", "d3"), ("Apples", "", ""))
    assert loaded.texts[0] == "grow on trees\u2028"
    assert (loaded.query_ids, loaded.query_texts) == (("q1", "q3"), ("one", "three"))
    assert loaded.qrels == {"q1": {"d1": 2, "d2": 0}, "q3": {"d3": 1}}
    assert loaded.exclude_self
    assert loaded.text_fields == "text"


def test_parts_of_one_table_are_read_in_order(write_parquet):
    folder = write_parquet()
    pq.write_table(pa.table({"_id": ["d4"], "title": [""], "text": ["d"]}), folder / "corpus" / "corpus-00001-of-00002.parquet")
    assert HubConfig(name=str(folder)).load().document_ids == ("d1", "d2", "d3", "d4")


def test_integer_ids_become_text_and_integral_floats_grades(write_parquet):
    folder = write_parquet(
        CORPUS | {"_id": [1, 2, 3]}, QUERIES | {"_id": [7, 8, 9]}, {"query-id": [8], "corpus-id": [3], "score": [2.0]}
    )
    loaded = HubConfig(name=str(folder)).load()
    assert (loaded.document_ids, loaded.query_ids, loaded.qrels) == (("1", "2", "3"), ("8",), {"8": {"3": 2}})


def test_more_rows_than_one_batch(write_parquet):
    many = [str(i) for i in range(2500)]
    loaded = HubConfig(
        name=str(write_parquet({"_id": many, "text": many}, qrels=QRELS | {"corpus-id": ["2499", "0", "1"]}))
    ).load()
    assert loaded.texts == tuple(many)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qrels": QRELS | {"score": [1.0, 0.5, 1.0]}}, r"fruit-qrels test, row 1: the score must be an integer.*given 0\.5"),
        (
            {"qrels": QRELS | {"corpus-id": ["d3", "d1", "d9"]}},
            "fruit-qrels test, row 2: the document id 'd9' is not in .*corpus",
        ),
        (
            {"qrels": {"query": ["q1"], "score": [1]}},
            "fruit-qrels test, row 0: no field 'query-id'; its fields are 'query', 'score'",
        ),
        (
            {"qrels": QRELS | {"score": [True, True, False]}},
            "fruit-qrels test, row 0: the score must be an integer.*given True",
        ),
        ({"corpus": CORPUS | {"_id": ["d1", "d2", "d1"]}}, "fruit corpus, row 2: the id 'd1' was already given in row 0"),
        ({"corpus": CORPUS | {"text": ["a", None, "c"]}}, "fruit corpus, row 1: 'text' must be a string; given None"),
        ({"queries": {"_id": ["q1"], "question": ["x"]}}, "fruit queries, row 0: no field 'text'"),
    ],
)
def test_a_bad_row_is_named(write_parquet, changes, message):
    with pytest.raises(DataError, match=message):
        HubConfig(name=str(write_parquet(**changes))).load()


def test_missing_and_damaged_parquet_files(write_parquet):
    folder = write_parquet()
    with pytest.raises(DataError, match=r"no parquet files dev\.parquet or dev-\*\.parquet in .*there: test\.parquet"):
        HubConfig(name=str(folder), split="dev").load()
    with pytest.raises(DataError, match=r"no parquet files corpus/\*\.parquet in .*there: nothing"):
        HubConfig(name=str(folder) + "-elsewhere").load()
    (folder / "corpus" / "corpus-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"corpus-00000-of-00001\.parquet cannot be loaded: .*Parquet magic bytes not found"):
        HubConfig(name=str(folder)).load()


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the Hub: what `datasets.load_dataset` was asked, and what it answers."""
    import datasets

    calls = []
    answers = {
        ("own/fruit", "corpus"): {"corpus": datasets.Dataset.from_dict(CORPUS)},
        ("own/fruit", "queries"): {"train": datasets.Dataset.from_dict(QUERIES)},
        ("own/fruit-qrels", None): {s: datasets.Dataset.from_dict(QRELS) for s in ("validation", "test")},
    }

    def load_dataset(name, part, *, revision, data_files):
        calls.append((name, part, revision))
        answer = answers[name, part]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return answers, calls


def test_the_hub_is_asked_for_the_three_tables(hub):
    loaded = HubConfig(name="own/fruit", revision="abc", qrels_revision="def").load()
    assert hub[1] == [("own/fruit", "corpus", "abc"), ("own/fruit", "queries", "abc"), ("own/fruit-qrels", None, "def")]
    assert repr(loaded) == "Collection('own/fruit', 3 documents, 2 queries, 3 judgements)"


def test_an_empty_corpus(hub):
    corpus = hub[0]["own/fruit", "corpus"]
    corpus["corpus"] = corpus["corpus"].select([])
    with pytest.raises(DataError, match="own/fruit corpus holds no documents"):
        HubConfig(name="own/fruit").load()


def test_a_split_that_the_hub_does_not_have(hub):
    with pytest.raises(DataError, match="'own/fruit-qrels' has no split 'dev'; splits that exist: test, validation"):
        HubConfig(name="own/fruit", split="dev").load()
    del hub[0]["own/fruit-qrels", None]["validation"]  # the only one left is not taken in its place
    with pytest.raises(DataError, match="has no split 'dev'; splits that exist: test"):
        HubConfig(name="own/fruit", split="dev").load()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("Couldn't reach it"),
            "cannot be fetched from the Hub and is not in the cache: Couldn't reach it; check",
        ),
        (ValueError("BuilderConfig 'corpus' not found."), "configuration 'corpus' cannot be loaded: BuilderConfig"),
        (
            RuntimeError("Dataset scripts are no longer supported"),
            "cannot be loaded: Dataset scripts.*without a loading script",
        ),
        (FileNotFoundError("does not exist on the Hub"), "cannot be loaded: does not exist on the Hub"),
    ],
)
def test_the_hub_fails(hub, error, message):
    hub[0]["own/fruit", "corpus"] = error
    with pytest.raises(DataError, match=message):
        HubConfig(name="own/fruit").load()


def test_a_name_that_is_also_a_folder_here_is_refused(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "fruit").mkdir(parents=True)
    with pytest.raises(DataError, match=r"'own/fruit' is a name on the Hub and also a folder here; write '\./own/fruit'"):
        HubConfig(name="own/fruit").load()


def test_names_that_cannot_be_meant():
    for name in ("", "a/b/c", "own/", "own name"):
        with pytest.raises(ValidationError, match="is not a name on the Hub"):
            HubConfig(name=name)
    for key in ("revision", "qrels_revision"):
        with pytest.raises(ValidationError, match="a folder has no revisions"):
            HubConfig(name="./fruit", **{key: "abc"})
