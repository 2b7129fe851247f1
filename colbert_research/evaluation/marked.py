"""A document's own text with the tokens marked that answer a query: why it has the score that it has."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from colbert_research.evaluation.alignment import matches
from colbert_research.evaluation.spans import Span, spans_of

LONG, AROUND = 2000, 100
"""Of a text of more than LONG characters, AROUND are shown on each side of what is marked."""
_COLUMNS = 100
_BOX = "max-width:42em;line-height:1.8;overflow-wrap:anywhere;text-align:left"
_MARK = "color:inherit;border-radius:.2em;padding:.05em .1em;background:rgba(255,149,0,{:.2f})"


class Piece(NamedTuple):
    """A piece of text; `answers`: the query tokens, numbered from 1, that it is the best match of."""

    text: str
    answers: tuple[int, ...] = ()
    similarity: float = 0.0


@dataclass(frozen=True)
class Marked:
    """See `mark`: in a notebook HTML without scripts, anywhere else plain text.

    `positions`, `similarities`: for each query token, the document token that it is matched with, and how similar they are.
    `spans`: of the document's tokens in its `text`.
    """

    text: str
    query: str
    title: str
    query_tokens: tuple[str, ...]
    document_tokens: tuple[str, ...]
    positions: tuple[int, ...]
    similarities: tuple[float, ...]
    spans: tuple[Span | None, ...]

    @property
    def score(self) -> float:
        """MaxSim: the sum of the similarities."""
        return sum(self.similarities)

    def pieces(self) -> list[Piece]:
        """The text up to its last token, with the matched tokens as pieces of their own; those that do not stand in it, such as
        [CLS], after the token before them."""
        found, cursor, end = list[Piece](), 0, 0
        for position, span in enumerate(self.spans):
            answers = tuple(i for i, matched in enumerate(self.positions, 1) if matched == position)
            start, stop = span or (end, end)
            if answers:
                start = max(start, cursor)
                found += [Piece(self.text[cursor:start])] if start > cursor else []
                shown = self.text[start:stop] if span else self.document_tokens[position]
                piece = Piece(shown, answers, max(self.similarities[i - 1] for i in answers))
                found += [piece] if span else [Piece(" "), piece, Piece(" ")]
                cursor = max(stop, cursor)
            end = max(stop, end)
        return [*found, Piece(self.text[cursor:end])] if end > cursor else found

    @property
    def rest(self) -> str:
        """The text behind the last token: what the encoder cut off, or a pooler left out."""
        return self.text[max((span[1] for span in self.spans if span), default=0) :]

    def _words(self) -> Iterator[list[Piece]]:
        """The pieces, long texts shortened; marked ones that follow each other without a space are together."""
        pieces, long = self.pieces(), len(self.text) > LONG
        together: list[Piece] = []
        for i, piece in enumerate(pieces):
            if piece.answers:
                together.append(piece)
                continue
            if together:
                yield together
            together = []
            yield [Piece(_shortened(piece.text, i > 0, i + 1 < len(pieces)))] if long else [piece]
        if together:
            yield together

    def _rest(self) -> tuple[str, str]:
        """The rest, shortened where the text is long, and what to say of it, where it is more than punctuation."""
        rest = _shortened(self.rest, True, False) if len(self.text) > LONG else self.rest
        return rest, " (not in the index)" if any(map(str.isalnum, rest)) else ""

    def _repr_html_(self) -> str:
        body = []
        for pieces in self._words():
            body += [_shaded(p.text, p.similarity) if p.answers else escape(p.text) for p in pieces]
            body += [_raised(numbers)] if (numbers := _numbers(pieces)) else []
        rest, note = self._rest()
        body.append(f'<span style="opacity:.6">{escape(rest)}<small>{note}</small></span>' if rest.strip() else "")
        chips = [
            f'<span style="display:inline-block;margin-right:1em">{_raised(str(i))} {escape(token)} → '
            f"{_shaded(self.document_tokens[position], similarity)} {similarity:.2f}</span>"
            for i, (token, position, similarity) in enumerate(self._matches(), 1)
        ]
        parts = [
            f"<div><b>MaxSim {self.score:.2f}</b> &nbsp;document {escape(self.title)}</div>",
            f"<div><i>{escape(self.query)}</i></div>",
            f'<div style="margin:.5em 0;white-space:pre-line">{"".join(body)}</div>',
            f'<div style="font-size:.9em">{" ".join(chips)}</div>',
        ]
        return f'<div class="tex2jax_ignore mathjax_ignore" style="{_BOX}">{"".join(parts)}</div>'

    def __repr__(self) -> str:
        words = []
        for pieces in self._words():
            shown, numbers = "".join(p.text for p in pieces), _numbers(pieces)
            words.append(f"[{shown} {numbers}]" if numbers else shown)
        width = max(map(len, self.query_tokens))
        return "\n".join(
            [
                f"MaxSim {self.score:.2f}  document {self.title}",
                *textwrap.wrap(self.query, _COLUMNS),
                "",
                *textwrap.wrap("".join([*words, *self._rest()]).strip(), _COLUMNS),
                "",
                *(
                    f"{i:3} {token:{width}}  {similarity:.2f}  {self.document_tokens[position]}"
                    for i, (token, position, similarity) in enumerate(self._matches(), 1)
                ),
            ]
        )

    def _matches(self) -> Iterator[tuple[str, int, float]]:
        return zip(self.query_tokens, self.positions, self.similarities, strict=True)


def mark(
    query: NDArray[np.float32],
    document: NDArray[np.float32],
    *,
    query_tokens: Sequence[str],
    document_tokens: Sequence[str],
    text: str,
    query_text: str = "",
    title: str = "",
) -> Marked:
    """The `text` of a document with the tokens marked that the query's tokens are matched with, the deeper the more similar.

    `query` `(n, dim)`, `document` `(m, dim)`: token vectors. A number says which of the query's tokens a mark answers. What
    stands behind the last token is faint: it is not in the index. Of a text of more than `LONG` characters only the
    surroundings of the marks are shown.
    """
    positions, similarities = matches(query, document)
    return Marked(
        text,
        query_text,
        title,
        tuple(query_tokens),
        tuple(document_tokens),
        tuple(positions.tolist()),
        tuple(similarities.tolist()),
        tuple(spans_of(document_tokens, text)),
    )


def _numbers(pieces: Sequence[Piece]) -> str:
    """Which query tokens some pieces answer."""
    return ",".join(map(str, sorted(i for piece in pieces for i in piece.answers)))


def _shaded(text: str, similarity: float) -> str:
    """A mark that leaves the colour of the text, so that it can be read on a light page and on a dark one."""
    return f'<mark style="{_MARK.format(0.1 + 0.45 * min(1.0, max(0.0, similarity)))}">{escape(text)}</mark>'


def _raised(numbers: str) -> str:
    return f'<sup style="line-height:0">{numbers}</sup>'


def _shortened(text: str, after: bool, before: bool) -> str:
    """The surroundings of marks: the beginning of a text `after` one, its end `before` one, cut between words."""
    if len(text) <= 3 * AROUND:
        return text
    head = text[:AROUND].rpartition(" ")[0] if after else ""
    tail = text[-AROUND:].partition(" ")[2] if before else ""
    return f"{head} […] {tail}"
