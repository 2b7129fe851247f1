"""How a document, a title and a text, becomes the one text that is encoded."""

from typing import Literal

TextFields = Literal["title text", "text"]


def document_text(title: str, text: str, fields: TextFields) -> str:
    """By the rule "title text", both with a space between, or the one that is not empty; by "text", the text alone."""
    if fields == "text":
        return text
    return f"{title} {text}" if title and text else title or text
