"""Indexes of other engines: folders that the engines wrote (`foreign/make.py`), and what becomes of damaged ones."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from colbert_research import Collection, Index
from colbert_research.cli import main
from colbert_research.index import IndexCorruptedError, IndexMissingError
from colbert_research.index.importers import import_index, open_foreign
from colbert_research.index.importers.foreign import repacked
from colbert_research.kernels import reference
from colbert_research.kernels.operands import unpack_bits
from colbert_research.ragged import Ragged
from colbert_research.search import STRATEGIES

FOREIGN = Path(__file__).parent / "foreign"
ENGINES = ("stanford", "fast_plaid", "pylate")
HALF = 2.0**-11  # the rounding of float16, in which fast-plaid keeps vectors, products and sums


def queries():
    return np.load(FOREIGN / "queries.npy")


def copied(engine, tmp_path):
    return Path(shutil.copytree(FOREIGN / engine, tmp_path / "there"))


def files_of(folder, pattern):
    return sorted(folder.rglob(pattern))


@pytest.mark.parametrize("engine", ENGINES)
def test_finds_the_documents_of_the_engine_with_its_scores(engine, tmp_path):
    index = import_index(FOREIGN / engine, tmp_path / "here")
    index.verify()
    theirs = json.loads((FOREIGN / f"{engine}.scores.json").read_text())
    asked, decoded = Ragged.from_list(list(queries())), index.vectors_of(index.document_ids)
    scores = reference.maxsim(asked, decoded)
    assert len(STRATEGIES["exhaustive"]().search(index, asked, 5).top(0)) == 5
    # a decoded vector, its product with a query token, and the sum are each rounded, here to an inverse norm in float16
    steps = 1 if engine == "stanford" else 4
    allowed = steps * HALF * queries().shape[1]
    for query, expected in enumerate(theirs):
        ours = dict(zip(index.document_ids, scores[query].tolist(), strict=True))
        assert ours.keys() == {document for document, _ in expected}
        assert max(abs(ours[document] - score) for document, score in expected) <= allowed


def test_codes_decode_to_the_vectors_that_colbert_decompresses_to(tmp_path):
    """As `codecs/residual.py` of Stanford's ColBERT does: reversed bits, looked up, added to centroids, L2-normalised."""
    folder = FOREIGN / "stanford"
    codes, packed = (torch.load(folder / f"0.{name}.pt", weights_only=True).numpy() for name in ("codes", "residuals"))
    centroids = torch.load(folder / "centroids.pt", weights_only=True).float().numpy()
    _, weights = torch.load(folder / "buckets.pt", weights_only=True)
    nbits = 2
    reversed_bits = np.array(
        [int("".join(f"{byte:08b}"[i : i + nbits][::-1] for i in range(0, 8, nbits)), 2) for byte in range(256)]
    )
    numbers = [(reversed_bits[packed] >> shift) & (2**nbits - 1) for shift in (6, 4, 2, 0)]
    residuals = weights.float().numpy()[np.stack(numbers, axis=2).reshape(len(packed), -1)]
    expected = centroids[codes] + residuals
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    index = import_index(folder, tmp_path / "here")
    decoded = index.vectors_of(index.document_ids).values
    np.testing.assert_allclose(decoded, expected, rtol=HALF, atol=0)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_bits_are_repacked(nbits):
    rng = np.random.default_rng(nbits)
    numbers = rng.integers(2**nbits, size=(17, 24)).astype(np.uint8)
    lowest_first = (numbers[:, :, None] >> np.arange(nbits, dtype=np.uint8)) & 1
    theirs = np.packbits(lowest_first.reshape(17, -1), axis=1)
    np.testing.assert_array_equal(unpack_bits(repacked(theirs, nbits, 24), nbits, 24), numbers)


