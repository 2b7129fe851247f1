"""What is asked over HTTP, and what is answered."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from colbert_research.config import Config, explain
from colbert_research.data.passages import is_blank
from colbert_research.search.retriever import Hit, Retriever
from colbert_research.serving.base import Answer
from colbert_research.serving.wire import RefusedError, read_json, write_json
from colbert_research.settings import nearest

Told = Literal["title", "text", "metadata"]
FIELDS: tuple[Told, ...] = ("title", "text", "metadata")


class Limits(Config):
    """What one request may ask for (`characters`: of one query), and how many are searched for and wait at once."""

    k: int = Field(1000, ge=1)
    queries: int = Field(64, ge=1)
    characters: int = Field(10_000, ge=1)
    body: int = Field(2**20, ge=1)
    running: int = Field(8, ge=1)
    waiting: int = Field(128, ge=0)


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r:.60} holds half a character (a lone surrogate)") from None
    return text


Text = Annotated[str, AfterValidator(_whole)]
Texts = Annotated[list[Text], Field(fail_fast=True)]


class SearchRequest(Config):
    """`query`, one text, or `queries`, a list of texts; the best `k` documents are found for each.

    `filter`: which documents may be found, by their metadata, such as `{"year": {"$gte": 1990}}`. `ids`: the only ones that
    may be. `deadline_ms`: counts from when the request was read; a search that has not begun by then is refused, and shards
    that have not answered are left out, which `answered` tells. `fields`: what is told of a document beside rank, id and score.
    """

    model_config = ConfigDict(strict=True, coerce_numbers_to_str=False)

    query: Text | None = None
    queries: Texts | None = None
    k: int = Field(10, ge=1)
    filter: dict[str, Any] | None = None
    ids: Texts | None = None
    deadline_ms: float | None = Field(None, gt=0)
    fields: list[Told] = Field(list(FIELDS), max_length=len(FIELDS))

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.query is None) == (self.queries is None):
            given = "neither" if self.query is None else "both"
            raise ValueError(f"give query, one text, or queries, a list of texts; given {given}")
        return self

    @property
    def texts(self) -> list[str]:
        return [self.query] if self.query is not None else list(self.queries or [])

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The request of a body. Raises `RefusedError` with the first thing that is wrong."""
        given = read_json(body)
        if not isinstance(given, dict):
            start = body[:40].decode(errors="replace")
            raise RefusedError(422, f'expected an object, such as {{"query": "green tea", "k": 10}}; given {start}')
        if unknown := next((name for name in given if name not in cls.model_fields), None):
            raise RefusedError(422, f"unknown key {unknown[:40]!r}: {nearest(unknown[:40], cls.model_fields)}")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise RefusedError(422, explain(error, cls)) from None

    def check(self, limits: Limits, retriever: Retriever) -> None:
        """Raise `RefusedError` for what the server or its index cannot find; but for a filter, which is only tried."""
        if self.k > limits.k:
            raise RefusedError(422, f"k={self.k}: this server finds at most {limits.k} documents for a query (its --max-k)")
        if len(self.texts) > limits.queries:
            raise RefusedError(
                422,
                f"{len(self.texts)} queries: this server takes at most {limits.queries} in one request (its --max-queries); "
                "send several",
            )
        for place, text in enumerate(self.texts):
            if is_blank(text):
                raise RefusedError(422, f"a query needs at least one word; query {place} is {text!r:.40}")
            if len(text) > limits.characters:
                raise RefusedError(
                    422,
                    f"query {place} has {len(text)} characters: this server takes at most {limits.characters} (its "
                    "--max-characters), of which an encoder keeps the first tokens",
                )
        index, (strategy, _) = retriever.index, retriever.strategy.fitted(retriever.index)
        try:
            strategy.check_size(index.n_documents, self.k)
            if len(index):
                strategy.check(index, self.k)
            if self.ids is not None:
                index.positions(self.ids)
        except (KeyError, ValueError) as error:
            raise RefusedError(422, str(error.args[0])) from None


class FoundDocument(BaseModel):
    """A document: `rank` from 1, MaxSim `score`; title, text and metadata as far as they were asked for."""

    rank: int
    id: str
    score: float
    title: str | None = None
    text: str | None = None
    metadata: dict[str, Any] | None = None


class Found(BaseModel):
    """The best documents for one query, the best first."""

    query: str
    hits: list[FoundDocument]


class SearchReply(BaseModel):
    """What was found for each query, in their order.

    `generation`: of the index, which every change raises by one. `answered`: the share of its documents that were looked for;
    below 1, `why` says what was not, and is missing in every list. `milliseconds`: since the request was read.
    """

    generation: int
    answered: float
    why: str
    milliseconds: float
    results: list[Found]


class Health(BaseModel):
    """That the server is there, and what it serves; `fault` says so where it is not the newest generation on disk."""

    status: Literal["ok", "behind"]
    generation: int
    documents: int
    fault: str


class Trouble(BaseModel):
    """Why a request was not answered, in a sentence."""

    error: str


def reply(asked: SearchRequest, answer: Answer, generation: int, milliseconds: float) -> bytes:
    """The JSON of a `SearchReply`."""
    results = [
        {"query": text, "hits": [_document(hit, asked.fields) for hit in hits]}
        for text, hits in zip(asked.texts, answer.hits, strict=True)
    ]
    return write_json(
        {
            "generation": generation,
            "answered": answer.answered,
            "why": answer.why,
            "milliseconds": round(milliseconds, 3),
            "results": results,
        }
    )


def _document(hit: Hit, fields: Sequence[str]) -> dict[str, Any]:
    return {"rank": hit.rank, "id": hit.document_id, "score": hit.score, **{name: getattr(hit, name) for name in fields}}
