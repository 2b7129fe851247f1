"""`colbert-research ledger`: what papers claim, and what the records here say of it."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", default="experiments/ablations", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", type=click.Path(file_okay=False, path_type=Path), help="Write ledger.md, .csv and .html there, too.")
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A page whose table, below a line <!-- ledger of FOLDER -->, is replaced.",
)
def ledger(folder: Path, write: Path | None, into: Path | None) -> None:
    """Judge every claim of the claims.yaml files below FOLDER by the records beside them, and print the verdicts.

    Agreement with exact search is computed first, where rankings lie beside the records, and figures of clusters, where claims
    ask for them and the cache holds the indexes.
    """
    from colbert_research.ledger import Ablation, Ledger
    from colbert_research.ledger.claims import FILE
    from colbert_research.settings import ConfigError

    try:
        for file in sorted(folder.rglob(FILE)):
            Ablation.load(file).measure(file.parent)
        found = Ledger.load(folder)
        if into is not None:
            found.put_into(into, folder)
        files = found.write(write) if write else []
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for each in found.entries:
        click.echo(f"{each.finding.verdict:17} {each.ablation} {each.claim.id}: {each.claim.claim}")
        said = f"{each.claim.paper}, {each.claim.where}: {each.claim.published}. Ours: {each.finding.ours or 'none'}"
        click.echo(f"{'':17} {said} ({each.finding.reason})")
        if each.finding.records:
            click.echo(f"{'':17} Records in {each.folder}: {' '.join(each.finding.records)}")
    click.echo(found.words())
    for file in files:
        click.echo(file)
