"""The command line: what it prints, and what it says of what it cannot read."""

import importlib
import json
import subprocess
import sys

import nbformat
import pytest
from click.testing import CliRunner

from colbert_research.cli import main
from colbert_research.codecs import ResidualConfig
from colbert_research.data import Collection
from colbert_research.encoders import HashingConfig, TextPipeline
from colbert_research.index import Index, build_index


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def notebook(path, outputs):
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Three documents, one with a title, one with a long text of two lines."""
    collection = Collection.from_texts(
        ["green tea is a drink", "whales have\nlarge hearts " + "and sing " * 40, "tea and cancer"],
        ids=["a", "whales", "c"],
        titles=["Tea", "", ""],
        metadata=[{"year": 1990}, {"name": "é"}, {"name": "é", "year": 1991}],
    )
    return build(tmp_path_factory.mktemp("cli") / "index", collection, kept=True)


def build(path, collection, *, kept: bool):
    pipeline = TextPipeline.of(HashingConfig())
    vectors = pipeline.documents(collection.document_texts()).vectors
    build_index(path, collection, vectors, ResidualConfig(centroids=4), pipeline=pipeline if kept else None)
    return path


def test_search_prints_a_table(index, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out = run("search", index, "large whales", "-k", "2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["rank", "score", "document", "title:", "text"]
    assert lines[1].split()[::2][:2] == ["1", "whales"]
    assert lines[1].endswith("  whales have large hearts and sing an…")
    assert len(lines) == 3
    assert max(map(len, lines)) == 60
    _, out = run("search", index, "green tea", "-k", "1")
    assert out.splitlines()[1].endswith("Tea: green tea is a drink")


def test_search_prints_json(index):
    code, out = run("search", index, "whales", "-k", "2", "--json", "--strategy", "plaid ncells=4 ndocs=3 n_exact=3")
    first, second = json.loads(out)
    assert code == 0
    assert (first["rank"], first["document_id"], first["title"], first["metadata"]) == (1, "whales", "", {"name": "é"})
    assert first["text"].startswith("whales have\nlarge hearts")
    assert first["score"] > second["score"]


def test_search_with_a_filter(index):
    for asked, expected in (
        ('{"year": {"$gte": 1990}}', ["a", "c"]),
        ('{"year": {"$gte": 1990}, "name": "é"}', ["c"]),
        ('{"year": {"$in": []}}', []),
    ):
        code, out = run("search", index, "green tea", "--filter", asked, "--json")
        assert code == 0
        assert sorted(hit["document_id"] for hit in json.loads(out)) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", '{"yaer": 1990}'], "no document has a field 'yaer'; did you mean 'year'"),
        (["--filter", "year=1990"], "expected a filter as JSON, such as"),
        (["--filter", '{"year": 1, "year": 2}'], "'year' stands twice in one object"),
        (["--strategy", "plaid ncels=4"], "did you mean 'ncells'"),
        (["--strategy", "plad"], "did you mean 'plaid'"),
        (["--strategy", "plaid ncells=9"], "ncells=9, but the index has 4 centroids"),
        (["--strategy", "plaid ncells"], "is not of the form name=value"),
        (["-k", "0"], "k must be at least 1; given 0"),
        (["--model", "/nowhere"], "the encoder of these vectors (hashing) reads no model; given '/nowhere'"),
    ],
)
def test_search_says_what_is_wrong_in_one_sentence(index, arguments, message):
    code, out = run("search", index, "tea", *arguments)
    assert code == 1
    assert out.startswith("Error: ")
    assert message in out
    assert len(out.splitlines()) == 1


def test_search_of_what_cannot_be_searched(index, tmp_path):
    bare = build(tmp_path / "bare", Collection.from_texts(["a cup of tea", "b"]), kept=False)
    for arguments, message in (
        ((tmp_path / "nowhere", "tea"), "no finished index in"),
        ((bare, "tea"), "has bare vectors and does not say how a text becomes such vectors"),
        ((index, " "), "a query needs at least one word"),
    ):
        code, out = run("search", *arguments)
        assert code == 1
        assert message in out
        assert len(out.splitlines()) == 1


def test_show_prints_the_last_table(tmp_path):
    outputs = [nbformat.v4.new_output("execute_result", {"text/plain": text}) for text in ("first", "the table")]
    logged = "12:30:01 saved 3 of 4\n12:30:02 saved /there/a b/record.json\n12:30:03 done\n"
    path = notebook(tmp_path / "out.ipynb", [nbformat.v4.new_output("stream", text=logged), *outputs])
    path.with_suffix(".html").write_text("")
    code, out = run("show", path)
    assert code == 0
    assert out.splitlines()[:3] == ["first", "", "the table"]
    assert "record    /there/a b/record.json" in out
    assert f"html      {path.with_suffix('.html')}" in out


@pytest.mark.parametrize("text", ["# no notebook", '{"metrics": {}}', "[1, 2]", ""])
def test_show_of_what_is_no_notebook(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    code, out = run("show", tmp_path / "record.json")
    assert code == 1
    assert out.startswith(f"Error: {tmp_path / 'record.json'} is not a notebook: ")


def test_show_of_a_notebook_that_did_not_run(tmp_path):
    code, out = run("show", notebook(tmp_path / "out.ipynb", []))
    assert code == 1
    assert "has no outputs; execute it first" in out


def test_summary_of_nothing(tmp_path):
    code, out = run("summary", tmp_path)
    assert code == 1
    assert "nothing has finished there" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["colbert_research", "colbert_research.cli"])
def test_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: colbert-research ")


def test_a_run_that_stopped_says_where(tmp_path):
    notebook = nbformat.v4.new_notebook()
    error = nbformat.v4.new_output("error", ename="ConfigError", evalue="unknown key 'nbit'", traceback=[])
    notebook.cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_code_cell("start()", outputs=[error])]
    nbformat.write(notebook, tmp_path / "a.ipynb")
    code, out = run("show", tmp_path / "a.ipynb")
    assert code != 0
    assert "stopped in cell 2: ConfigError: unknown key 'nbit'" in out


def test_a_module_of_ones_own_is_loaded_where_it_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "cli_codec.py").write_text(
        "from typing import Literal\nfrom colbert_research.codecs import ExactConfig\n"
        "class Mine(ExactConfig):\n    kind: Literal['cli_codec:Mine'] = 'cli_codec:Mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    codec = importlib.import_module("cli_codec").Mine()
    encoder = HashingConfig(dim=16)
    texts = ["red apples", "a blue boat"]
    vectors = encoder.load().encode_documents(texts)
    build_index(tmp_path / "i", Collection.from_texts(texts), vectors, codec, pipeline=TextPipeline.of(encoder))
    del sys.modules["cli_codec"]
    code, out = run("search", tmp_path / "i", "blue boat", "-k", "1")
    assert code != 0
    assert "--import cli_codec" in out
    code, out = run("search", tmp_path / "i", "blue boat", "-k", "1", "--import", "cli_codec")
    assert code == 0, out
    assert "a blue boat" in out


def test_index_is_shown_verified_and_compacted(tmp_path):
    collection = Collection.from_texts(["green tea is a drink", "whales have large hearts"], ids=["tea", "whales"])
    path = build(tmp_path / "i", collection, kept=False)
    Index.open(path).delete(["tea"])
    code, out = run("index", "show", path)
    assert (code, "1 segments, 1 deleted" in out, "generation 2 of [" in out) == (0, True, True)
    code, out = run("index", "compact", path)
    assert (code, "1 documents" in out, "deleted" in out) == (0, True, False)
    code, out = run("index", "verify", path)
    assert (code, out.startswith("every file is as it was written")) == (0, True)
    file = next(path.glob("segment-*/documents.bin"))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    code, out = run("index", "verify", path)
    assert code == 1
    assert "documents.bin is not what the manifest says" in out
