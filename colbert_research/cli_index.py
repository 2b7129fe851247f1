"""The commands of `colbert-research index`: look at an index, verify it, compact it, import one of another engine.

And how a command opens the index that it searches.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from colbert_research.search import Retriever

FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group()
def index() -> None:
    """Look at an index, verify it, compact it; take over one of another engine."""


@index.command()
@FOLDER
def show(folder: Path) -> None:
    """Print what the index in FOLDER holds, its generations, and how far added documents have drifted."""
    from colbert_research.index import Index

    with refusals():
        opened = Index.open(folder)
        click.echo(f"{opened!r}\ngeneration {opened.generation} of {opened.generations()} on disk")
        drift = opened.drift()
        if drift is not None and drift.added:
            click.echo(drift.words())


@index.command()
@FOLDER
def verify(folder: Path) -> None:
    """Read every file of the index in FOLDER, and compare its checksum; exit status 1 for damage, which is named."""
    from colbert_research.index import Index

    with refusals():
        opened = Index.open(folder)
        opened.verify()
    click.echo(f"every file is as it was written: {opened!r}")


@index.command()
@FOLDER
def compact(folder: Path) -> None:
    """Merge the segments of the index in FOLDER, without the documents that were deleted."""
    import colbert_research.search  # noqa: F401 (whose structures the index may have, to be built for the new segments)
    from colbert_research.index import Index

    with refusals():
        compacted = Index.open(folder).compact()
    click.echo(f"generation {compacted.generation}: {compacted!r}")


@index.command(name="import")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def import_(source: Path, folder: Path) -> None:
    """Make an index in the new FOLDER of the one in SOURCE: of Stanford's ColBERT, RAGatouille, PyLate or fast-plaid.

    The codes are taken over; nothing is encoded. To search it in words, say what made its vectors, in Python:
    import_index(SOURCE, FOLDER, pipeline=TextPipeline.of(encoder_config)).
    """
    from colbert_research.index.importers import import_index

    with refusals():
        found = import_index(source, folder)
    click.echo(repr(found))


@contextmanager
def refusals() -> Iterator[None]:
    """What the library refuses is printed as one line, with exit status 1."""
    try:
        yield
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


def opened(index: Path, strategy: str, model: str | None, modules: Sequence[str]) -> "Retriever":
    """The retriever of an index. Raises as `Retriever.open`, and ImportError for a module that is not there.

    `strategy`: its kind and settings. `model`: where the encoder's model lies now. `modules`: what to import first.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its report of unused weights is no part of an answer
    from colbert_research.config import component_of_line
    from colbert_research.search import STRATEGIES, Retriever

    if modules:  # and only then: what lies in the working folder is nobody's import otherwise
        sys.path.insert(0, os.getcwd())
    for module in modules:
        import_module(module)
    retriever = Retriever.open(index, component_of_line("strategy", STRATEGIES, strategy))
    if model is None:
        return retriever
    return Retriever(retriever.index, retriever.pipeline.with_model(model), retriever.strategy)
