"""MaxSim that torch can differentiate and compile: `torch.ops.colbert_research.maxsim`, for tensors on a CUDA device.

Importing this module registers the operations. Forward keeps which token was best; backward is deterministic, without atomics.
"""

from typing import Any

import torch
from torch import Tensor

from colbert_research.kernels.cuda import dense


def maxsim(
    queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor, *, longest_query: int
) -> Tensor:
    """MaxSim of every query with every document: `(n_queries, n_documents)` float32, with gradients for both.

    Arguments as for `dense.maxsim`. A document without tokens scores minus infinity and has no part in any gradient; of tied
    tokens the first takes all. Under `torch.cuda.graph`, call it once before the capture, so that its kernels are loaded.
    """
    tensors = (queries, query_offsets, documents, document_offsets)
    if torch.is_grad_enabled() and (queries.requires_grad or documents.requires_grad):
        return _maxsim_argmax(*tensors, longest_query)[0]
    return _maxsim(*tensors, longest_query)


@torch.library.custom_op("colbert_research::maxsim", mutates_args=())
def _maxsim(queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor, longest_query: int) -> Tensor:
    scores: Tensor = dense.maxsim(queries, query_offsets, documents, document_offsets, longest_query=longest_query)
    return scores


@torch.library.custom_op("colbert_research::maxsim_argmax", mutates_args=())
def _maxsim_argmax(
    queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor, longest_query: int
) -> tuple[Tensor, Tensor]:
    return dense.maxsim_argmax(queries, query_offsets, documents, document_offsets, longest_query=longest_query)


@torch.library.custom_op("colbert_research::maxsim_gradients", mutates_args=())
def _gradients(
    grad: Tensor, argmax: Tensor, queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    return dense.maxsim_gradients(grad, argmax, queries, query_offsets, documents, document_offsets)


@_maxsim.register_fake
def _(queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor, longest_query: int) -> Tensor:
    return queries.new_empty((len(query_offsets) - 1, len(document_offsets) - 1), dtype=torch.float32)


@_maxsim_argmax.register_fake
def _(
    queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor, longest_query: int
) -> tuple[Tensor, Tensor]:
    scores = queries.new_empty((len(query_offsets) - 1, len(document_offsets) - 1), dtype=torch.float32)
    return scores, queries.new_empty((len(document_offsets) - 1, len(queries)), dtype=torch.int32)


@_gradients.register_fake
def _(
    grad: Tensor, argmax: Tensor, queries: Tensor, query_offsets: Tensor, documents: Tensor, document_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(queries), torch.empty_like(documents)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs[:4])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
    argmax, queries, query_offsets, documents, document_offsets = ctx.saved_tensors
    of_queries, of_documents = _gradients(grad.contiguous(), argmax, queries, query_offsets, documents, document_offsets)
    return of_queries, None, of_documents, None, None


_maxsim_argmax.register_autograd(_differentiate, setup_context=_keep)
