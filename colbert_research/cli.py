"""The command line: small readers of what notebooks left behind."""

from pathlib import Path

import click


@click.group()
def main() -> None:
    """A laboratory for late interaction."""


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def summary(folder: Path) -> None:
    """Write FOLDER/summary.csv: one row for each finished record below FOLDER, and print it as Markdown."""
    from colbert_research.experiment import summarize

    table = summarize(folder)
    if not len(table):
        raise click.ClickException(f"no {folder}/**/record.json: nothing has finished there")
    table.to_csv(folder / "summary.csv", index=False)
    header, rows = list(table.columns), [[str(value) for value in row] for row in table.itertuples(index=False)]
    for row in [header, ["---"] * len(header), *rows]:
        click.echo("| " + " | ".join(row) + " |")


@main.command()
@click.argument("notebook", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show(notebook: Path) -> None:
    """Print the last table of an executed NOTEBOOK and where its files are."""
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    except (ValueError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise click.ClickException(f"{notebook} is not a notebook: {error!s:.80}") from error
    texts = [o["data"]["text/plain"] for c in cells for o in c.get("outputs", []) if "text/plain" in o.get("data", {})]
    if not texts:
        raise click.ClickException(f"{notebook} has no outputs; execute it first, with papermill or Jupyter")
    click.echo(texts[-1])
    click.echo(f"\nnotebook  {notebook}")
    html = notebook.with_suffix(".html")
    if html.is_file():
        click.echo(f"html      {html}")
