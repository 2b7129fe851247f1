"""Why a document was found: which of its tokens answers which token of the query."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

MOST_TOKENS = 40
"""Of documents with more tokens, a figure shows those alone that are matched: more could not be read."""
WIDTH = 3.8
"""Inches of a figure: what a phone shows without making it smaller."""


def matches(query: NDArray[np.float32], document: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each query token the position of the document token most similar to it, and their similarity; both `(n,)`."""
    similarities = np.asarray(query, np.float32) @ np.asarray(document, np.float32).T
    positions = similarities.argmax(axis=1)
    return positions, similarities[np.arange(len(positions)), positions]


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

    positions, similarities = matches(query, document)
    return pd.DataFrame(
        {
            "query_token": list(query_tokens),
            "document_token": [document_tokens[p] for p in positions],
            "position": positions,
            "similarity": similarities,
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
    """A matplotlib figure of similarities, query tokens across, document tokens down, the matched ones ringed.

    Of a document of more than `MOST_TOKENS` tokens only those that are matched are shown. It is `WIDTH` inches wide.
    """
    from matplotlib.figure import Figure

    similarities = np.asarray(document, np.float32) @ np.asarray(query, np.float32).T
    matched = similarities.argmax(axis=0)
    total, columns = similarities.shape
    rows = np.arange(total) if total <= MOST_TOKENS else np.unique(matched)
    shown, size = similarities[rows], min(8.0, 180 / columns)
    heading = textwrap.wrap(title or f"MaxSim {similarities.max(axis=0).sum():.2f}", 52)
    figure = Figure(figsize=(WIDTH, 1.7 + 0.14 * len(heading) + 0.18 * len(rows)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shown, aspect="auto", cmap="Blues", vmin=max(0.0, float(shown.min())), vmax=1.0)
    ringed = np.arange(columns), np.searchsorted(rows, matched)
    axes.scatter(*ringed, s=5 * size, facecolors="none", edgecolors="white", linewidths=3)  # seen on dark cells in grey, too
    axes.scatter(*ringed, s=5 * size, facecolors="none", edgecolors="crimson", linewidths=1.2)
    axes.set_xticks(np.arange(columns), [_plain(token) for token in query_tokens], rotation=90, fontsize=size)
    axes.set_yticks(np.arange(len(rows)), [_plain(document_tokens[row]) for row in rows.tolist()], fontsize=8)
    axes.xaxis.tick_top()
    axes.set_ylabel(f"document tokens: {'all' if len(rows) == total else 'matched ones'}", fontsize=8)
    figure.suptitle(_plain("\n".join(heading)), fontsize=8, x=0.02, ha="left")
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.7, aspect=40)
    bar.set_label("cosine", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _plain(text: str) -> str:
    """A text as matplotlib shows it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
