"""Dense MaxSim on a device: against float64, exactly on whole numbers, what must not change a score, gradients, bad input.

Emulated; where there is a GPU, the same tests run there too.
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colbert_research.kernels import cuda_backend
from colbert_research.kernels.cuda import dense
from colbert_research.kernels.cuda.arrays import place_of
from colbert_research.kernels.cuda.tally import tally_for
from colbert_research.ragged import Ragged
from tests.kernels.cuda_cases import Case, bound, case, oracle
from tests.kernels.cuda_tally_cases import assert_counted

pytestmark = pytest.mark.usefixtures("_poison")

KINDS = ["float16", "bfloat16", "float32"]
FEW = [  # at most three groups of query tokens: a stream of documents for each query
    ([32], [128, 1, 31, 32, 33, 7, 8, 9, 127]),
    ([5], [3, 0, 1025, 2, 0, 2063, 1024]),  # what is long is scored by the block together
    ([33, 1], [40, 0, 17]),
    ([0, 3, 0], [2, 0, 1]),
    ([7], []),
    ([], [4, 4]),
    ([3], [0]),
]
MANY = [  # more of them: one stream of documents
    ([32] * 9, [64, 65, 0, 1, 128, 15, 16, 17]),
    ([1, 32, 40, 0, 65, 7], [0, 130, 0, 3, 200]),
    ([20] * 4, [5] * 70),  # more documents than a block takes
    ([100, 3], [33, 1]),
]
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def arguments(arena, given: Case) -> list[torch.Tensor]:
    return [arena.tensor(a) for a in (given.queries, given.query_offsets, given.documents, given.document_offsets)]


def scores_of(arena, given: Case, only=None) -> np.ndarray:
    with arena:
        positions = None if only is None else arena.tensor(np.asarray(only, np.int64))
        there = arguments(arena, given)
        counts = tally_for(len(given.query_lengths), given.longest, place_of(there[0]))
        scores = dense.maxsim(*there, longest_query=given.longest, only=positions, tally=counts)
    assert_counted(counts, scores.cpu().numpy())
    return scores.cpu().numpy()


def best_of(arena, given: Case) -> tuple[np.ndarray, np.ndarray]:
    with arena:
        scores, argmax = dense.maxsim_argmax(*arguments(arena, given), longest_query=given.longest)
    return scores.cpu().numpy(), argmax.cpu().numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [48, 128])
@pytest.mark.parametrize(("query_lengths", "document_lengths"), FEW + MANY)
def test_whole_numbers_are_exact(rng, arena, query_lengths, document_lengths, dim, kind):
    given = case(rng, query_lengths, document_lengths, dim, kind, whole=True)
    expected, best = oracle(given)
    scores, argmax = best_of(arena, given)
    assert np.array_equal(scores, expected)
    assert np.array_equal(argmax, best)
    assert np.array_equal(scores_of(arena, given), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [16, 64, 80, 96, 128, 384])
@pytest.mark.parametrize(("query_lengths", "document_lengths"), [([33, 4], [40, 0, 5]), ([32, 9, 40], [70, 0, 129])])
def test_unit_vectors_are_within_the_bound(rng, arena, query_lengths, document_lengths, dim, kind):
    given = case(rng, query_lengths, document_lengths, dim, kind)
    expected, _ = oracle(given)
    for scores in (scores_of(arena, given), best_of(arena, given)[0]):
        empty = np.isinf(expected)
        assert np.array_equal(scores[empty], expected[empty])
        assert np.all(np.abs(scores[~empty] - expected[~empty]) <= bound(given))


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_query_that_shared_memory_does_not_hold_at_once(rng, arena, kind):
    """Scored in passes: two or three groups of 384 numbers fit."""
    given = case(rng, [105, 0, 3], [40, 0, 1030, *[2] * 60], 384, kind, whole=True)
    scores, argmax = best_of(arena, given)
    assert np.array_equal(scores, oracle(given)[0])
    assert np.array_equal(argmax, oracle(given)[1])


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=st.data(), lengths=st.lists(st.integers(0, 40), max_size=12), asked=st.lists(st.integers(0, 40), max_size=6))
def test_invariance(arena, kind, data, lengths, asked):
    """To the bit: a score depends on its query and its document alone."""
    given = case(np.random.default_rng(len(lengths)), asked, lengths, 64, kind)
    scores = scores_of(arena, given)
    order = data.draw(st.permutations(range(len(lengths))))
    documents = Ragged(given.documents.float().numpy(), given.document_offsets)
    assert np.array_equal(scores_of(arena, given, order), scores[:, order])
    assert np.array_equal(scores_of(arena, given, [-1, 0, len(lengths)])[:, [0, 2]], nothing(asked))
    taken = documents.take(order)
    permuted = Case(given.queries, torch.from_numpy(taken.values).to(given.documents.dtype), asked, list(taken.lengths))
    assert np.array_equal(scores_of(arena, permuted), scores[:, order])
    first = data.draw(st.integers(0, len(asked)))
    rest = Case(given.queries[sum(asked[:first]) :], given.documents, asked[first:], lengths)
    assert np.array_equal(scores_of(arena, rest), scores[first:])  # though fewer queries may take another kernel
    doubled = Ragged.from_list([np.concatenate([d, d[:1]]) for d in documents], trailing=(64,))
    repeated = Case(given.queries, torch.from_numpy(doubled.values).to(given.documents.dtype), asked, list(doubled.lengths))
    assert np.array_equal(scores_of(arena, repeated), scores)


def nothing(asked: list[int]) -> np.ndarray:
    """What documents without tokens score, twice."""
    return np.array([[-np.inf if n else 0.0] * 2 for n in asked], np.float32).reshape(len(asked), 2)


@pytest.mark.parametrize("asked", [[4], [4] * 5], ids=["few", "many"])
@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_is_handed_on(rng, arena, kind, asked):
    given = case(rng, asked, [9, 1300, 30, 4], 64, kind)
    given.documents[5, 3] = torch.nan
    given.documents[9 + 700, 0] = torch.nan
    scores, argmax = best_of(arena, given)
    assert np.isnan(scores).tolist() == [[True, True, False, False]] * len(asked)
    assert np.array_equal(np.isnan(scores_of(arena, given)), np.isnan(scores))
    assert np.all(argmax[0] == 5)
    assert np.all(argmax[1] == 700)


def test_ties_go_to_the_first_token(rng, arena):
    given = case(rng, [9, 33, 40], [6] * 3, 64, "float16")
    repeated = given.documents.reshape(3, 6, 64).repeat(1, 200, 1).reshape(-1, 64)
    argmax = best_of(arena, Case(given.queries, repeated, given.query_lengths, [1200] * 3))[1]
    assert np.array_equal(argmax, best_of(arena, given)[1])


def test_a_query_longer_than_was_said(rng, arena):
    given = case(rng, [4, 40, 3, 8], [10, 20], 64, "float16")
    expected = scores_of(arena, given)
    with arena:
        scores = dense.maxsim(*arguments(arena, given), longest_query=8).cpu().numpy()
    assert np.isnan(scores[1]).all()
    assert np.array_equal(scores[[0, 2, 3]], expected[[0, 2, 3]])


@pytest.mark.parametrize("offsets", [[0, 900, 5, 30], [-7, 3, 2**62, 1], [5, 5, -(2**62), 30], [40, 41, 42, 43]])
@pytest.mark.parametrize("asked", [[4], [4] * 5], ids=["few", "many"])
def test_wrong_offsets_name_no_row_outside(rng, arena, offsets, asked):
    given = case(rng, asked, [10, 10, 10], 64, "float16")
    tensors = arguments(arena, given)
    tensors[3] = arena.tensor(np.array(offsets))
    low = np.clip(offsets[:-1], 0, 30)
    lengths = np.maximum(np.clip(offsets[1:], 0, 30), low) - low
    rows = [torch.arange(a, a + n) for a, n in zip(low, lengths, strict=True)]
    meant = Case(given.queries, given.documents[torch.cat(rows)], asked, lengths.tolist())
    with arena:
        scores = dense.maxsim(*tensors, longest_query=4).cpu().numpy()
    assert np.array_equal(scores, scores_of(arena, meant))


@pytest.mark.parametrize("asked", [[4], [4] * 5], ids=["few", "many"])
def test_more_elements_than_32_bits_count(rng, emulated, asked):
    """Documents behind the 2^31st number; memory before them is never touched, so none of it is taken."""
    before, dim = 2**24 + 3, 128
    given = case(rng, asked, [20, 0, 30], dim, "float16", whole=True)
    room = np.zeros((before + 50, dim), np.float16)
    room[before:] = given.documents.numpy()
    assert room.size > 2**31
    offsets = torch.from_numpy(given.document_offsets + before)
    with emulated():
        tensors = given.queries, torch.from_numpy(given.query_offsets), torch.from_numpy(room), offsets
        scores = dense.maxsim(*tensors, longest_query=4)
    assert np.array_equal(scores.numpy(), oracle(given)[0])


def gradients(arena, given: Case, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with arena:
        tensors = arguments(arena, given)
        _, argmax = dense.maxsim_argmax(*tensors, longest_query=given.longest)
        found = dense.maxsim_gradients(arena.tensor(grad), argmax, *tensors)
    return tuple(g.float().cpu().numpy() for g in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [48, 160])
@pytest.mark.parametrize(
    ("query_lengths", "document_lengths"),
    [*FEW, *MANY, ([3, 5], [2] * 300)],
)
def test_gradients_of_whole_numbers(rng, arena, query_lengths, document_lengths, dim, kind):
    """Both sums written down from what won, by another way round: scattered, in float64."""
    given = case(rng, query_lengths, document_lengths, dim, kind, whole=True)
    _, best = oracle(given)
    grad = rng.integers(-1, 2, (len(query_lengths), len(document_lengths))).astype(np.float32)
    owner, starts = np.repeat(np.arange(len(query_lengths)), query_lengths), given.document_offsets
    of_queries, of_documents = np.zeros(given.queries.shape), np.zeros(given.documents.shape)
    for d, row in np.argwhere(best >= 0):
        at = starts[d] + best[d, row]
        of_queries[row] += grad[owner[row], d] * given.documents[at].double().numpy()
        of_documents[at] += grad[owner[row], d] * given.queries[row].double().numpy()
    dtype = given.queries.dtype
    got = gradients(arena, given, grad)
    assert np.array_equal(got[0], torch.from_numpy(of_queries).to(dtype).float().numpy())
    assert np.array_equal(got[1], torch.from_numpy(of_documents).to(dtype).float().numpy())


def test_rows_of_no_document_have_no_gradient(rng, arena):
    given = case(rng, [4], [30], 64, "float32", whole=True)
    tensors = arguments(arena, given)
    tensors[3] = arena.tensor(np.array([5, 5, 20]))  # an empty document after five rows, and ten rows after the last
    with arena:
        _, argmax = dense.maxsim_argmax(*tensors, longest_query=4)
        found = dense.maxsim_gradients(arena.tensor(np.ones((1, 2), np.float32)), argmax, *tensors)
    some = Case(given.queries, given.documents[5:20], [4], [15])
    expected = gradients(arena, some, np.ones((1, 1), np.float32))
    assert np.array_equal(found[0].cpu().numpy(), expected[0])
    assert np.array_equal(found[1].cpu().numpy(), np.pad(expected[1], [(5, 10), (0, 0)]))


def test_everything_is_the_same_again(rng, arena):
    given = case(rng, [32, 7, 40], rng.integers(0, 90, 30).tolist(), 96, "bfloat16")
    grad = rng.standard_normal((3, 30)).astype(np.float32)
    first = [*best_of(arena, given), *gradients(arena, given, grad)]
    for one, other in zip(first, [*best_of(arena, given), *gradients(arena, given, grad)], strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["float16", "float32"])
@pytest.mark.parametrize(("query_lengths", "document_lengths"), [FEW[0], FEW[1], FEW[2], *MANY])
def test_the_order_of_threads_changes_nothing(rng, emulated, query_lengths, document_lengths, kind):
    """To the bit; a difference would be a barrier that is missing."""
    given = case(rng, query_lengths, document_lengths, 64, kind)
    grad = rng.standard_normal((len(query_lengths), len(document_lengths))).astype(np.float32)
    arenas = emulated(), emulated(descending=True)
    found = [[scores_of(a, given), *best_of(a, given), *gradients(a, given, grad)] for a in arenas]
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


class TestBadInput:
    """A Python error before anything is launched."""

    @pytest.fixture
    def tensors(self):
        rows = torch.zeros(12, 64, dtype=torch.float16)
        return {
            "queries": rows[:4],
            "query_offsets": torch.tensor([0, 4]),
            "documents": rows,
            "document_offsets": torch.tensor([0, 5, 12]),
        }

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"queries": lambda q: q.float()}, TypeError, "of one type; given float32 and float16"),
            ({"queries": lambda q: q[:, :48].contiguous()}, ValueError, "queries have 48 dimensions and documents 64"),
            ({"documents": lambda d: d.int()}, TypeError, "documents must be float16 or bfloat16 or float32; given int32"),
            ({"documents": lambda d: d[0]}, ValueError, r"documents must have 2 axes; given shape \(64,\)"),
            ({"documents": lambda d: d[:, ::2]}, ValueError, "documents must be contiguous"),
            ({"documents": lambda d: d.reshape(-1)[3:67].reshape(1, 64)}, ValueError, "multiple of 16 bytes"),
            ({"queries": lambda q: q.numpy()}, ValueError, "queries lies in numpy on the CPU and query_offsets in torch"),
            ({"documents": lambda d: d.to("meta")}, ValueError, "takes tensors on CUDA devices; given one on meta"),
            ({"documents": lambda d: d.tolist()}, TypeError, "expected a NumPy or CuPy array or a torch"),
            ({"query_offsets": lambda o: o.int()}, TypeError, "query_offsets must be int64; given int32"),
            ({"document_offsets": lambda o: o[:0]}, ValueError, "document_offsets must have one number more"),
            ({"documents": lambda d: d[:, :40].contiguous(), "queries": lambda q: q[:, :40].contiguous()}, ValueError,
             "the width must be a multiple of 16; given 40. Append zeros"),
        ],
    )  # fmt: skip
    def test_arrays(self, tensors, changes, error, message):
        changed = {name: changes[name](value) if name in changes else value for name, value in tensors.items()}
        with pytest.raises(error, match=message):
            dense.maxsim(**changed, longest_query=4)

    def test_no_device(self, tensors):
        with pytest.raises(
            ValueError, match=r"takes arrays on a CUDA device; given torch on the CPU\. Move them, or use 'auto'"
        ):
            dense.maxsim(**tensors, longest_query=4)

    def test_numbers(self, tensors, emulate):
        with pytest.raises(ValueError, match="longest_query must not be negative; given -1"):
            dense.maxsim(**tensors, longest_query=-1)
        wide = {name: torch.zeros(4, 16384) if "offsets" not in name else value for name, value in tensors.items()}
        from colbert_research.kernels.cuda import launch

        with launch.emulated(emulate(list(dense.KERNELS))), pytest.raises(ValueError, match="has room for about 768"):
            dense.maxsim(**wide, longest_query=4)

    def test_gradients(self, tensors):
        for shapes, message in (((2, 2), r"grad must have shape \(1, 2\)"), ((1, 2), r"argmax must have shape \(2, 4\)")):
            grad, argmax = torch.zeros(shapes), torch.zeros(3, 4, dtype=torch.int32)
            with pytest.raises(ValueError, match=message):
                dense.maxsim_gradients(grad, argmax, **tensors)

    def test_other_kernels(self):
        with pytest.raises(AttributeError, match="the backend cuda has no kernel 'fry'"):
            _ = cuda_backend.fry
