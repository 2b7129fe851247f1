"""Ragged arrays and the writer of `.npy` files: what tests/test_ranking.py's comparison with lists leaves open."""

import itertools
import os
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colbert_research.ragged import NpyWriter, Ragged, float_rows, item_of_row, load_npy, offsets_of, rows_of, save_npy
from colbert_research.threads import available, pinned_threads

LENGTHS = st.lists(st.integers(0, 4), max_size=7)


def vectors(lengths) -> tuple[list[np.ndarray], Ragged]:
    rows = np.arange(2 * sum(lengths), dtype=np.float32).reshape(-1, 2)
    items = np.split(rows, np.cumsum(lengths)[:-1]) if lengths else []
    return items, Ragged.from_list(items, trailing=(2,))


def same(value: Ragged, items) -> bool:
    return len(value) == len(items) and all(np.array_equal(a, b) for a, b in zip(value, items, strict=True))


@given(LENGTHS, st.data())
def test_rows_of_two_dimensions_agree_with_lists(lengths, data):
    items, value = vectors(lengths)
    assert same(value, items)
    assert value.lengths.tolist() == lengths
    assert (value.dim, value.n_rows) == (2, sum(lengths))
    start, stop = data.draw(st.integers(-8, 8)), data.draw(st.integers(-8, 8))
    part = value.slice(start, stop)
    assert same(part, items[start:stop])
    assert part.offsets[0] == 0
    cut = data.draw(st.integers(0, len(items)))
    assert same(Ragged.concat([value.slice(0, cut), value.slice(cut, len(value))]), items)
    chosen = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=9)) if items else []
    assert same(value.take(chosen), [items[i] for i in chosen])
    assert rows_of(value.offsets, np.array(chosen, np.int64)).tolist() == [
        r for i in chosen for r in range(value.offsets[i], value.offsets[i + 1])
    ]
    assert item_of_row(value.offsets).tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]


@given(LENGTHS, st.integers(1, 5))
def test_chunks_are_as_long_as_they_may_be(lengths, most):
    _, value = vectors(lengths)
    pieces = list(value.chunks(most))
    assert [n for _, piece in pieces for n in piece.lengths.tolist()] == lengths
    for (_, piece), (start, _) in itertools.pairwise(pieces):
        assert piece.n_rows + lengths[start] > most, "the next item would have fitted"


def test_items_out_of_range():
    _, value = vectors([1, 2])
    assert value[-1].tolist() == value[1].tolist()
    for call in (lambda: value[2], lambda: value.take([2]), lambda: value.take([-1])):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Ragged.concat([])
    with pytest.raises(ValueError, match="offsets must"):
        value.map(lambda rows: rows[:-1])


def test_slices_share_memory_and_taken_items_do_not():
    _, value = vectors([1, 2, 1])
    assert np.shares_memory(value.slice(1, 3).values, value.values)
    assert not np.shares_memory(value.take([0, 1, 2]).values, value.values)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_nothing_is_saved_and_opened(tmp_path, lengths):
    value = Ragged(np.empty((0, 3), np.float16), offsets_of(lengths))
    value.save(tmp_path / "new", "codes")
    opened = Ragged.open(tmp_path / "new", "codes")
    assert (len(opened), opened.values.shape, opened.values.dtype) == (len(lengths), (0, 3), np.float16)
    assert list(opened.chunks(2)) == [] or len(opened)


def test_opened_without_mapping(tmp_path):
    items, value = vectors([2, 1])
    value.save(tmp_path)
    opened = Ragged.open(tmp_path, mmap=False)
    assert not isinstance(opened.values, np.memmap)
    assert same(opened, items)


@pytest.mark.parametrize(("dtype", "trailing"), [("<f4", (3,)), ("<f2", ()), ("u1", (2, 2)), ("<i8", ()), ("?", (1,))])
def test_the_writer_writes_what_np_save_writes(tmp_path, rng, dtype, trailing):
    rows = rng.integers(0, 2, (7, *trailing)).astype(dtype)
    np.save(tmp_path / "expected.npy", rows)
    with NpyWriter(tmp_path / "a.npy", dtype, trailing) as writer:
        for part in np.split(rows, [0, 2, 5]):
            writer.append(part)
    header = NpyWriter.HEADER  # np.save's header spells the same dictionary with one more comma
    assert (tmp_path / "a.npy").read_bytes()[header:] == (tmp_path / "expected.npy").read_bytes()[header:]
    for mode in (None, "r"):
        found = np.load(tmp_path / "a.npy", mmap_mode=mode)
        assert (found.dtype, found.shape) == (rows.dtype, rows.shape)
        assert np.array_equal(found, rows)


