"""Passages: a long text cut by sentences into overlapping pieces that an encoder takes whole, each with its place in the text.

Cuts are offsets into the text and never change it, so that the passages give it back (`rebuilt`).
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Starts = Callable[[str], NDArray[np.int64]]
"""Where the word pieces of a text start: ascending character offsets `(n_pieces,)`."""

OVERLAP_SHARE, OVERLAP_MOST = 4, 64
_CLOSING = "\"'”’»›)\\]}」』）】〉》"
_SENTENCE_END = re.compile(
    rf"(?<![.!?…])[.!?…]++[{_CLOSING}]*+(?P<blank>\s++)"  # of scripts that write a blank after it
    r"|(?<=[a-z]{2}[.!?])(?=[A-Z][a-z])"  # paragraphs run together, as in texts taken from web pages
    rf"|(?<![。！？｡])[。！？｡।॥۔]++[{_CLOSING}]*+\s*+"
    r"|\n[ \t\r\f\v]*+\n\s*+"  # a blank line
)
_WORD_START = re.compile(r"(?<=\s)\S")
_NO_END = re.compile(r"(?:^|[\s(\[“\"'])(?:[A-Za-z]|Mrs?|Ms|Dr|Prof|Sr|Jr|St|vs|cf|No|Fig|Eq|Sec|approx|e\.g|i\.e)\.\Z")


@dataclass(frozen=True)
class Passage:
    """A piece of a text: `text[start:end]` in characters; both None where a splitter gave what is not in the text."""

    text: str
    start: int | None = None
    end: int | None = None


def split(text: str, *, starts: Starts, max_pieces: int, overlap: int | None = None) -> list[Passage]:
    """Passages of whole sentences, each of at most `max_pieces` word pieces when it is tokenised by itself.

    A passage begins with the last sentences of the one before, as many as have at most `overlap` pieces; None means a quarter
    of `max_pieces`, 64 at most (RAGatouille's rule). A sentence that is too long is cut between words, a word between word
    pieces, and a piece never. Every character is in a passage; an empty text has none. Raises ValueError for numbers that do
    not fit each other.
    """
    overlap = min(max_pieces // OVERLAP_SHARE, OVERLAP_MOST) if overlap is None else overlap
    if max_pieces < 1 or not 0 <= overlap < max_pieces:
        raise ValueError(f"expected 1 <= max_pieces and 0 <= overlap < max_pieces; given {max_pieces} and {overlap}")
    if not text:
        return []
    pieces: list[int] = starts(text).tolist()
    cuts = [*_sentence_starts(text), len(text)]
    before = [bisect_left(pieces, cut) for cut in cuts]  # pieces before each cut
    found: list[Passage] = []
    first, done = 0, 0  # cuts: where the next passage starts, and where the last one ended
    while done < len(cuts) - 1:
        last = max(bisect_right(before, before[first] + max_pieces) - 1, first + 1)
        while (excess := len(starts(text[cuts[first] : cuts[last]])) - max_pieces) > 0 and last > first + 1:
            last = max(min(bisect_right(before, before[last] - excess) - 1, last - 1), first + 1)
        if excess > 0 and (finer := _cuts_within(text, cuts[first], cuts[last], pieces)):
            cuts[last:last] = finer
            before[last:last] = [bisect_left(pieces, cut) for cut in finer]
            continue
        if last <= done:  # nothing new fits behind so long an overlap
            first += 1
            continue
        found.append(Passage(text[cuts[first] : cuts[last]], cuts[first], cuts[last]))
        earliest = bisect_left(before, before[last] - overlap)
        first, done = min(max(earliest, first + 1), last), last
    return found


def rebuilt(passages: Sequence[Passage]) -> str:
    """The text that passages were cut from, in any order. Raises ValueError where a part of it is in none of them."""
    text, parts = 0, []
    for each in sorted(passages, key=lambda passage: -1 if passage.start is None else passage.start):
        if each.start is None or each.end is None or each.start > text:
            raise ValueError(f"these passages do not cover their text: nothing is known of what follows character {text}")
        if each.end > text:
            parts.append(each.text[text - each.start :])
            text = each.end
    return "".join(parts)


def located(text: str, contents: Iterable[str]) -> list[Passage]:
    """What another splitter made of a text, with the place of each in it, searched for from the start of the one before."""
    found, start = list[Passage](), 0
    for content in contents:
        place = text.find(content, start)
        if place < 0:
            place = text.find(content)
        found.append(Passage(content) if place < 0 else Passage(content, place, place + len(content)))
        start = max(place + 1, start)
    return found


def _sentence_starts(text: str) -> list[int]:
    found = [0]
    for match in _SENTENCE_END.finditer(text):
        if match["blank"] is not None and "\n" not in match["blank"] and _goes_on(text, match.start(), match.end()):
            continue
        if match.end() < len(text):
            found.append(match.end())
    return found


def _goes_on(text: str, stop: int, start: int) -> bool:
    """Whether a sentence goes on after a full stop: behind an initial or an abbreviation, and before a small letter."""
    return text[start : start + 1].islower() or _NO_END.search(text[max(stop - 8, 0) : stop + 1]) is not None


def _cuts_within(text: str, start: int, end: int, pieces: Sequence[int]) -> list[int]:
    """The starts of words inside a part of a text; of word pieces, where it is one word."""
    if words := [match.start() for match in _WORD_START.finditer(text, start + 1, end)]:
        return words
    inside = sorted(set(pieces[bisect_right(pieces, start) : bisect_left(pieces, end)]))
    return [cut for cut in inside if not _joins(text, cut)] or inside


def _joins(text: str, cut: int) -> bool:
    """Whether a cut would take a character apart from its accent, or from what it is written together with, as in emoji."""
    before, after = text[cut - 1], text[cut]
    return unicodedata.category(after).startswith("M") or "\u200d" in (before, after) or before + after == "\r\n"
