"""MaxSim in torch: gradients against torch's own in float64, the registered operations, and, on a GPU, a captured graph."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from colbert_research.kernels.cuda import autograd
from tests.kernels.conftest import WHERE
from tests.kernels.cuda_cases import Case, case, oracle

pytestmark = pytest.mark.usefixtures("_poison")
SHAPES = [([3, 1, 5], [4, 0, 9, 2]), ([20, 33], [40, 7]), ([8] * 6, [30, 1, 0])]


def placed(arena, given: Case, *, grad: bool) -> list[torch.Tensor]:
    values = [arena.tensor(values).clone().requires_grad_(grad) for values in (given.queries, given.documents)]
    return [values[0], arena.tensor(given.query_offsets), values[1], arena.tensor(given.document_offsets)]


def plain(queries, query_offsets, documents, document_offsets) -> torch.Tensor:
    """MaxSim by torch's own operations, a pair at a time; documents without tokens are left out, as their gradient is none."""
    similarities = queries @ documents.T
    rows = []
    for q in range(len(query_offsets) - 1):
        part = similarities[query_offsets[q] : query_offsets[q + 1]]
        pairs = pairwise(document_offsets)
        rows.append(torch.stack([part[:, a:b].max(dim=1).values.sum() if b > a else part.new_zeros(()) for a, b in pairs]))
    return torch.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("query_lengths", "document_lengths"), SHAPES)
def test_gradients_are_torchs(rng, arena, query_lengths, document_lengths, kind):
    given = case(rng, query_lengths, document_lengths, 64, kind)
    weights = arena.tensor(rng.standard_normal((len(query_lengths), len(document_lengths))).astype(np.float32))
    weights[:, [n == 0 for n in document_lengths]] = 0  # minus infinity times zero is not a number; nobody sums it
    tensors = placed(arena, given, grad=True)
    with arena:
        scores = autograd.maxsim(*tensors, longest_query=given.longest)
        torch.where(weights == 0, 0, scores).mul(weights).sum().backward()
    exact = [t.detach().double().cpu().requires_grad_(t.requires_grad) for t in tensors]
    (plain(exact[0], given.query_offsets, exact[2], given.document_offsets) * weights.double().cpu()).sum().backward()
    # each number is a sum of at most n products of weights and numbers below one, in float32, then rounded to the type
    n = max(sum(query_lengths), len(document_lengths))
    for got, expected in ((tensors[0].grad, exact[0].grad), (tensors[2].grad, exact[2].grad)):
        assert got.dtype == given.queries.dtype
        error = (got.double().cpu() - expected).abs()
        largest = n * float(weights.abs().max())
        assert torch.all(error <= torch.finfo(got.dtype).eps / 2 * expected.abs() + n * 2.0**-24 * largest + 2.0**-25)


def test_what_has_no_tokens_has_no_part(rng, arena):
    given = case(rng, [3, 0, 2], [0, 5, 0], 64, "float32", whole=True)
    tensors = placed(arena, given, grad=True)
    with arena:
        scores = autograd.maxsim(*tensors, longest_query=3)
        scores.sum().backward()  # minus infinities and all
    assert np.array_equal(scores.detach().cpu().numpy(), oracle(given)[0])
    ones = torch.ones(len(given.queries), 1)
    best = torch.from_numpy(oracle(given)[1][1])
    assert torch.equal(tensors[0].grad.cpu(), given.documents[best] * ones)
    expected = torch.zeros_like(given.documents).index_add(0, best, given.queries)
    assert torch.equal(tensors[2].grad.cpu(), expected)


def test_no_argmax_without_gradients(rng, arena, monkeypatch):
    given = case(rng, [3, 2], [4, 5], 64, "float16")
    monkeypatch.setattr(autograd.dense, "maxsim_argmax", lambda *_, **__: pytest.fail("computed for nothing"))
    with arena:
        autograd.maxsim(*placed(arena, given, grad=False), longest_query=3)
        with torch.no_grad():
            autograd.maxsim(*placed(arena, given, grad=True), longest_query=3)


@pytest.mark.parametrize("operation", ["maxsim", "maxsim_argmax"])
def test_the_operations_are_registered_whole(rng, arena, operation):
    """Schema, fake results, autograd and tracing with symbolic shapes, by torch's own check."""
    given = case(rng, [3, 2], [4, 0, 5], 64, "float32")
    tensors = placed(arena, given, grad=operation == "maxsim_argmax")
    with arena:
        torch.library.opcheck(getattr(torch.ops.colbert_research, operation).default, (*tensors, 3))


@pytest.mark.gpu
@pytest.mark.skipif(len(WHERE) < 2, reason="needs a CUDA device, torch for CUDA, and CuPy")
def test_inside_a_captured_graph(rng, arena, gpu):
    """Replayed on other numbers, forward and backward are what they are outside."""
    if "cuda" not in str(arena.tensor(np.zeros(1)).device):
        pytest.skip("graphs are captured on a GPU")
    first, second = (case(rng, [8] * 6, [30, 1, 0, 200], 64, "float16") for _ in range(2))
    tensors = placed(arena, first, grad=True)
    weights = torch.rand(6, 4, device=tensors[0].device)

    def step(inputs):
        scores = autograd.maxsim(*inputs, longest_query=8)
        return [scores.detach(), *torch.autograd.grad(scores, [inputs[0], inputs[2]], weights)]

    step(tensors)  # loads the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(tensors)
    with torch.no_grad():
        tensors[0].copy_(second.queries)
        tensors[2].copy_(second.documents)
    graph.replay()
    for got, expected in zip(captured, step(placed(arena, second, grad=True)), strict=True):
        assert torch.equal(got, expected)
