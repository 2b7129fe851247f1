"""The command line of sweeps: plan, run, status, compare, report."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from colbert_research.sweep import Sweep

MANY = 1000
"""More experiments than that are asked about before they are planned."""


def sweep_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command over the sweep of a YAML file; what is wrong with it is a message, not a traceback."""

    @click.argument("sweep", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="Of the records [experiments/<name> in the SWEEP's project].",
    )
    @click.option("--yes", is_flag=True, help=f"Also where there are more than {MANY} experiments.")
    @wraps(function)
    def command(sweep: Path, folder: Path | None, yes: bool, **options: Any) -> Any:
        from colbert_research.executors import WorkerDiedError
        from colbert_research.settings import ConfigError
        from colbert_research.sweep import Sweep

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            found = Sweep.load(sweep, folder=folder)
            if found.config.size > MANY and not yes and not options.get("limit"):
                raise ConfigError(
                    f"{sweep} has {found.config.size} points; say --yes if they are meant, or execute some with `run --limit`"
                )
            return function(found, **options)
        except (ValueError, OSError, WorkerDiedError) as error:
            raise click.ClickException(str(error)) from error

    return command


@click.command()
@sweep_command
@click.option("--jobs", default=1, show_default=True, help="Processes, by which the time left is divided.")
def plan(sweep: "Sweep", jobs: int) -> None:
    """What is done of the SWEEP in a YAML file, what each run still needs, and about how long that takes."""
    planned = sweep.plan()
    show(planned.table())
    click.echo(planned.words(jobs))


@click.command()
@sweep_command
@click.option("--jobs", default=1, show_default=True, help="Processes side by side; each has its part of the threads.")
@click.option("--only", default="", help='Settings that a run must have: "codec.nbits=4 codec.centroids=1024".')
@click.option("--limit", type=click.IntRange(min=1), help="At most so many of the runs that are left.")
@click.option("--retry", is_flag=True, help="Those that failed, too.")
@click.option(
    "--executor",
    default="inline",
    show_default=True,
    help='Whose workers execute the runs, each with its own --jobs: "processes", "ray address=auto cpus=8", "slurm workers=8".',
)
def run(sweep: "Sweep", jobs: int, only: str, limit: int | None, retry: bool, executor: str) -> None:
    """Execute the runs of the SWEEP that are not done, and write summary.csv beside their records.

    Relative paths are looked for beside the SWEEP's file, then in its project (the nearest folder above it with a
    pyproject.toml or a .git), then in the working folder; the records lie in the project's experiments/<name>.

    It may be interrupted or killed at any moment, and started again, also by several at once: what is done stays done.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    click.echo(sweep.plan().words(jobs))
    if executor.split(" ")[0] == "slurm":
        if limit is not None:
            raise click.ClickException("--limit counts the runs of one process; choose those of all workers by --only")
        click.echo(sweep.submit(executor, jobs=jobs, only=only, retry=retry))
        return
    try:
        with logging_redirect_tqdm():  # lines go above the bar
            table = sweep.run(jobs=jobs, only=only, limit=limit, retry=retry, executor=executor)
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; {sweep.plan().words(jobs)}. The same command continues")
        raise SystemExit(130) from None
    show(table)
    click.echo(f"{sweep.plan().words(jobs)}\n{sweep.folder / 'summary.csv'}")
    if (table["state"] == "failed").any() or (table["state"] == "crashed").any():
        raise click.ClickException(
            "some runs failed; their last line stands in the table, all of it in stdout.log of their folder"
        )
    if newer := int((table["state"] == "newer").sum()):
        said = "1 record was" if newer == 1 else f"{newer} records were"
        raise click.ClickException(f"{said} written by a later version of this package: update it, or choose another --folder")


@click.command()
@sweep_command
@click.option("--baseline", default="", help="Id of the run to compare with [the first of each collection].")
@click.option("--margin", default=0.01, show_default=True, type=click.FloatRange(min=0), help="Losses below it do not matter.")
@click.option("--measure", "measures", multiple=True, help="Only this one; may be repeated.")
def compare(sweep: "Sweep", baseline: str, margin: float, measures: Sequence[str]) -> None:
    """The finished runs of the SWEEP against one of them, query by query: differences, intervals, p-values, verdicts."""
    from colbert_research.evaluation.difference import Criteria

    found = sweep.compare(baseline=baseline, measures=measures, criteria=Criteria(margin=margin))
    for collection, comparison in found.items():
        click.echo(f"\n{collection}")
        show(comparison.table())
        for sentence in comparison.words():
            click.echo(f"  {sentence}")


@click.command()
@sweep_command
@click.option("--baseline", default="", help="Id of the run to compare with [the first of each collection].")
@click.option("--to", "folder_to", type=click.Path(file_okay=False, path_type=Path), help="Folder [report beside the records].")
def report(sweep: "Sweep", baseline: str, folder_to: Path | None) -> None:
    """Write the SWEEP as a page, with its tables as CSV, Markdown and LaTeX, and its figures as pictures."""
    click.echo(sweep.report(folder_to, baseline=baseline))


@click.command()
@sweep_command
@click.option("--to", "target", type=click.Choice(["mlflow"]), required=True, help="What to export to.")
@click.option(
    "--uri", default="", help="Of MLflow's server or database [$MLFLOW_TRACKING_URI, or mlflow.db beside the folder]."
)
def export(sweep: "Sweep", target: str, uri: str) -> None:
    """Put the finished records of the SWEEP into MLflow; those that are there already stay. Needs the extra mlflow."""
    click.echo(sweep.export_mlflow(uri))


@click.command()
@sweep_command
@click.option("--watch", is_flag=True, help="Look again every two seconds, until no run is left.")
def status(sweep: "Sweep", watch: bool) -> None:
    """Which runs of the SWEEP are done, running, failed, crashed or missing, also while another process executes them."""
    from colbert_research.sweep.states import SETTLED

    while True:
        planned = sweep.plan()
        click.echo(planned.words())
        for each in planned.runs:
            if planned.states[each.id] not in ("done", "missing"):
                last = planned.why[each.id] or _last_line(each.folder / "stdout.log")
                click.echo(f"  {each.id}  {planned.states[each.id]:8} {each.point.text}: {last}")
        if not watch or all(state in SETTLED for state in planned.states.values()):
            return
        time.sleep(2)


def show(table: "pd.DataFrame") -> None:
    """Print a table whole, however wide it is."""
    click.echo(table.to_string(max_colwidth=70))


def _last_line(file: Path) -> str:
    try:
        with open(file, "rb") as handle:
            handle.seek(max(0, os.path.getsize(file) - 2000))
            lines = handle.read().decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")[:120]
    except OSError:
        return ""
