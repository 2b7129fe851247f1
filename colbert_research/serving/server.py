"""The server of an application: its token, its socket, and its end."""

import os
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from colbert_research.serving.guard import is_loopback
from colbert_research.settings import ConfigError

TOKEN = "COLBERT_RESEARCH_TOKEN"
SHORTEST = 16  # characters of a token: nobody guesses so many
CONNECTIONS = 1000
IDLE, FINISH = 75, 30  # seconds that a connection may be idle, and that searches are given to end when the server ends
MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


def token_of(file: Path | None) -> str | None:
    """The token in a file, or else in the variable COLBERT_RESEARCH_TOKEN; None where there is neither.

    Raises ConfigError for both, for a file that cannot be read, and for a token that could be guessed or cannot stand in a
    header.
    """
    if file is not None and TOKEN in os.environ:
        raise ConfigError(f"a token is in {file} and in {TOKEN}; leave one of them out")
    if file is None and TOKEN not in os.environ:
        return None
    where = f"the token in {file or TOKEN}"
    try:
        token = (file.read_text(encoding="utf-8") if file is not None else os.environ[TOKEN]).strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is not text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}; {MAKE_ONE}") from error
    if len(token) < SHORTEST:
        raise ConfigError(f"{where} has {len(token)} characters, and could be guessed; use {SHORTEST} or more: {MAKE_ONE}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{where} has characters that a header cannot hold; use letters, digits, - and _: {MAKE_ONE}")
    return token


def bound(host: str, port: int, token: str | None) -> socket.socket:
    """A socket that is bound and does not listen yet. Port 0 takes a free one.

    Raises ConfigError for a host that others reach, without a token, and for an address that cannot be bound to.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"without a token, everyone who reaches {host} could read the index: set {TOKEN} or --token-file ({MAKE_ONE}), or "
            "leave --host out, and only this machine is answered"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # a server that ended lately does not keep its port; on Windows two could have it at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --host or --port") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address of a socket, as one asks for it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT; then no more is taken, and what runs is finished, or given up after half a minute."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=FINISH,
        )
    )

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn has handlers of its own while it runs, puts these back, and sends itself the signal once more
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