def test_metadata_of_fast_plaid_follow_its_documents(tmp_path):
    index = import_index(FOREIGN / "fast_plaid", tmp_path / "here")
    assert len(index) == 39
    assert [dict(d.metadata) for d in index.documents(["1", "2"])] == [
        {"year": 1991, "lang": "en"},
        {"year": 1993, "lang": "en"},
    ]


def test_texts_are_taken_from_a_collection(tmp_path):
    collection = Collection.from_texts([f"text {i}" for i in range(50)], ids=[f"doc-{i}" for i in range(50)])
    index = import_index(FOREIGN / "pylate", tmp_path / "here", collection=collection)
    assert [d.text for d in index.documents(["doc-7", "doc-3"])] == ["text 7", "text 3"]
    lacking = collection.subset(["doc-1", "doc-2"])
    with pytest.raises(KeyError, match=r"38 of the 40 documents in .* are not in .*doc-0"):
        import_index(FOREIGN / "pylate", tmp_path / "there", collection=lacking)
    assert not (tmp_path / "there").exists()


@pytest.fixture
def ragatouille(tmp_path):
    """Ten documents of four passages each, as RAGatouille keeps them beside Stanford's files."""
    folder = copied("stanford", tmp_path)
    for file in folder.glob("*.pkl"):
        file.unlink()
    ids = {str(i): f"page-{i // 4}" if i < 36 else f"single-{i}" for i in range(40)}
    for name, value in (
        ("collection.json", [f"passage {i}" for i in range(40)]),
        ("pid_docid_map.json", ids),
        ("docid_metadata_map.json", {"page-0": {"source": "wikipedia"}}),
    ):
        (folder / name).write_text(json.dumps(value))
    return folder


def test_passages_of_ragatouille_share_their_document(ragatouille, tmp_path):
    index = import_index(ragatouille, tmp_path / "here")
    first, last = index.documents(["page-0#1", "single-39#0"])
    assert first.text == "passage 1"
    assert first.metadata == {"source": "wikipedia", "_start": None, "_end": None}
    assert (last.text, last.metadata) == ("passage 39", {"_start": None, "_end": None})


def removed(folder, pid):
    """As `IndexUpdater.remove` leaves a passage: without tokens and codes. RAGatouille drops its text, too."""
    lengths = json.loads((folder / "doclens.0.json").read_text())
    low = sum(lengths[:pid])
    for name in ("codes", "residuals"):
        tensor = torch.load(folder / f"0.{name}.pt", weights_only=True)
        torch.save(torch.cat([tensor[:low], tensor[low + lengths[pid] :]]), folder / f"0.{name}.pt")
    lengths[pid] = 0
    (folder / "doclens.0.json").write_text(json.dumps(lengths))


def test_documents_deleted_in_ragatouille_are_left_out_and_others_keep_their_texts(ragatouille, tmp_path):
    before = import_index(ragatouille, tmp_path / "before")
    removed(ragatouille, 5)
    texts, ids = (json.loads((ragatouille / name).read_text()) for name in ("collection.json", "pid_docid_map.json"))
    del texts[5], ids["5"]
    (ragatouille / "collection.json").write_text(json.dumps(texts))
    (ragatouille / "pid_docid_map.json").write_text(json.dumps(ids))
    index = import_index(ragatouille, tmp_path / "here")
    assert len(index) == 39
    assert index.documents(["single-38#0"])[0].text == "passage 38"
    np.testing.assert_array_equal(index.vectors_of(["single-38#0"]).values, before.vectors_of(["single-38#0"]).values)
    texts.append("added later, under a number that nobody knows")
    (ragatouille / "collection.json").write_text(json.dumps(texts))
    with pytest.raises(IndexCorruptedError, match=r"39 passages, 40 texts and 39 identifiers.*Index the texts anew"):
        import_index(ragatouille, tmp_path / "there")


def test_documents_deleted_in_pylate_are_left_out(tmp_path):
    folder = copied("stanford", tmp_path)
    removed(folder, 3)
    assert "doc-3" not in import_index(folder, tmp_path / "here").document_ids


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


