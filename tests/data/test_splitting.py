"""Passages: nothing of a text is lost, none is longer than asked for, and they end where sentences do."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from colbert_research.data.splitting import Passage, located, rebuilt, split


def _trained() -> Tokenizer:
    """A byte-level BPE in which a word is other pieces behind a blank than without it, as in GPT's and ModernBERT's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [
        "the",
        "studio",
        "was",
        "founded",
        "in",
        "1985",
        "by",
        "Miyazaki",
        "and",
        "Takahata.",
        "It",
        "is",
        "a",
        "company,",
        "and",
        "宮崎",
        "駿",
        "works",
        "there",
    ]
    texts = [" ".join(words[i:] + words[:i]) for i in range(len(words))]
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _word_pieces() -> Tokenizer:
    """A WordPiece in the manner of BERT's: lower case, no accents, Chinese characters alone, an unknown word one piece."""
    vocabulary = {"[UNK]": 0, **{c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz0123456789.,!?", start=1)}}
    vocabulary |= {f"##{c}": i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz", start=100)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def of_tokenizer(tokenizer: Tokenizer):
    return lambda text: np.array([a for a, _ in tokenizer.encode(text, add_special_tokens=False).offsets], np.int64)


STARTS = {
    "words": lambda text: np.array([m.start() for m in re.finditer(r"\w+|[^\w\s]", text)], np.int64),
    "bytes": lambda text: np.array([i for i, c in enumerate(text) for _ in c.encode()], np.int64),
    "byte-level BPE": of_tokenizer(_trained()),
    "WordPiece": of_tokenizer(_word_pieces()),
}
UNITS = [
    *("The studio was founded in 1985.", " ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "Dr. A. Smith vs. e.g. it ", "Ca.309"),
    *(
        "宮崎駿は日本の映画監督である。",
        "「はい。」",
        "مرحبا۔",
        "हिन्दी।",
        "👩‍👩‍👧‍👦",
        "🇯🇵",
        "e\u0301",
        "...",
        "?!",
        '."',
        ".)",
        "…",
    ),
    *("word", "x" * 130, "1.5", "== Head ==", "\u2028", "\xa0", "\ufeff", "\x00", "﷽"),
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(UNITS), max_size=40).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
    st.lists(st.text("ab .!?\n。", max_size=12), max_size=20).map("".join),
)


def check(text, passages, starts, max_pieces):
    assert rebuilt(passages) == text
    ends = [0]
    for passage in passages:
        assert passage.text == text[passage.start : passage.end] != ""
        assert passage.start <= ends[-1] < passage.end  # no gap, and something new
        ends.append(passage.end)
        inside = len(starts(passage.text))
        # what cannot be cut: a character of several pieces, or one with what it is written together with
        assert inside <= max_pieces or len(set(starts(passage.text).tolist())) <= 1, (passage, inside)
    assert ends[-1] == len(text)
    firsts = [passage.start for passage in passages]
    assert firsts == sorted(set(firsts))


@pytest.mark.parametrize("name", STARTS)
@given(text=TEXTS, max_pieces=st.integers(12, 60), data=st.data())
@settings(max_examples=60, deadline=None)
def test_passages_cover_the_text_and_are_short_enough(name, text, max_pieces, data):
    overlap = data.draw(st.one_of(st.none(), st.integers(0, max_pieces - 1)))
    passages = split(text, starts=STARTS[name], max_pieces=max_pieces, overlap=overlap)
    check(text, passages, STARTS[name], max_pieces)
    assert passages == split(text, starts=STARTS[name], max_pieces=max_pieces, overlap=overlap)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000,
        "no punctuation at all " * 500,
        "." * 10_000,
        "宮" * 3000,
        "\r\n" * 2000,
        " " * 10_000,
        "e\u0301" * 900,
        "🇯🇵" * 500,
    ],
    ids=["one word", "no punctuation", "full stops", "CJK", "CRLF", "blanks", "accents", "emoji"],
)
def test_texts_that_are_hard_to_cut(name, text):
    check(text, split(text, starts=STARTS[name], max_pieces=50), STARTS[name], 50)


WORDS = STARTS["words"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two three four. Five six seven eight.", ["One two three four. ", "Five six seven eight."]),
        ('He said "go on now!" Then he went away.', ['He said "go on now!" ', "Then he went away."]),
        ("By Dr. A. B. Smith of St. Ives. It was e.g. good.", ["By Dr. A. B. Smith of St. Ives. ", "It was e.g. good."]),
        ("The Caproni Ca.309 and v1.5 fly. He saw a.m. trains.", ["The Caproni Ca.309 and v1.5 fly. ", "He saw a.m. trains."]),
        (
            "First paragraph here it is\n\nSecond paragraph here it is",
            ["First paragraph here it is\n\n", "Second paragraph here it is"],
        ),
        ("第一文です。「第二文です。」第三文です", ["第一文です。", "「第二文です。」", "第三文です"]),
    ],
)
def test_it_cuts_between_sentences(text, expected):
    room = max(len(WORDS(sentence)) for sentence in expected)
    assert [passage.text for passage in split(text, starts=WORDS, max_pieces=room, overlap=0)] == expected


def test_passages_overlap_by_whole_sentences():
    text = " ".join(f"Sentence number {i} ends." for i in range(8))  # five pieces each
    passages = split(text, starts=WORDS, max_pieces=15, overlap=5)
    assert [[int(n) for n in re.findall(r"\d", p.text)] for p in passages] == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7]]
    assert [[int(n) for n in re.findall(r"\d", p.text)] for p in split(text, starts=WORDS, max_pieces=15, overlap=4)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7],
    ]


def test_a_long_sentence_is_cut_between_words_with_overlap():
    words = [f"w{i}" for i in range(30)]
    passages = split(" ".join(words), starts=WORDS, max_pieces=12)  # an overlap of three
    assert [passage.text.split()[0] for passage in passages] == ["w0", "w9", "w18"]
    assert all(text in words for passage in passages for text in passage.text.split())


def test_a_short_text_is_one_passage():
    assert split("Tea.", starts=WORDS, max_pieces=8) == [Passage("Tea.", 0, 4)]
    assert split(" \n", starts=WORDS, max_pieces=8) == [Passage(" \n", 0, 2)]
    assert split("", starts=WORDS, max_pieces=8) == []


@pytest.mark.parametrize(("most", "overlap"), [(0, None), (4, 4), (4, -1)])
def test_numbers_that_do_not_fit(most, overlap):
    with pytest.raises(ValueError, match="expected 1 <= max_pieces"):
        split("Tea.", starts=WORDS, max_pieces=most, overlap=overlap)


def test_what_another_splitter_made_is_found_in_the_text():
    text = "one two one two three"
    assert located(text, ["one two", "two one", "one two three", "four"]) == [
        Passage("one two", 0, 7),
        Passage("two one", 4, 11),
        Passage("one two three", 8, 21),
        Passage("four"),
    ]


def test_passages_with_a_gap_are_no_text():
    with pytest.raises(ValueError, match="nothing is known of what follows character 3"):
        rebuilt([Passage("one", 0, 3), Passage("two", 4, 7)])
    with pytest.raises(ValueError, match="nothing is known"):
        rebuilt([Passage("one")])
