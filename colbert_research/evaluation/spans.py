"""Where a text's tokens stand in it, told from the tokens alone, whichever tokenizer made them."""

import unicodedata
from collections.abc import Sequence
from functools import cache

Span = tuple[int, int]
GAP = 120
"""Characters between two tokens that follow each other: what was cut, pooled or masked away between them."""


def spans_of(tokens: Sequence[str], text: str) -> list[Span | None]:
    """For each token its characters `(start, stop)` in the text; None for one that does not stand there, such as [CLS].

    `tokens`: word pieces (`##ing`), sentence pieces (`▁the`), byte-level ones (`Ġthe`) or words, in the order of the text; they
    may differ in case, accents and compatibility forms. Where some are missing, the first place that fits is taken.
    """
    folded, origin = [], []
    for place, character in enumerate(text):
        for part in _folded(character):
            folded.append(part)
            origin.append(place)
    plain, spans, start = "".join(folded), list[Span | None](), 0
    for surface in _surfaces(tokens):
        wanted = "".join(map(_folded, surface)).strip()
        found = plain.find(wanted, start, start + GAP + len(wanted)) if wanted else -1
        if found < 0:
            spans.append(None)
            continue
        start = found + len(wanted)
        spans.append((origin[found], origin[start - 1] + 1))
    return spans


@cache
def _folded(character: str) -> str:
    """A character without case, accent or compatibility form."""
    return "".join(c for c in unicodedata.normalize("NFKD", character.casefold()) if not unicodedata.combining(c))


def _surfaces(tokens: Sequence[str]) -> list[str]:
    """What each token stands for, without the signs by which tokenizers tell where words begin."""
    if any(token.startswith("Ġ") for token in tokens):
        return [_decoded(token) for token in tokens]
    return [token[2:] if token.startswith("##") and len(token) > 2 else token.replace("▁", " ") for token in tokens]


def _decoded(token: str) -> str:
    """The text of a byte-level token, each of whose characters stands for a byte (GPT-2's table)."""
    table = _bytes()
    return bytes(table[c] for c in token if c in table).decode(errors="ignore")


@cache
def _bytes() -> dict[str, int]:
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
