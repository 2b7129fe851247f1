import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from colbert_research.artifacts import read_json
from colbert_research.encoders import HashingConfig, TokenVectors, encode_to_folder, open_vectors, store
from colbert_research.encoders.store import LeftoversError
from colbert_research.ragged import NpyWriter, Ragged

TEXTS = ["green tea", "", "a study of the heart", "statin", "", "breast cancer and diet", "vitamin", "cell risk", "tea", ""]
SHARD = 3  # four shards, the last one short


class StopError(Exception):
    """The crash of these tests."""


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("COLBERT_RESEARCH_PROGRESS", "off")


@pytest.fixture
def encoder():
    return HashingConfig(dim=8).load()


def write(encode, folder, **settings):
    return encode_to_folder(encode, TEXTS, folder, **{"shard_documents": SHARD, "fingerprint": "test", **settings})


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def whole(encoder, tmp_path):
    """The files of a run that nothing interrupted."""
    write(encoder.encode_documents, tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_what_was_encoded_is_what_is_opened(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("colbert_research.ragged.MAPPED_BYTES", 0)  # small files, too
    notes = write(encoder.encode_documents, tmp_path)
    wanted = encoder.encode_documents(TEXTS)
    for mmap in (True, False):
        found = open_vectors(tmp_path, mmap=mmap)
        assert isinstance(found.vectors.values, np.memmap) == mmap
        assert found.vectors.values.dtype == np.float32 and found.token_ids.values.dtype == np.int32
        for one, other in zip(found, wanted, strict=True):
            assert np.array_equal(one.values, other.values) and np.array_equal(one.offsets, other.offsets)
    assert {key: notes[key] for key in ("documents", "tokens", "dim", "dtype", "resumed_at")} == {
        "documents": 10,
        "tokens": len(wanted.token_ids.values),
        "dim": 8,
        "dtype": "float32",
        "resumed_at": 0,
    }
    assert notes["bytes"] == sum((tmp_path / f"{name}.npy").stat().st_size for name in ("vectors", "token_ids", "offsets"))


def test_float16(encoder, tmp_path):
    write(encoder.encode_documents, tmp_path, dtype="float16")
    found = open_vectors(tmp_path).vectors.values
    assert found.dtype == np.float16
    assert np.array_equal(found, encoder.encode_documents(TEXTS).vectors.values.astype(np.float16))


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_nothing_to_store(encoder, tmp_path, texts):
    notes = encode_to_folder(encoder.encode_documents, texts, tmp_path)
    found = open_vectors(tmp_path)
    assert (notes["documents"], notes["tokens"]) == (len(texts), 0) == (len(found.vectors), found.vectors.n_rows)
    assert found.vectors.values.shape == (0, 8)
    assert encode_to_folder(encoder.encode_documents, texts, tmp_path)["resumed_at"] == len(texts)


def test_only_one_shard_is_encoded_at_a_time(encoder, tmp_path):
    seen = []
    write(lambda texts: seen.append(len(texts)) or encoder.encode_documents(texts), tmp_path)
    assert seen == [3, 3, 3, 1]


@pytest.mark.parametrize("crash", range(4))
def test_a_crash_while_encoding(encoder, tmp_path, whole, crash):
    calls = []

    def encode(texts):
        calls.append(len(texts))
        if len(calls) == crash + 1:
            raise StopError
        return encoder.encode_documents(texts)

    with pytest.raises(StopError):
        write(encode, tmp_path / "cut")
    with pytest.raises(ValueError, match=f"unfinished: {crash * SHARD} of 10"):
        open_vectors(tmp_path / "cut")
    calls.clear()
    notes = write(lambda texts: calls.append(0) or encoder.encode_documents(texts), tmp_path / "cut")
    assert notes["resumed_at"] == crash * SHARD and len(calls) == 4 - crash  # only what was missing
    assert contents(tmp_path / "cut") == whole


@pytest.mark.parametrize("crash", range(13))
def test_a_crash_in_the_middle_of_a_shard(encoder, tmp_path, whole, crash, monkeypatch):
    """Half of the rows of one append reach the file: 3 appends per shard, so at 12 points."""
    append, calls = NpyWriter.append, []

    def half(self, rows):
        calls.append(0)
        if len(calls) == crash + 1:
            append(self, rows[: len(rows) // 2])
            self._file.flush()
            raise StopError
        append(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(NpyWriter, "append", half)
        if crash < 12:
            with pytest.raises(StopError):
                write(encoder.encode_documents, tmp_path / "cut")
        else:
            write(encoder.encode_documents, tmp_path / "cut")
    write(encoder.encode_documents, tmp_path / "cut")
    assert contents(tmp_path / "cut") == whole


@pytest.mark.parametrize("crash", range(5))
def test_a_crash_before_the_journal(encoder, tmp_path, whole, crash, monkeypatch):
    """The rows are on the disk and the journal does not know of them."""
    write_json, calls = store.write_json, []

    def unreached(path, value):
        calls.append(0)
        if len(calls) == crash + 1:
            raise StopError
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_json", unreached)
        with pytest.raises(StopError):
            write(encoder.encode_documents, tmp_path / "cut")
    notes = write(encoder.encode_documents, tmp_path / "cut")
    assert notes["resumed_at"] == max(0, crash - 1) * SHARD
    assert contents(tmp_path / "cut") == whole


@pytest.mark.parametrize("name", ["vectors.npy", "token_ids.npy", "offsets.npy", "journal.json"])
@pytest.mark.parametrize("finished", [False, True])
def test_nothing_is_appended_to_what_was_damaged_since(encoder, tmp_path, name, finished):
    calls = []

    def encode(texts):
        calls.append(len(texts))
        if len(calls) == 3 and not finished:
            raise StopError
        return encoder.encode_documents(texts)

    with contextlib.suppress(StopError):
        write(encode, tmp_path)
    data = (tmp_path / name).read_bytes()
    for damage in (data[:-1], data[:20], data[:130] + bytes([data[130] ^ 1]) + data[131:], b"", None):
        (tmp_path / name).unlink() if damage is None else (tmp_path / name).write_bytes(damage)
        if name == "journal.json" and damage == data[:-1]:  # without its last line end it says the same
            continue
        with pytest.raises(LeftoversError, match=r"delete .* to start again|choose another folder"):
            write(encoder.encode_documents, tmp_path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process(encoder, tmp_path, whole):
    code = f"""
        import os, signal
        from colbert_research.encoders import HashingConfig, encode_to_folder, store
        write_json, calls = store.write_json, []
        def deadly(path, value):
            calls.append(0)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            write_json(path, value)
        store.write_json = deadly
        encode = HashingConfig(dim=8).load().encode_documents
        encode_to_folder(encode, {TEXTS!r}, {str(tmp_path / "cut")!r}, shard_documents={SHARD}, fingerprint="test")
    """
    environment = {**os.environ, "COLBERT_RESEARCH_PROGRESS": "off"}
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert read_json(tmp_path / "cut" / "journal.json")["documents"] == 2 * SHARD
    assert write(encoder.encode_documents, tmp_path / "cut")["resumed_at"] == 2 * SHARD
    assert contents(tmp_path / "cut") == whole


def test_a_finished_folder_is_left_as_it_is(encoder, tmp_path):
    write(encoder.encode_documents, tmp_path)
    before = contents(tmp_path)
    notes = write(lambda texts: pytest.fail("encoded again"), tmp_path)
    assert notes["resumed_at"] == 10 and contents(tmp_path) == before


@pytest.mark.parametrize("change", ["texts", "fingerprint", "rounding", "shard", "dtype", "method", "encoder"])
def test_a_folder_of_something_else_is_refused(encoder, tmp_path, change):
    plain = {"texts": TEXTS, "encode": encoder.encode_documents, "shard_documents": SHARD}
    changed = {
        "texts": {"texts": [*TEXTS[:-1], "another"]},
        "fingerprint": {"fingerprint": "other"},
        "rounding": {"rounding": {"dtype": "float16"}},
        "shard": {"shard_documents": 4},
        "dtype": {"dtype": "float16"},
        "method": {"encode": encoder.encode_queries},
        "encoder": {"encode": HashingConfig(dim=8, seed=1).load().encode_documents},
    }[change]
    encode_to_folder(folder=tmp_path, **plain)
    with pytest.raises(ValueError, match=r"was begun with other texts or settings.*delete it"):
        encode_to_folder(folder=tmp_path, **{**plain, **changed})


@pytest.mark.parametrize("named", [{}, {"fingerprint": "given"}])
def test_an_encoder_that_rounds_otherwise_does_not_take_up_a_folder(encoder, tmp_path, monkeypatch, named):
    encode_to_folder(encoder.encode_documents, TEXTS, tmp_path, **named)
    monkeypatch.setattr(type(encoder), "rounding", lambda self: {"dtype": "float16"})
    with pytest.raises(ValueError, match="was begun with other texts or settings"):
        encode_to_folder(encoder.encode_documents, TEXTS, tmp_path, **named)


def test_texts_are_told_apart_by_their_borders(encoder, tmp_path):
    encode_to_folder(encoder.encode_documents, ["ab", "c"], tmp_path)
    with pytest.raises(ValueError, match="other texts"):
        encode_to_folder(encoder.encode_documents, ["a", "bc"], tmp_path)


def test_files_of_somebody_else(encoder, tmp_path):
    np.save(tmp_path / "vectors.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"vectors\.npy and no journal\.json"):
        write(encoder.encode_documents, tmp_path)
    with pytest.raises(FileNotFoundError, match="not written by encode_to_folder"):
        open_vectors(tmp_path)


def test_an_encoder_that_gives_nonsense(encoder, tmp_path):
    with pytest.raises(ValueError, match="for 3 texts; expected one item per text"):
        write(lambda texts: encoder.encode_documents(texts[:-1]), tmp_path / "few")
    widths = iter((8, 9))
    with pytest.raises(ValueError, match=r"expected \(tokens, 8\)"):
        write(lambda texts: HashingConfig(dim=next(widths)).load().encode_documents(texts), tmp_path / "wide")

    def apart(texts):
        vectors, ids = encoder.encode_documents(texts)
        return TokenVectors(vectors, Ragged(ids.values[:-1], np.minimum(ids.offsets, ids.n_rows - 1)))

    with pytest.raises(ValueError, match="expected one item per text in both"):
        write(apart, tmp_path / "apart")


def test_arguments(encoder, tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write(encoder.encode_documents, tmp_path, shard_documents=0)
    with pytest.raises(TypeError, match="text 1 is a int"):
        encode_to_folder(encoder.encode_documents, ["a", 1], tmp_path)


def test_progress_is_shown(encoder, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("COLBERT_RESEARCH_PROGRESS", "log")
    with caplog.at_level("INFO", logger="colbert_research"):
        write(encoder.encode_documents, tmp_path, description="encode documents")
    assert "encode documents: 10 of 10 texts" in caplog.text


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (np.inf, "float32"), (1e30, "float32"), (1e5, "float16")])
def test_a_vector_that_is_not_finite_names_its_text_and_stops(encoder, tmp_path, value, dtype):
    """The text of the fifth shard place is number 5; what came before it stays, and a sound encoder takes the run up again."""

    def encode(texts):
        found = encoder.encode_documents(texts)
        if TEXTS[5] in texts:
            found.vectors.values[found.vectors.offsets[texts.index(TEXTS[5])] + 1, 2] = value
        return found

    with pytest.raises(ValueError, match=f"text 5 was encoded to a token vector that is not finite in {dtype}"):
        write(encode, tmp_path, dtype=dtype)
    assert read_json(tmp_path / "journal.json")["documents"] == SHARD
    assert write(encoder.encode_documents, tmp_path, dtype=dtype)["resumed_at"] == SHARD
