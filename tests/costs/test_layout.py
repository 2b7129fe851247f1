"""Bytes of indexes that are not there, against indexes that are."""

import json

import numpy as np
import pytest

from colbert_research.codecs import CODECS
from colbert_research.config import component_of_line
from colbert_research.costs import Measurements
from colbert_research.costs.layout import Layout, pairs_of
from colbert_research.data import Collection
from colbert_research.index import build_index
from colbert_research.index.writing import BuildConfig
from colbert_research.ragged import Ragged
from colbert_research.settings import ConfigError

LINES = (
    "exact dtype=float16",
    "scalar nbits=1",
    "scalar nbits=8",
    "product m=4",
    "rabitq nbits=2",
    "residual nbits=2 centroids=8",
    "residual_product m=8 rotation=opq centroids=8",
    "residual_rabitq nbits=1 centroids=8",
    "centroid centroids=8",
)
DOCUMENTS, LENGTH, DIM = 120, 10, 16


def of(line):
    return component_of_line("codec", CODECS, line)


def test_every_codec_is_among_the_cases():
    assert {of(line).kind for line in LINES} == {*CODECS}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("segment_tokens", [4_194_304, 400])
def test_bytes_are_those_of_an_index_that_is_built(line, segment_tokens, tmp_path):
    rows = np.random.default_rng(0).standard_normal((DOCUMENTS * LENGTH, DIM)).astype(np.float32)
    vectors = Ragged(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.arange(0, len(rows) + 1, LENGTH))
    build = BuildConfig(segment_tokens=segment_tokens)
    index = build_index(tmp_path / "index", Collection.from_texts(["a text"] * DOCUMENTS), vectors, of(line), build=build)
    there = index.nbytes()
    entries = sum(len(segment.inverted.documents) for segment in index.segments if segment.inverted is not None)
    sizes = DOCUMENTS, len(rows), DIM
    layout = Layout(of(line), *sizes, entries / len(rows), there["documents"] / DOCUMENTS, segment_tokens)
    assert layout.segments == len(index.segments)
    assert layout.fitted.layout == index.codec.layout
    state = tmp_path / "index" / "codec" / "state.safetensors"
    headers = 8 + int.from_bytes(state.read_bytes()[:8], "little") + (state.parent / "codec.json").stat().st_size
    found = layout.nbytes()
    found["codec"] += headers
    found["total"] += headers
    assert found == there
    if segment_tokens > len(rows) and there["inverted"]:
        assert pairs_of(of(line), *sizes, there["inverted"]) == pytest.approx(entries / len(rows))


def test_the_ids_of_many_centroids_are_wider():
    few, many = (Layout(of("residual nbits=2"), 10, tokens, 128, 1.0) for tokens in (16_000_000, 200_000_000))
    assert (few.centroids, many.centroids) == (2**15, 2**17)
    ids = [layout.fitted.layout["centroid_ids"][0].itemsize for layout in (few, many)]
    assert ids == [2, 4]
    assert many.nbytes()["codec"] - few.nbytes()["codec"] == (2**17 - 2**15) * 128 * 4


@pytest.mark.slow
def test_every_index_of_a_record_is_predicted_within_a_quarter():
    """The codes to the byte; the whole, of which inverted lists depend on the vectors, from the others' pairs by token."""
    sizes = {(each.codec, each.tokens, each.dim): each for each in Measurements.shipped().sizes}.values()
    assert len(sizes) > 20
    pairs = {}
    for each in sizes:
        if each.bytes["inverted"]:
            pairs[each.source] = pairs_of(of(each.codec), each.documents, each.tokens, each.dim, each.bytes["inverted"])
    for each in sizes:
        others = [value for source, value in pairs.items() if source != each.source]
        texts = each.bytes.get("documents", 0) / each.documents
        found = Layout(of(each.codec), each.documents, each.tokens, each.dim, float(np.median(others)), texts).nbytes()
        assert found["codes"] == each.bytes["codes"], each.source
        measured = sum(size for part, size in each.bytes.items() if part != "total")
        assert found["total"] == pytest.approx(measured, rel=0.25), each.source


def test_what_a_codec_refuses_is_said_with_the_dimensions():
    with pytest.raises(ConfigError, match=r"an index of 100 dimensions with .*codec\.m=32 sub-spaces cannot share"):
        Layout(of("residual_product m=32"), 10, 1000, 100, 1.0).nbytes()
    with pytest.raises(ConfigError, match=r"codec\.centroids=2000, but the collection has 1000 tokens"):
        Layout(of("residual centroids=2000"), 10, 1000, 128, 1.0).nbytes()
    json.dumps(Layout(of("exact"), 10, 1000, 7, 1.0).nbytes())