def test_pickles_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = copied("pylate", tmp_path)
    (folder / "plaid_ids_to_documents_ids.pkl").write_bytes(pickle.dumps({0: Evil()}))
    with pytest.raises(IndexCorruptedError, match=r"plaid_ids_to_documents_ids.pkl is not read.*only dicts of strings"):
        import_index(folder, tmp_path / "here")
    stanford = Path(shutil.copytree(FOREIGN / "stanford", tmp_path / "stanford"))
    torch.save({"codes": Evil()}, stanford / "0.codes.pt")
    with pytest.raises(IndexCorruptedError, match=r"0\.codes\.pt is not read"):
        import_index(stanford, tmp_path / "here")
    np.save(folder / "fast_plaid_index" / "0.codes.npy", np.array([Evil()], object), allow_pickle=True)
    shutil.copy(FOREIGN / "pylate" / "plaid_ids_to_documents_ids.pkl", folder)
    with pytest.raises(IndexCorruptedError, match=r"0\.codes\.npy is not read"):
        import_index(folder, tmp_path / "here")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_is_missing_empty_or_cut_is_named(engine, tmp_path):
    """Whatever is lacking: an index that agrees with what is left, or a sentence that names a file; never another error."""
    whole = copied(engine, tmp_path)
    expected = import_index(whole, tmp_path / "expected").document_ids
    for number, file in enumerate(f for f in whole.rglob("*") if f.is_file()):
        content = file.read_bytes()
        for kind, bytes_left in (("missing", None), ("empty", b""), ("cut", content[: len(content) // 2])):
            file.unlink(missing_ok=True)
            if bytes_left is not None:
                file.write_bytes(bytes_left)
            target = tmp_path / f"here-{number}-{kind}"
            try:
                index = import_index(whole, target)
            except (IndexCorruptedError, IndexMissingError) as error:
                assert str(whole) in str(error)
                with pytest.raises(IndexMissingError):
                    Index.open(target)
            else:  # a file that is not needed, or of which PyLate keeps the same the other way round
                assert index.document_ids == expected
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("0.codes", lambda a: a + 10_000, "numbers of the 256 centroids"),
        ("0.codes", lambda a: -a - 1, "numbers of the 256 centroids"),
        ("0.residuals", lambda a: a[:, :-1], "bytes of residuals"),
        ("0.residuals", lambda a: a[:-1], "tokens"),
        ("bucket_cutoffs", lambda a: a[::-1], "ascending"),
        ("bucket_weights", lambda a: a[:-1], "4 weights"),
        ("bucket_weights", lambda a: a * np.nan, "finite"),
        ("centroids", lambda a: a * np.inf, "finite centroids"),
        ("centroids", lambda a: a[0], "centroids"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(name, change, message, tmp_path):
    folder = copied("fast_plaid", tmp_path)
    array = np.load(folder / f"{name}.npy")
    with np.errstate(invalid="ignore"):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(change(array)))
    with pytest.raises(IndexCorruptedError, match=message):
        import_index(folder, tmp_path / "here")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(IndexMissingError, match=r"expected centroids\.pt .* or centroids\.npy"):
        open_foreign(tmp_path)


def test_says_what_the_folder_is():
    found = open_foreign(FOREIGN / "stanford")
    assert (found.engine, found.nbits, found.floats.centroids.shape, found.checkpoint) == (
        "Stanford's ColBERT",
        2,
        (256, 32),
        None,
    )


def test_the_command(tmp_path):
    said = CliRunner().invoke(main, ["index", "import", str(FOREIGN / "pylate"), str(tmp_path / "here")])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("Index(40 documents")
    again = CliRunner().invoke(main, ["index", "import", str(FOREIGN / "pylate"), str(tmp_path / "here")])
    assert again.exit_code == 1
    assert "holds an index" in again.output
