"""What goes over the wire: JSON, and refusals."""

import json
from collections.abc import Mapping
from typing import Any

SAID = 300
"""Characters of an error: what was given is quoted in it, and may be as long as a body."""


class RefusedError(Exception):
    """A request that is not answered: the status, a sentence for the client, and headers."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, dict(headers or {})
        self.sentence = sentence if len(sentence) <= SAID else f"{sentence[: SAID - 1]}…"


def write_json(value: Any) -> bytes:
    """JSON in UTF-8; half a character, which UTF-8 has no bytes for, as its escape."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def read_json(body: bytes) -> Any:
    """The value of a body. Raises `RefusedError` for what is no JSON, and for an object with one key twice."""
    try:
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise RefusedError(400, "the body is nested too deeply to be read") from None
    except ValueError as error:
        raise RefusedError(400, f"the body is not JSON in UTF-8: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]!r} stands twice in one object, and one of the two would be dropped in silence")
        found[name] = value
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
