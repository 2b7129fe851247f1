"""The command line: sweeps, the search of an index, and small readers of what notebooks left behind."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from colbert_research import cli_cost, cli_index, cli_ledger, cli_serve, cli_sweep

if TYPE_CHECKING:
    from colbert_research.search import Hit

SAVED = r"^[\d:]{8} saved (.*record\.json)$"
"""The line that an experiment logs when its record is written."""


@click.group()
def main() -> None:
    """A laboratory for late interaction."""


SWEEPS = (cli_sweep.plan, cli_sweep.run, cli_sweep.status, cli_sweep.compare, cli_sweep.report, cli_sweep.export)
for command in (*SWEEPS, cli_ledger.ledger, cli_cost.cost, cli_index.index, cli_serve.serve):
    main.add_command(command)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--into", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A page whose table is replaced.")
def summary(folder: Path, into: Path | None) -> None:
    """Write FOLDER/summary.csv: one row for each finished record below FOLDER, and print it as Markdown.

    Where rankings lie beside the records, their overlap with exhaustive search over exact vectors is computed and kept.
    """
    from colbert_research.experiment.overlaps import compare_rankings
    from colbert_research.experiment.summary import markdown, put_into, summarize
    from colbert_research.settings import ConfigError

    compare_rankings(folder)
    table = summarize(folder)
    if not len(table):
        raise click.ClickException(f"no {folder}/**/record.json: nothing has finished there")
    table.to_csv(folder / "summary.csv", index=False)
    if into is not None:
        try:
            put_into(into, folder, table)
        except ConfigError as error:
            raise click.ClickException(str(error)) from error
    click.echo(markdown(table), nl=False)


@main.group()
def cache() -> None:
    """The cache of finished stages."""


@cache.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@click.argument("overrides", default="")
def adopt(config: str, overrides: str) -> None:
    """Take over what an earlier version computed for CONFIG with OVERRIDES, where a sample has the same bytes today.

    After an update the sources are others, and so are the names of artifacts. For each stage that is not there yet, one with
    the same settings and inputs is looked for, a sample of it is computed again, and equal bytes are adopted.
    """
    from colbert_research.config import load_config
    from colbert_research.data import DataError
    from colbert_research.experiment import Experiment, ExperimentConfig
    from colbert_research.experiment.adopt import adopt as adopt_stages
    from colbert_research.settings import ConfigError

    try:
        experiment = Experiment(load_config(ExperimentConfig, config, overrides))
        found = adopt_stages(experiment)
    except (ConfigError, DataError) as error:
        raise click.ClickException(str(error)) from error
    width = max(len(each.stage) for each in found)
    for each in found:
        click.echo(f"{each.stage:{width}}  {each.state:8}  {each.reason}")


@cache.command(name="list")
@click.option("--records", multiple=True, default=("experiments",), show_default=True, help="Where records lie.")
def list_(records: Sequence[str]) -> None:
    """What lies in the cache: by stage, how many, how large, how old, and what records name."""
    from colbert_research.cache import StageCache
    from colbert_research.experiment.collect import kept, table

    found = StageCache.default()
    lying = kept(found, records)
    click.echo(table(lying).to_string() if lying else "nothing")
    click.echo(f"{sum(each.bytes for each in lying) / 1e9:.2f} GB in {found.root}")


@cache.command()
@click.option("--records", multiple=True, default=("experiments",), show_default=True, help="Where records lie.")
@click.option("--days", default=7.0, show_default=True, help="Not used for so long.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def gc(records: Sequence[str], days: float, yes: bool) -> None:
    """Remove what no record names, nobody has used for --days, and no process has open. Asks first, and says what."""
    from colbert_research.cache import StageCache
    from colbert_research.experiment.collect import kept, remove, unneeded

    if missing := [folder for folder in records if not Path(folder).is_dir()]:
        raise click.ClickException(f"no folder {missing[0]!r}, where records are looked for; name it with --records")
    found = StageCache.default()
    old = unneeded(kept(found, records), days=days)
    for each in old:
        click.echo(f"{each.name}  {each.bytes / 1e6:10.1f} MB  {each.days:5.1f} days")
    size = sum(each.bytes for each in old)
    if not old:
        click.echo(f"nothing that no record names was last used {days:g} days ago or earlier")
        return
    if not (yes or click.confirm(f"Remove these {len(old)} artifacts, {size / 1e9:.2f} GB, which no record names?")):
        click.echo("nothing is removed")
        return
    click.echo(f"removed {remove(found, old) / 1e9:.2f} GB")


@cache.command()
@click.argument("kinds", nargs=-1)
def push(kinds: Sequence[str]) -> None:
    """Copy what the cache has, of the KINDS of stages given or of all, to the store that COLBERT_RESEARCH_STORE names.

    What is computed while the store is named is copied by itself; this is for what was computed before.
    """
    from colbert_research.cache import StageCache
    from colbert_research.settings import ConfigError

    try:
        found = StageCache.default()
        pushed = Counter(found.push(kinds))
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{pushed[True]} artifacts copied to the store, {pushed[False]} were there")


@main.command()
@click.argument("notebook", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(notebook: Path) -> None:
    """Print what the last cell of an executed NOTEBOOK shows, and where its files and its record are."""
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    except (ValueError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise click.ClickException(f"{notebook} is not a notebook: {error!s:.80}") from error
    shown = [[o["data"]["text/plain"] for o in c.get("outputs", []) if "text/plain" in o.get("data", {})] for c in cells]
    texts = [each for each in shown if each]
    errors = [(n, o) for n, c in enumerate(cells, 1) for o in c.get("outputs", []) if o.get("output_type") == "error"]
    if errors:
        number, what = errors[-1]
        raise click.ClickException(f"{notebook} stopped in cell {number}: {what['ename']}: {what['evalue']}")
    if not texts:
        raise click.ClickException(f"{notebook} has no outputs; execute it first, with papermill or Jupyter")
    click.echo("\n\n".join(texts[-1]))
    click.echo(f"\nnotebook  {notebook}")
    html = notebook.with_suffix(".html")
    if html.is_file():
        click.echo(f"html      {html}")
    logged = "".join(o["text"] for c in cells for o in c.get("outputs", []) if o.get("output_type") == "stream")
    if records := re.findall(SAVED, logged, re.MULTILINE):
        click.echo(f"record    {records[-1]}")


@main.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("question")
@click.option("-k", default=10, show_default=True, help="How many documents to find.")
@click.option("--filter", "filter_", help='Which documents may be found, by their metadata: \'{"year": {"$gte": 1990}}\'.')
@click.option("--strategy", default="auto", show_default=True, help='A strategy and its settings: "plaid ncells=4".')
@click.option("--model", help="Folder or hub name of the encoder's model, where it moved since the index was built.")
@click.option(
    "--import", "modules", multiple=True, help="A module of yours to load first, which an index never does by itself."
)
@click.option("--json", "as_json", is_flag=True, help="Print the hits as JSON, with whole texts and metadata.")
def search(
    index: Path,
    question: str,
    k: int,
    filter_: str | None,
    strategy: str,
    model: str | None,
    modules: Sequence[str],
    as_json: bool,
) -> None:
    """Search the index in the folder INDEX for a QUESTION."""
    from colbert_research.index import Filter

    with cli_index.refusals():
        retriever = cli_index.opened(index, strategy, model, modules)
        hits = retriever.search(question, k, filter=None if filter_ is None else Filter.from_json(filter_))
    if as_json:
        click.echo(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=1))
    else:
        click.echo(_table(hits, shutil.get_terminal_size().columns))


def _table(hits: "Sequence[Hit]", width: int) -> str:
    """One line a hit: rank, score, id, and as much of title and text as fits."""
    rows = [("rank", "score", "document", "title: text")]
    for hit in hits:
        shown = f"{hit.title}: {hit.text}" if hit.title and hit.text else hit.title or hit.text
        rows.append((str(hit.rank), f"{hit.score:.3f}", hit.document_id, " ".join(shown.split())))
    ranks, scores, ids = (max(len(row[column]) for row in rows) for column in range(3))
    room = max(20, width - ranks - scores - ids - 6)
    lines = []
    for rank, score, document, text in rows:
        cut = text if len(text) <= room else f"{text[: room - 1]}…"
        lines.append(f"{rank:>{ranks}}  {score:>{scores}}  {document:<{ids}}  {cut}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="colbert-research")
