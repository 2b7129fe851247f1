"""`colbert-research cost`: what an index of a size that is not here would take."""

import json
from pathlib import Path
from typing import Any

import click


def count(value: str) -> int:
    """A whole number from 1, also written as 138e6."""
    try:
        number = float(value)
        if number != int(number) or number < 1:
            raise ValueError
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no whole number from 1, such as 8841823 or 138e6") from None
    return int(number)


@click.command()
@click.option("--documents", required=True, type=count, help="How many; 138e6 is a number, too.")
@click.option("--tokens-per-document", required=True, type=float, help="On average, after pooling.")
@click.option("--dim", default=128, show_default=True, type=click.IntRange(min=1), help="Of a token vector.")
@click.option("--codec", help='A codec and its settings, "residual nbits=2".  [residual]')
@click.option("--nbits", type=int, help="Of the residual codec: short for --codec.  [2]")
@click.option("--queries-per-second", default=0.0, help="How many, to count machines for them.")
@click.option("--memory", default=64e9, show_default="64e9", help="Bytes that one machine has for the index, texts aside.")
@click.option("--cores", default=16, show_default=True, type=click.IntRange(min=1), help="Of one machine.")
@click.option("--utilisation", default=0.5, show_default=True, help="Share of the cores' time that searches may take.")
@click.option("--shards", type=count, help="Indexes that share the documents.  [as few as fit the memory]")
@click.option("--text-bytes", type=float, help="Of a document's text as it is stored.  [as measured]")
@click.option("--tokens-per-second", type=float, help="That a machine encodes, on a GPU say.  [as measured]")
@click.option(
    "--records",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of records to predict from.  [measurements that come with the package]",
)
@click.option("--machine", help="Part of the name of the machine to predict for.  [that which measured the most tokens]")
@click.option("--all", "every", is_flag=True, help="Every setting of a strategy that was timed, not one for each strategy.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def cost(codec: str | None, nbits: int | None, records: Path | None, every: bool, as_json: bool, **asked: Any) -> None:
    """Predict bytes, build hours, latency and machines of an index that is not there yet.

    Bytes are computed from the codec's own layout, hours and milliseconds predicted from measurements, yours with --records.
    Below the tables stands what each figure comes from: how many measurements, of which machine, and how far it is
    extrapolated; its error is that of predicting each measurement from the others. Tables name one setting of each
    strategy, the one that was timed on the most sizes. GB are 10^9 bytes.
    """
    from colbert_research.costs import Measurements, Request, planned, read_measurements, text
    from colbert_research.settings import ConfigError

    if codec is not None and nbits is not None:
        raise click.ClickException(f"--nbits {nbits} is short for --codec 'residual nbits={nbits}'; give one of the two")
    try:
        measurements = Measurements.shipped() if records is None else read_measurements(records)
        line = codec if codec is not None else f"residual nbits={2 if nbits is None else nbits}"
        plan = planned(Request(codec=line, **asked), measurements)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(plan.to_json(), indent=1) if as_json else text(plan, every))
