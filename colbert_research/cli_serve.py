"""The command `colbert-research serve`: an index over HTTP."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colbert_research.cli_index import opened, refusals

if TYPE_CHECKING:
    from colbert_research.serving.current import Opening


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; beyond this machine, with a token only.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--token-file", type=click.Path(path_type=Path), help="Holds the token; or set COLBERT_RESEARCH_TOKEN.")
@click.option("--strategy", default="auto", show_default=True, help='A strategy and its settings: "plaid ncells=4".')
@click.option("--model", help="Folder or hub name of the encoder's model, where it moved since the index was built.")
@click.option(
    "--import", "modules", multiple=True, help="A module of yours to load first, which an index never does by itself."
)
@click.option(
    "--follow",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds between looks whether the index changed; 0 keeps to the generation of the start.",
)
@click.option("--max-k", default=1000, show_default=True, type=click.IntRange(1), help="Documents for a query.")
@click.option("--max-queries", default=64, show_default=True, type=click.IntRange(1), help="Queries of a request.")
@click.option("--max-characters", default=10_000, show_default=True, type=click.IntRange(1), help="Characters of a query.")
@click.option("--max-body", default=2**20, show_default=True, type=click.IntRange(1), help="Bytes of a request.")
@click.option("--running", default=8, show_default=True, type=click.IntRange(1), help="Requests that are searched for at once.")
@click.option("--waiting", default=128, show_default=True, type=click.IntRange(0), help="Requests in line; more are refused.")
@click.option(
    "--together",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Queries of several requests that are encoded in one batch.",
)
@click.option("--shards", type=click.IntRange(1), help="Let workers search, each some of so many parts of the index.")
@click.option(
    "--executor",
    default="processes",
    show_default=True,
    help='Where the workers of --shards are, and what each takes: "ray address=HOST:PORT cpus=4".',
)
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(1), help="Workers that answer for a shard.")
@click.option(
    "--hedge",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Ask a second worker for a shard that takes longer than that share of the latest answers.",
)
def serve(
    index: Path,
    host: str,
    port: int,
    token_file: Path | None,
    strategy: str,
    model: str | None,
    modules: Sequence[str],
    follow: float,
    max_k: int,
    max_queries: int,
    max_characters: int,
    max_body: int,
    running: int,
    waiting: int,
    together: int,
    shards: int | None,
    executor: str,
    replicas: int,
    hedge: float | None,
) -> None:
    """Answer searches in the index in the folder INDEX over HTTP: POST /search, GET /health, /metrics, /openapi.json.

    It ends at SIGTERM or Ctrl-C, after what it has begun. Needs the extra `serve`.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("colbert_research.serving").setLevel(logging.INFO)
    try:
        from colbert_research.serving import app, server
    except ImportError as error:
        raise click.ClickException(
            f"serve needs FastAPI and uvicorn ({error}): pip install 'colbert-research[serve]'"
        ) from error
    from colbert_research.serving.current import Current
    from colbert_research.serving.local import shared
    from colbert_research.serving.models import Limits

    if shards is None and (executor != "processes" or replicas != 1 or hedge is not None):
        raise click.ClickException("--executor, --replicas and --hedge are of --shards; say into how many the index is cut")
    limits = Limits(k=max_k, queries=max_queries, characters=max_characters, body=max_body, running=running, waiting=waiting)
    with refusals():
        token = server.token_of(token_file)
        listener = server.bound(host, port, token)
        with listener:
            current = Current(
                shared(opened(index, strategy, model, modules), together), _opening(shards, executor, replicas, hedge)
            )
            found = current.retriever.index
            listener.listen()  # whoever reads the address may ask; until the server runs, the system keeps them in line
            click.echo(f"{found!r}, generation {found.generation}, at {server.url_of(listener)}", err=True)
            server.run(app.application(current, limits, token=token, follow=follow), listener)


def _opening(shards: int | None, executor: str, replicas: int, hedge: float | None) -> "Opening":
    """What answers from a generation of the index: this process, or shards of it on workers."""
    from colbert_research.serving.local import Local
    from colbert_research.serving.shards import Shards

    if shards is None:
        return lambda retriever: nullcontext(Local(retriever))
    return lambda retriever: Shards.start(retriever, executor, shards=shards, replicas=replicas, hedge=hedge)
