"""The application: `POST /search`, `GET /health`, `GET /metrics`, `GET /openapi.json`."""

import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from colbert_research.executors import WorkerDiedError
from colbert_research.index import FilterError
from colbert_research.serving.base import Answer
from colbert_research.serving.current import Current
from colbert_research.serving.guard import Guard
from colbert_research.serving.line import Line
from colbert_research.serving.metrics import EXPOSITION, Metered, Metrics
from colbert_research.serving.models import Health, Limits, SearchReply, SearchRequest, Trouble, reply
from colbert_research.serving.wire import RefusedError, write_json

logger = logging.getLogger("colbert_research.serving")
JSON = "application/json"
TROUBLES: dict[int | str, dict[str, Any]] = {
    400: {"model": Trouble, "description": "The body is no JSON"},
    401: {"model": Trouble, "description": "No token, or a wrong one"},
    408: {"model": Trouble, "description": "The body did not arrive in time"},
    413: {"model": Trouble, "description": "The body is too long"},
    415: {"model": Trouble, "description": "The body is not said to be JSON"},
    421: {"model": Trouble, "description": "Without a token, the server is asked for by a name that is not this machine's own"},
    422: {"model": Trouble, "description": "The request cannot be answered as it is"},
    500: {"model": Trouble, "description": "An error of the server, of which its log says more"},
    503: {"model": Trouble, "description": "Too many searches run or wait, or shards have lost their workers"},
    504: {"model": Trouble, "description": "Nothing answered before the deadline"},
}


def application(current: Current, limits: Limits, *, token: str | None = None, follow: float = 0.0) -> ASGIApp:
    """The ASGI application that answers from `current`.

    `follow`: seconds between looks whether the index changed; 0 for none. `current` is closed when the application ends.
    """
    line, metrics = Line(limits.running, limits.waiting), Metrics(current)
    metrics.in_flight.set_function(lambda: line.inside)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()
        if follow:
            threading.Thread(target=_follow, args=(current, follow, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            line.close()
            current.close()

    app = FastAPI(
        title="colbert_research",
        version=version("colbert-research"),
        description="Search in an index of late interaction.",
        docs_url=None,  # they load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.router.route_class = _Route
    app.add_exception_handler(HTTPException, _no_such)

    @app.post(
        "/search",
        response_model=SearchReply,
        responses=TROUBLES,
        openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": SearchRequest.model_json_schema()}}}},
    )
    async def search(request: Request) -> Response:
        """The best documents for each query."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise RefusedError(415, f"send the body as JSON, with the header `Content-Type: {JSON}`")
        body = await request.body()
        arrived = time.monotonic()
        return _json(await line.do(lambda: _search(current, limits, metrics, body, arrived)))

    @app.get("/health", response_model=Health)
    async def health() -> Response:
        """That the server lives, and what it serves."""
        index, fault = current.retriever.index, ""
        if current.fault:  # whose own words name files, and who asks for this needs no token
            fault = f"generation {index.generation} answers: the newest cannot be opened, of which the server's log says more"
        status = "behind" if fault else "ok"
        told = {"status": status, "generation": index.generation, "documents": index.n_documents, "fault": fault}
        return _json(write_json(told))

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def measured() -> Response:
        """What was counted since the server started, in Prometheus' form."""
        return Response(metrics.text(), media_type=EXPOSITION)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return _json(write_json({"name": app.title, "version": app.version, "openapi": app.openapi_url}))

    paths = frozenset(route.path for route in app.routes if isinstance(route, APIRoute))
    return Metered(Guard(app, token=token, body=limits.body), metrics, paths | {"/openapi.json"})


def _search(current: Current, limits: Limits, metrics: Metrics, body: bytes, arrived: float) -> bytes:
    """The JSON of what a body asks for; on a thread of the line."""
    asked = SearchRequest.read(body)
    with current.use() as answering:
        retriever = answering.retriever
        asked.check(limits, retriever)
        left = None if asked.deadline_ms is None else asked.deadline_ms / 1e3 - (time.monotonic() - arrived)
        if left is not None and left <= 0:
            raise RefusedError(504, f"the deadline of {asked.deadline_ms:g} ms passed before the search could begin")
        try:
            answer = answering.answer(asked.texts, asked.k, asked.ids, asked.filter, left)
        except FilterError as error:
            raise RefusedError(422, str(error)) from None
        except WorkerDiedError as error:
            number = secrets.token_hex(4)
            logger.error("error %s: %s", number, error)
            sentence = (
                f"shards of the index have lost their workers, of which the server's log says more under {number}; try again"
            )
            raise RefusedError(503, sentence, {"Retry-After": "1"}) from None
        _count(metrics, answer)
        if not answer.answered:
            raise RefusedError(504, f"nothing answered within {asked.deadline_ms or 0:g} ms: {answer.why}")
        return reply(asked, answer, retriever.index.generation, 1e3 * (time.monotonic() - arrived))


def _count(metrics: Metrics, answer: Answer) -> None:
    metrics.queries.inc(len(answer.hits))
    metrics.found.inc(sum(map(len, answer.hits)))
    metrics.share.observe(answer.answered)


def _follow(current: Current, seconds: float, ended: threading.Event) -> None:
    """Look every so many seconds whether the index changed."""
    while not ended.wait(seconds):
        current.follow()


class _Route(APIRoute):
    """A route whose refusals are JSON, and whose errors are logged and not told."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except RefusedError as refused:
                return _json(write_json({"error": refused.sentence}), refused.status, refused.headers)
            except ClientDisconnect:  # nobody reads it, but it is counted
                return _json(write_json({"error": "the body ended before it was whole"}), 400)
            except Exception:
                number = secrets.token_hex(4)
                logger.exception("error %s, of %s %s", number, request.method, request.url.path)
                sentence = f"the server made an error, of which its log says more under {number}"
                return _json(write_json({"error": sentence}), 500)

        return told


async def _no_such(request: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    assert isinstance(error, HTTPException)
    there = "POST /search, GET /health, GET /metrics, GET /openapi.json"
    sentence = f"there is no {request.method} {request.url.path[:80]}; there is {there}"
    return _json(write_json({"error": sentence}), error.status_code, dict(error.headers or {}))


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, JSON)
