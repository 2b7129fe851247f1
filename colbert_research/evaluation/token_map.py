"""The similarities of all tokens of a query and a document as a table to point at: hovering shows each value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from colbert_research.evaluation.alignment import MOST_TOKENS

AROUND = 2
"""Of a document of more than `MOST_TOKENS` tokens, so many are shown on each side of one that is matched."""
_TABLE = "border-collapse:collapse;font-size:12px;line-height:1.25;width:auto;margin:.4em 0"
_NAME = "font-weight:normal;white-space:nowrap"
_QUERY = f"{_NAME};writing-mode:vertical-rl;transform:rotate(180deg);padding:.2em 0;text-align:left"
_ROW = "background:transparent"
_TOKEN = f"{_NAME};padding:0 .5em 0 0;text-align:right"
_CELL = "width:1.35em;min-width:1.35em;height:1.35em;padding:0;background:rgba(31,119,180,{:.2f})"
_MATCHED = ";outline:2px solid crimson;outline-offset:-2px"


@dataclass(frozen=True, eq=False)
class TokenMap:
    """See `token_map`; HTML without scripts in a notebook, and a line of text anywhere else.

    `similarities` `(n_document_tokens, n_query_tokens)` float32.
    """

    similarities: NDArray[np.float32]
    query_tokens: tuple[str, ...]
    document_tokens: tuple[str, ...]
    title: str = ""

    @property
    def matched(self) -> NDArray[np.int64]:
        """For each query token the document token that is most similar to it, the first of several."""
        return self.similarities.argmax(axis=0)

    @property
    def shown(self) -> NDArray[np.int64]:
        """The document tokens that are shown, ascending: all of them, or those near a matched one."""
        total = len(self.document_tokens)
        if total <= MOST_TOKENS:
            return np.arange(total)
        near = np.unique(self.matched[:, None] + np.arange(-AROUND, AROUND + 1))
        return near[(near >= 0) & (near < total)]

    @property
    def score(self) -> float:
        """MaxSim: the sum of the greatest similarity of each query token."""
        return float(self.similarities.max(axis=0).sum())

    def __repr__(self) -> str:
        tokens = f"{len(self.query_tokens)} query tokens, {len(self.shown)} of {len(self.document_tokens)} document tokens"
        return f"TokenMap({tokens}, MaxSim {self.score:.2f}{', ' if self.title else ''}{self.title})"

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_QUERY}">{escape(token)}</th>' for token in self.query_tokens)
        total, shown = len(self.document_tokens), len(self.shown)
        told = "" if shown == total else f" <small>({shown} of {total} document tokens: those near a match)</small>"
        return (
            '<div class="tex2jax_ignore mathjax_ignore">'
            f"<div><b>MaxSim {self.score:.2f}</b> &nbsp;{escape(self.title)}{told}</div>"
            f'<div style="overflow-x:auto"><table style="{_TABLE}"><tr style="vertical-align:bottom"><th></th>{head}</tr>'
            f"{''.join(self._rows())}</table></div></div>"
        )

    def _rows(self) -> Iterator[str]:
        matched, before = self.matched, -1
        for place in self.shown.tolist():
            if place > before + 1:
                yield self._gap()
            cells = "".join(self._cell(place, column, matched[column] == place) for column in range(len(self.query_tokens)))
            yield f'<tr style="{_ROW}"><th style="{_TOKEN}">{escape(self.document_tokens[place])}</th>{cells}</tr>'
            before = place
        if before + 1 < len(self.document_tokens):
            yield self._gap()

    def _gap(self) -> str:
        return f'<tr style="{_ROW}"><th style="{_TOKEN}">…</th><td colspan="{len(self.query_tokens)}"></td></tr>'

    def _cell(self, place: int, column: int, matched: bool) -> str:
        value = float(self.similarities[place, column])
        said = f"{self.query_tokens[column]} · {self.document_tokens[place]} (token {place}): {value:.3f}"
        said += ", the best match" if matched else ""
        style = _CELL.format(min(1.0, max(0.0, value))) + (_MATCHED if matched else "")
        return f'<td style="{style}" title="{escape(said)}"></td>'


def token_map(
    query: NDArray[np.float32],
    document: NDArray[np.float32],
    *,
    query_tokens: Sequence[str],
    document_tokens: Sequence[str],
    title: str = "",
) -> TokenMap:
    """Similarities of the tokens of a query, across, and of a document, down, the deeper the greater, matched ones outlined.

    `query` `(n, dim)`, `document` `(m, dim)`: token vectors. Of a document of more than `MOST_TOKENS` tokens those near a
    matched one are shown. Raises ValueError where a token has no name, or a name no token.
    """
    similarities = np.asarray(document, np.float32) @ np.asarray(query, np.float32).T
    if similarities.shape != (len(document_tokens), len(query_tokens)) or not similarities.size:
        raise ValueError(
            f"expected at least one vector of query and document, and a name for each; given {similarities.shape[1]} and "
            f"{similarities.shape[0]} vectors, {len(query_tokens)} and {len(document_tokens)} names"
        )
    return TokenMap(similarities, tuple(query_tokens), tuple(document_tokens), title)
