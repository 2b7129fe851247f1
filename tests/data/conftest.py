"""A small folder in the BEIR layout, and the writer that makes such folders."""

import gzip
import json
from pathlib import Path

import pytest

DOCUMENTS = [
    {"_id": "d1", "title": "Apples", "text": "Apples grow on trees.", "metadata": {"page": 1}},
    {"_id": "d2", "title": "", "text": "Pears do too."},
    {"_id": "d3", "text": "Potatoes do not.", "url": "http://example.org/3"},
]
QUERIES = [
    {"_id": "q2", "text": "what grows in the ground"},
    {"_id": "q0", "text": "never judged"},
    {"_id": "q1", "text": "what grows on trees", "metadata": {"asked": "often"}},
]
JUDGEMENTS = [("q1", "d1", 2), ("q1", "d2", 1), ("q2", "d3", 1)]


def write_folder(folder, documents=DOCUMENTS, queries=QUERIES, judgements=JUDGEMENTS, *, split="test", header=True, gz=False):
    """Write the three files, each gzipped when `gz`; return the folder."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    lines = ["query-id\tcorpus-id\tscore"] * header + ["\t".join(map(str, judgement)) for judgement in judgements]
    for name, rows in (
        ("corpus.jsonl", [json.dumps(document, ensure_ascii=False) for document in documents]),
        ("queries.jsonl", [json.dumps(query, ensure_ascii=False) for query in queries]),
        (f"qrels/{split}.tsv", lines),
    ):
        content = "".join(row + "\n" for row in rows).encode()
        Path(folder, name + ".gz" * gz).write_bytes(gzip.compress(content) if gz else content)
    return folder


@pytest.fixture(scope="session")
def write():
    return write_folder


@pytest.fixture
def folder(tmp_path):
    """Three documents, three queries of which two are judged, three judgements."""
    return write_folder(tmp_path / "fruit")
