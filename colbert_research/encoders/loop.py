"""The one loop that turns texts into packed token vectors, shared by all encoders with a neural network.

Texts are tokenised once, in blocks; within a block they are sorted by their exact length and cut into batches of a bounded
number of padded tokens; what the model's own mask keeps is written straight to its position in the packed result. Batches
depend on the texts and the settings only, so the same call gives the same bytes.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from colbert_research.encoders.base import TokenVectors
from colbert_research.progress import advance
from colbert_research.ragged import Ragged, offsets_of, rows_of

if TYPE_CHECKING:
    import torch

Task = Literal["query", "document"]
BLOCK = 1024  # texts tokenised at once: bounds the memory of their padded ids


def encode(model: Any, texts: Sequence[str], *, task: Task, prompt: str | None, batch_tokens: int, dim: int) -> TokenVectors:
    """Token vectors of `texts`, in their order, from a `MultiVectorEncoder`.

    float32 vectors `(n_tokens, dim)` and int32 token ids, expansion tokens included, for the tokens that `model` scores.
    Memory: the result, one block of token ids and one batch.
    """
    import torch

    if not texts:
        return TokenVectors.empty(dim)
    lengths = np.zeros(len(texts), np.int64)
    parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int32]]] = []
    with torch.inference_mode():
        for items, features in _batches(model, texts, task=task, prompt=prompt, batch_tokens=batch_tokens):
            ids = features["input_ids"]
            moved = {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in features.items()}
            output = model(moved, task=task)
            kept = output["attention_mask"].bool()
            vectors = output["token_embeddings"][kept]
            lengths[items] = kept.sum(dim=1).cpu().numpy()
            parts.append((items, vectors.cpu().numpy(), ids[kept.cpu()].to(torch.int32).numpy()))
            advance(len(items))
    offsets = offsets_of(lengths)
    values = np.empty((int(offsets[-1]), dim), np.float32)
    token_ids = np.empty(int(offsets[-1]), np.int32)
    while parts:  # each part is freed once it lies in its place
        items, vectors_of, ids_of = parts.pop()
        rows = rows_of(offsets, items)
        values[rows], token_ids[rows] = vectors_of, ids_of
    return TokenVectors(Ragged(values, offsets), Ragged(token_ids, offsets))


def _batches(
    model: Any, texts: Sequence[str], *, task: Task, prompt: str | None, batch_tokens: int
) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
    """`(positions of the texts, features)` of each batch, longest texts first, so that memory runs out at once or never."""
    import torch

    characters = np.fromiter((len(text) for text in texts), np.int64, len(texts))
    by_characters = np.lexsort((np.arange(len(texts)), -characters))
    for first in range(0, len(texts), BLOCK):
        block = by_characters[first : first + BLOCK]
        features = dict(model.preprocess([texts[i] for i in block], prompt=prompt, task=task))
        used = features["attention_mask"].bool()
        if "query_expansion_positions" in features:
            used = used | features["query_expansion_positions"].bool()
        widths = used.sum(dim=1).numpy()
        order = np.lexsort((block, -widths))
        for rows in _cut(order, widths, batch_tokens):
            chosen = torch.from_numpy(rows)
            columns = used[chosen].any(dim=0).nonzero().flatten()
            span = slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 1)
            yield block[rows], {key: _part(value, chosen, span, used.shape) for key, value in features.items()}


def _cut(order: NDArray[np.int64], widths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Pieces of `order` (descending widths) of at most `batch_tokens` padded tokens; a longer text is a piece of its own."""
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(widths[order[start]])))
        yield order[start : start + rows]
        start += rows


def _part(value: Any, rows: "torch.Tensor", span: slice, shape: "torch.Size") -> Any:
    """Rows and columns of a padded `(texts, width)` tensor; anything else as it is."""
    import torch

    return value[rows, span] if torch.is_tensor(value) and value.shape == shape else value
