"""What an import of another engine's index gives, beside the engine itself on the same vectors and queries.

python experiments/benchmarks/importers.py VECTORS --peer /path/to/python --engine fast_plaid|stanford [--queries 100]
VECTORS: a bench folder, as prepare.py makes it. PEER: a Python with pylate and fast-plaid, in an environment of its own. Writes
one JSON line: bytes of both, seconds of the import, and, over all queries and the engine's best 100 documents, the greatest
difference between its score and MaxSim over our decoded vectors, and the overlap of its best 10 with ours by exhaustive search.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_folder import BenchFolder

from colbert_research.artifacts import folder_bytes
from colbert_research.index.importers import import_index
from colbert_research.kernels import maxsim
from colbert_research.search import STRATEGIES

PEER = """
import json, sys, numpy as np, torch
vectors, engine, out, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def split(name, lengths, k=None):
    rows, ends = np.load(f"{vectors}/{name}.npy", mmap_mode="r"), np.cumsum(np.load(f"{vectors}/{lengths}.npy"))
    starts = np.concatenate([[0], ends[:-1]])
    return [torch.from_numpy(np.asarray(rows[a:b], np.float32)) for a, b in list(zip(starts, ends))[:k]]
docs, queries = split("docs", "doclens"), split("queries", "qlens", n)
ids = [str(i) for i in range(len(docs))]
if engine == "stanford":
    from pylate.indexes.stanford_plaid import StanfordPLAID
    index = StanfordPLAID(index_folder=out, index_name="i", override=True, embedding_size=docs[0].shape[1], nbits=4)
else:
    from pylate.indexes import PLAID
    index = PLAID(index_folder=out, index_name="i", override=True, nbits=4, device="cpu")
index.add_documents(ids, docs)
json.dump([[[r["id"], float(r["score"])] for r in index([q], k=100)[0]] for q in queries], open(f"{out}/scores.json", "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--engine", choices=("fast_plaid", "stanford"), required=True)
    parser.add_argument("--queries", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [asked.peer, "-c", PEER, str(asked.vectors), asked.engine, folder, str(asked.queries)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        started = time.perf_counter()
        index = import_index(Path(folder, "i"), Path(folder, "ours"))
        seconds = time.perf_counter() - started
        scores = json.loads(Path(folder, "scores.json").read_text())
        queries = BenchFolder.open(asked.vectors).queries.slice(0, asked.queries).map(np.float32)
        found = STRATEGIES["exhaustive"]().search(index, queries, 10)
        differences, overlaps = [], []
        for number, theirs in enumerate(scores):
            ours = maxsim(queries.slice(number, number + 1), index.vectors_of([document for document, _ in theirs]))[0]
            differences.append(np.abs(ours - [score for _, score in theirs]).max())
            best = {document for document, _ in found.top(number)}
            overlaps.append(len(best & {document for document, _ in theirs[:10]}) / 10)
        line = {
            "engine": asked.engine,
            "documents": len(index),
            "tokens": index.n_tokens,
            "centroids": len(index.codec.centroids),
            "engine_mb": round(folder_bytes(Path(folder, "i")) / 1e6, 1),
            "ours_mb": round(index.nbytes()["total"] / 1e6, 1),
            "import_s": round(seconds, 2),
            "query_tokens": round(float(np.mean(queries.lengths)), 1),
            "greatest_score_difference": float(np.max(differences)),
            "overlap10": round(float(np.mean(overlaps)), 4),
        }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
