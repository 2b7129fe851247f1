"""Why a document was found: which of its tokens answers which token of the query."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def align(
    query: NDArray[np.float32],
    document: NDArray[np.float32],
    *,
    query_tokens: Sequence[str],
    document_tokens: Sequence[str],
) -> "pd.DataFrame":
    """For each query token the document token it is matched with: query_token, document_token, position, similarity.

    `query` `(n, dim)`, `document` `(m, dim)`: token vectors. The similarities sum to the MaxSim score.
    """
    import pandas as pd

    similarities = np.asarray(query, np.float32) @ np.asarray(document, np.float32).T
    positions = similarities.argmax(axis=1)
    return pd.DataFrame(
        {
            "query_token": list(query_tokens),
            "document_token": [document_tokens[p] for p in positions],
            "position": positions,
            "similarity": similarities[np.arange(len(positions)), positions],
        }
    )


def plot_alignment(
    query: NDArray[np.float32],
    document: NDArray[np.float32],
    *,
    query_tokens: Sequence[str],
    document_tokens: Sequence[str],
    title: str = "",
) -> Any:
    """A matplotlib figure of all similarities, query tokens down, document tokens across, the matched ones ringed."""
    from matplotlib.figure import Figure

    similarities = np.asarray(query, np.float32) @ np.asarray(document, np.float32).T
    rows, columns = similarities.shape
    figure = Figure(figsize=(min(22.0, 2.5 + 0.2 * columns), 1.8 + 0.24 * rows), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(similarities, aspect="auto", cmap="Blues", vmin=max(0.0, float(similarities.min())), vmax=1.0)
    axes.scatter(similarities.argmax(axis=1), np.arange(rows), s=46, facecolors="none", edgecolors="crimson", linewidths=1.4)
    axes.set_xticks(np.arange(columns), [_plain(token) for token in document_tokens], rotation=90, fontsize=7)
    axes.set_yticks(np.arange(rows), [_plain(token) for token in query_tokens], fontsize=8)
    axes.set_xlabel("document tokens")
    axes.set_ylabel("query tokens")
    axes.set_title(_plain(title) or f"MaxSim {similarities.max(axis=1).sum():.2f}", fontsize=10, loc="left", wrap=True)
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
    return figure


def _plain(text: str) -> str:
    """A text as matplotlib shows it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
