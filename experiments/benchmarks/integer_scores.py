"""What integer scoring of codes costs in quality: the same codes scored by the CPU kernels and in float32, side by side.

    python experiments/benchmarks/integer_scores.py configs/residual.yaml "dataset.path=PATH codec.nbits=4"

Both rankings are exhaustive. Printed: nDCG@10 of both, their difference, the overlap of their ten best, and the largest and the
mean difference of a score.
"""

import argparse
import json
import sys

import numpy as np

from colbert_research import kernels
from colbert_research.config import load_config
from colbert_research.evaluation import evaluate, mean_measures, overlap
from colbert_research.experiment import Experiment, ExperimentConfig
from colbert_research.kernels.operands import CodedTokens
from colbert_research.ranking import Ranking
from colbert_research.search.found import best


def main() -> None:
    """Measure one config."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="?", default="")
    parser.add_argument("--queries", type=int, default=1000, help="at most so many, the first ones")
    asked = parser.parse_args()
    experiment = Experiment(load_config(ExperimentConfig, asked.config, asked.overrides))
    index, queries = experiment.index, experiment.query_vectors
    queries = queries.slice(0, min(asked.queries, len(queries)))
    ids = experiment.collection.query_ids[: len(queries)]
    scores = {backend: scored(index, queries, backend) for backend in ("cpu", "torch")}
    positions = np.arange(index.n_documents, dtype=np.int64)
    rankings = {
        name: Ranking.of([best(positions, row, 1000) for row in found], query_ids=ids, document_ids=index.document_ids)
        for name, found in scores.items()
    }
    qrels = {query: experiment.collection.qrels[query] for query in ids}
    ndcg = {name: mean_measures(evaluate(r, qrels, ("nDCG@10",)))["nDCG@10"] for name, r in rankings.items()}
    difference = np.abs(scores["cpu"] - scores["torch"])
    report = {
        "experiment": experiment.id,
        "queries": len(ids),
        "nDCG@10 integer": round(ndcg["cpu"], 4),
        "nDCG@10 float": round(ndcg["torch"], 4),
        "difference": round(ndcg["cpu"] - ndcg["torch"], 4),
        "overlap@10": round(overlap(rankings["cpu"], rankings["torch"], 10), 4),
        "largest difference of a score": round(float(difference.max()), 4),
        "mean difference of a score": round(float(difference.mean()), 4),
    }
    sys.stdout.write(json.dumps(report) + "\n")


def scored(index, queries, backend):
    """Scores `(n_queries, n_documents)` of all documents by one backend."""
    parts = []
    for segment in index.segments:
        codes = segment.codes
        tokens = CodedTokens(
            index.codec.table, codes["residuals"], segment.offsets, codes.get("centroid_ids"), codes.get("inverse_norms")
        )
        parts.append(kernels.maxsim_codes(queries, tokens, backend=backend))
    return np.concatenate(parts, axis=1)


if __name__ == "__main__":
    main()
