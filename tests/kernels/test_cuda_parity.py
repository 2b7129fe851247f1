"""The suites of all backends, for the operations of the backend `cuda` beside MaxSim."""

import pytest

from colbert_research.kernels.cuda import interaction, products, topk
from tests.kernels.cuda_arenas import arena_of
from tests.kernels.test_invariance import test_assign_takes_the_smaller_of_tied_ids as check_ties
from tests.kernels.test_parity import SHAPES
from tests.kernels.test_parity import TestParity as _Parity

arena = arena_of([*topk.KERNELS, *interaction.KERNELS, *products.KERNELS])


@pytest.mark.parametrize("operation", ["dot_products", "centroid_interaction", "assign"])
@pytest.mark.parametrize(("query_lengths", "document_lengths", "dim"), SHAPES)
def test_parity(rng, arena, operation, query_lengths, document_lengths, dim):
    with arena:
        getattr(_Parity(), f"test_{operation}")(rng, "cuda", query_lengths, document_lengths, dim)


def test_ties(arena):
    with arena:
        check_ties("cuda")