def test_the_writer_of_nothing_and_of_the_wrong_shape(tmp_path):
    with NpyWriter(tmp_path / "a.npy", np.float32, (3,)) as writer, pytest.raises(ValueError, match=r"shape \(3,\)"):
        writer.append(np.zeros((2, 4), np.float32))
    assert np.load(tmp_path / "a.npy").shape == (0, 3)


def test_a_writer_cut_short_resumes_to_the_same_bytes(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    with NpyWriter(tmp_path / "whole.npy", np.float32, (2,)) as writer:
        writer.append(rows)
    with pytest.raises(RuntimeError), NpyWriter(tmp_path / "cut.npy", np.float32, (2,)) as writer:
        writer.append(rows[:3])
        writer.sync()
        writer.append(np.tile(rows + 99, (2, 1)))  # after the last sync, and more than will follow: not to be believed
        raise RuntimeError
    assert np.array_equal(np.load(tmp_path / "cut.npy"), rows[:3])
    with NpyWriter(tmp_path / "cut.npy", np.float32, (2,), rows=3) as writer:
        writer.append(rows[3:])
    assert (tmp_path / "cut.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
@pytest.mark.parametrize("n", [0, 1, 50_001])
@pytest.mark.parametrize("n_threads", [1, available()])
def test_rows_as_floats(rng, dtype, n, n_threads):
    """Gathered by one thread or by all; those that float32 cannot hold become infinite without a warning."""
    values = (100 * rng.standard_normal((n, 32))).astype(dtype)
    if dtype == np.float64 and n:
        values[n // 2, 3] = 1e300
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    some = np.flatnonzero(rng.random(n) < 0.9)
    with pinned_threads(n_threads):
        for rows in (slice(None), slice(1, n - 1), some, some[::-1]):
            found = float_rows(values, rows)
            assert found.dtype == np.float32
            assert np.array_equal(found, expected[rows])


def test_single_precision_is_not_copied():
    values = np.zeros((9, 4), np.float32)
    assert np.shares_memory(float_rows(values, slice(2, 5)), values)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits the size of files in a child")
@pytest.mark.parametrize("written", ["rows", "array"])
def test_what_does_not_fit_on_the_disk_is_an_error(tmp_path, written):
    """`ndarray.tofile` loses the last block without a word."""
    import resource

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            array = np.ones((400, 4), np.float32)
            if written == "array":
                save_npy(tmp_path / "a.npy", array)
            else:
                with NpyWriter(tmp_path / "a.npy", np.float32, (4,)) as writer:
                    writer.append(array)
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("array", [np.arange(12.0).reshape(3, 4).T, np.zeros((0, 3)), np.array(5)])
def test_an_array_is_written_as_numpy_reads_it(tmp_path, array):
    save_npy(tmp_path / "a.npy", array)
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("mmap", [True, False])
def test_a_damaged_header_is_named_whatever_numpy_raises(tmp_path, mmap):
    """Every byte of the header set to every kind of sign: the array, or an error of ours that names the file."""
    save_npy(tmp_path / "a.npy", np.arange(6, dtype=np.int64).reshape(3, 2))
    whole = (tmp_path / "a.npy").read_bytes()
    kinds = set()
    for at, sign in itertools.product(range(80), b"\x00(9'\\{\xff"):
        (tmp_path / "b.npy").write_bytes(whole[:at] + bytes([sign]) + whole[at + 1 :])
        try:
            load_npy(tmp_path / "b.npy", mmap=mmap)
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path / 'b.npy'} is no .npy file, or a damaged one: ")
            kinds.add(type(error.__cause__))
    assert len(kinds) > 1, "NumPy raises more than ValueError, so there is something to catch"


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    with pytest.raises(ValueError, match=r"a\.npz is no \.npy file, or a damaged one: it holds NpzFile"):
        load_npy(tmp_path / "a.npz", mmap=False)
