"""Make a bench folder from an experiment's cached token vectors, after its reducer: what search.py and other engines run on.

    python experiments/benchmarks/prepare.py OUT --config configs/plaid.yaml \
        --overrides "dataset.path=../shared/data/nfcorpus reducer.kind=svd reducer.dim=128" [--documents 300]
"""

from pathlib import Path

import click
import numpy as np
from bench_folder import BenchFolder, write_bench_folder

from colbert_research.config import load_config
from colbert_research.encoders.reduce import project
from colbert_research.encoders.stored import open_stored
from colbert_research.experiment import Experiment, ExperimentConfig


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--config", required=True, help="YAML file of an experiment.")
@click.option("--overrides", default="", help="Dotted assignments laid over the config.")
@click.option("--documents", type=click.IntRange(min=1), help="Only the first documents, and the queries that they answer.")
@click.option("--queries", type=click.IntRange(min=1), help="Only the first queries.")
def main(out: Path, config: str, overrides: str, documents: int | None, queries: int | None) -> None:
    """Write the bench folder OUT."""
    try:
        folder = prepare(Experiment(load_config(ExperimentConfig, config, overrides)), out, documents, queries)
    except (ValueError, FileExistsError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{out}: documents {folder.documents}, queries {folder.queries}")


def prepare(experiment: Experiment, out: Path, documents: int | None = None, queries: int | None = None) -> BenchFolder:
    """Write `out` from an experiment, running the encode and reduce stages that are not cached.

    Documents and queries without tokens are left out, and so are queries without a relevant document among those kept, where
    there are judgements. A collection whose queries are documents is written without judgements: engines that do not know it
    would rank every query's own document first, and all measures would be wrong alike.
    """
    collection = experiment.collection
    reduced = open_stored(experiment.run("reduce" if "reduce" in experiment.stages else "encode documents").path)
    vectors = reduced.tokens.vectors
    query_vectors = experiment.queries.vectors.map(lambda rows: project(rows, reduced.projection))
    kept = np.flatnonzero(vectors.lengths)[:documents]
    document_ids = [collection.document_ids[i] for i in kept]
    known = set(document_ids)
    judged = {} if collection.exclude_self else collection.qrels
    qrels = {query: {d: g for d, g in grades.items() if d in known} for query, grades in judged.items()}
    answerable = {query for query, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    asked = [
        i for i, query in enumerate(collection.query_ids) if query_vectors.lengths[i] and (query in answerable or not judged)
    ][:queries]
    query_ids = [collection.query_ids[i] for i in asked]
    return write_bench_folder(
        out,
        vectors.take(kept) if len(kept) < len(vectors) else vectors,
        query_vectors.take(asked),
        document_ids=document_ids,
        query_ids=query_ids,
        qrels={query: qrels[query] for query in query_ids if query in qrels},
    )


if __name__ == "__main__":
    main()
