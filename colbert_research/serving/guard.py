"""`Guard`: what a request must bring before anything is done with it: a host's name, a token, a body that is not too long."""

import asyncio
import hmac
from collections.abc import Mapping
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colbert_research.serving.wire import RefusedError, write_json

OPEN = "/health"
"""Needs no token: whoever watches that a server lives is not trusted with what it holds."""
SLOW = 30.0  # seconds for a body to arrive


class Guard:
    """An application behind a token, and behind a limit on the bytes of a body.

    `token`: what `Authorization: Bearer …` must bring, compared in constant time; None lets everyone in who asks for a name of
    this machine itself, as no page of another site can make a browser do.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, body: int) -> None:
        self._app, self._token, self._body = app, token, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # its start and its end; websockets the server has none
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        try:
            self._check_caller(headers, scope["path"])
            self._check_length(headers)
        except RefusedError as refused:
            await say(refused, send)
            return
        await self._app(scope, _limited(receive, self._body), send)

    def _check_caller(self, headers: Mapping[str, bytes], path: str) -> None:
        if self._token is None:
            host = headers.get("host", b"localhost").decode("latin-1")
            if not is_loopback(host.rsplit(":", 1)[0] if not host.endswith("]") else host):
                raise RefusedError(
                    421,
                    f"this server has no token and answers as localhost alone; asked for as {host!r}. Give it a token "
                    "(COLBERT_RESEARCH_TOKEN or --token-file) to let others ask",
                )
            return
        if path == OPEN:
            return
        scheme, _, given = headers.get("authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token.encode()):
            wrong = "the token is not this server's" if given else "no token was given"
            raise RefusedError(
                401,
                f"{wrong}; send the header `Authorization: Bearer TOKEN`, with the token that the server was started with",
                {"WWW-Authenticate": 'Bearer realm="colbert-research"' + (', error="invalid_token"' if given else "")},
            )

    def _check_length(self, headers: Mapping[str, bytes]) -> None:
        length = headers.get("content-length", b"")
        if length.isdigit() and int(length) > self._body:
            raise too_long(self._body)


def _limited(receive: Receive, most: int) -> Receive:
    """Messages of a request, whose bodies together have at most so many bytes, and have all come in time."""
    had, until = 0, 0.0

    async def limited() -> Message:
        nonlocal had, until
        if had < 0:
            return await receive()  # whether the client is still there
        until = until or asyncio.get_running_loop().time() + SLOW
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise RefusedError(408, f"the body did not arrive within {SLOW:.0f} s", {"Connection": "close"}) from None
        had += len(message.get("body", b""))
        if had > most:
            raise too_long(most)
        if not message.get("more_body", False):
            had = -1
        return message

    return limited


def too_long(most: int) -> RefusedError:
    why = f"the body is longer than {most} bytes, the most that this server reads (its --max-body)"
    return RefusedError(413, f"{why}; send fewer queries or ids", {"Connection": "close"})


def is_loopback(host: str) -> bool:
    """Whether a name or an address, as it stands in a URL or is bound to, is one of this machine alone."""
    host = host.removeprefix("[").removesuffix("]").lower()
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def say(refused: RefusedError, send: Send) -> None:
    """Send a refusal as a whole response."""
    body = write_json({"error": refused.sentence})
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refused.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
